//! Tables and properties of the command parser.

use proptest::prelude::*;

use super::*;
use crate::store::listing::parse_time;

fn ok(line: &str) -> Command {
    parse(line.as_bytes()).unwrap_or_else(|rejection| panic!("{line:?}: {rejection:?}"))
}

fn code(line: impl AsRef<[u8]>) -> u16 {
    match parse(line.as_ref()) {
        Err(Rejection::Answer(reply)) => reply.code(),
        other => panic!("{:?} is no answer: {other:?}", line.as_ref()),
    }
}

fn s(text: &str) -> String {
    text.to_owned()
}

fn time(digits: &str) -> SystemTime {
    parse_time(digits).unwrap()
}

#[test]
fn verbs_without_argument_ignore_one() {
    for (verb, command) in [
        ("ACCT", Command::Acct),
        ("CCC", Command::Ccc),
        ("SYST", Command::Syst),
        ("NOOP", Command::Noop),
        ("QUIT", Command::Quit),
        ("ABOR", Command::Abor),
        ("PASV", Command::Pasv),
        ("PWD", Command::Pwd),
        ("XPWD", Command::Pwd),
        ("CDUP", Command::Cdup),
        ("XCUP", Command::Cdup),
    ] {
        for line in [
            s(verb),
            format!("{verb}\r"),
            format!("{verb} "),
            format!("{verb} foo"),
            verb.to_lowercase(),
        ] {
            assert_eq!(ok(&line), command, "{line:?}");
        }
    }
    assert_eq!(ok("FEAT "), Command::Feat);
    assert_eq!(code("FEAT x"), 501);
}

#[test]
fn paths_are_everything_behind_the_first_space() {
    let path = " a  b;\"*%2e\\ ";
    for (verb, command) in [
        ("CWD", Command::Cwd as fn(String) -> Command),
        ("XCWD", Command::Cwd),
        ("MKD", Command::Mkd),
        ("XMKD", Command::Mkd),
        ("RMD", Command::Rmd),
        ("XRMD", Command::Rmd),
        ("DELE", Command::Dele),
        ("RNFR", Command::Rnfr),
        ("RNTO", Command::Rnto),
        ("SIZE", Command::Size),
        ("MDTM", Command::Mdtm),
        ("RETR", Command::Retr),
        ("STOR", Command::Stor),
        ("APPE", Command::Appe),
        ("HASH", Command::Hash),
        ("USER", Command::User),
        ("CLNT", Command::Clnt),
    ] {
        assert_eq!(ok(&format!("{verb} {path}\r")), command(s(path)));
        assert_eq!(ok(&format!("{} x", verb.to_lowercase())), command(s("x")));
        assert_eq!(code(verb), 501, "{verb}");
        assert_eq!(code(format!("{verb} ")), 501, "{verb}");
    }
    for (verb, command) in [
        ("MLST", Command::Mlst as fn(Option<String>) -> Command),
        ("MLSD", Command::Mlsd),
        ("STOU", Command::Stou),
        ("AVBL", Command::Avbl),
        ("STAT", Command::Stat),
    ] {
        assert_eq!(ok(&format!("{verb} {path}\r")), command(Some(s(path))));
        assert_eq!(ok(verb), command(None));
        assert_eq!(ok(&format!("{verb} ")), command(None));
    }
}

#[test]
fn passwords_are_verbatim_and_never_shown() {
    for (line, password) in [
        ("PASS", ""),
        ("PASS ", ""),
        ("PASS  a \"%-", " a \"%-"),
        ("pass p\u{e4}ss", "p\u{e4}ss"),
    ] {
        let command = ok(line);
        assert_eq!(command, Command::Pass(Password::new(password)), "{line:?}");
        assert_eq!(format!("{command:?}"), "Pass(***)");
    }
    assert_eq!(Password::new("x").expose(), "x");
}

#[test]
fn keywords_have_no_case() {
    for (line, command) in [
        ("tYpE i", Command::Type(TransferType::Image)),
        ("TYPE A", Command::Type(TransferType::Ascii)),
        ("TYPE a n ", Command::Type(TransferType::Ascii)),
        ("TYPE L 8", Command::Type(TransferType::Image)),
        ("mode s", Command::Mode),
        ("stru f", Command::Stru),
        ("prot p", Command::Prot(ProtLevel::Private)),
        ("PROT C", Command::Prot(ProtLevel::Clear)),
        ("PROT S", Command::Prot(ProtLevel::Safe)),
        ("PROT E", Command::Prot(ProtLevel::Confidential)),
        ("auth tls", Command::Auth(AuthMechanism::Tls)),
        ("AUTH TLS-C", Command::Auth(AuthMechanism::TlsC)),
        ("AUTH TLS-P", Command::Auth(AuthMechanism::TlsP)),
        ("AUTH SSL", Command::Auth(AuthMechanism::Ssl)),
        ("AUTH GSSAPI", Command::Auth(AuthMechanism::Unsupported)),
        ("PBSZ 0", Command::Pbsz(0)),
        ("PBSZ 1024", Command::Pbsz(1024)),
        ("opts utf8 on", Command::Opts(Opt::Utf8On)),
        ("OPTS UTF8", Command::Opts(Opt::Utf8On)),
        ("Opts Utf8 Off", Command::Opts(Opt::Utf8Off)),
        (
            "OPTS MLST Size;type;foo;",
            Command::Opts(Opt::Mlst(Facts::parse("type;size;"))),
        ),
        ("OPTS MLST", Command::Opts(Opt::Mlst(Facts::none()))),
        ("OPTS MLST ", Command::Opts(Opt::Mlst(Facts::none()))),
        ("OPTS HASH", Command::Opts(Opt::Hash(None))),
        (
            "opts hash sha-1",
            Command::Opts(Opt::Hash(Some(ChecksumAlgorithm::Sha1))),
        ),
        ("HELP", Command::Help(None)),
        ("HELP stor", Command::Help(Some(s("STOR")))),
        ("REST 0", Command::Rest(0)),
        ("REST 18446744073709551615", Command::Rest(u64::MAX)),
        ("ALLO 5", Command::Allo(5)),
        ("ALLO 5 R 100", Command::Allo(5)),
        ("EPSV", Command::Epsv(EpsvArgument::None)),
        ("EPSV ", Command::Epsv(EpsvArgument::None)),
        ("EPSV 1", Command::Epsv(EpsvArgument::Ipv4)),
        ("EPSV 2", Command::Epsv(EpsvArgument::Ipv6)),
        ("EPSV 3", Command::Epsv(EpsvArgument::OtherProtocol)),
        ("epsv all", Command::Epsv(EpsvArgument::All)),
        ("HOST FTP.Example", Command::Host(s("ftp.example"))),
        ("HOST [2001:db8::1]", Command::Host(s("[2001:db8::1]"))),
        ("RANG 0 99", Command::Rang { first: 0, last: 99 }),
    ] {
        assert_eq!(ok(line), command, "{line:?}");
    }
}

#[test]
fn rejections_carry_the_right_code() {
    for (line, expected) in [
        ("FOO", 500),
        ("GET", 500),
        (" ", 500),
        (" NOOP", 500),
        ("NOOP\tx", 500),
        ("\u{e9}\u{e9}", 500),
        ("USER", 501),
        ("AUTH", 501),
        ("PBSZ", 501),
        ("PBSZ x", 501),
        ("PROT", 501),
        ("PROT X", 504),
        ("TYPE", 501),
        ("TYPE L", 501),
        ("TYPE E", 504),
        ("TYPE X", 504),
        ("TYPE L 7", 504),
        ("TYPE A T", 504),
        ("MODE", 501),
        ("MODE Z", 504),
        ("MODE B", 504),
        ("STRU R", 504),
        ("STRU P", 504),
        ("OPTS", 501),
        ("OPTS FOO", 501),
        ("OPTS HASH WHIRLPOOL", 501),
        ("OPTS REST STOR", 501),
        ("OPTS UTF-8 NLST", 501),
        ("OPTS UTF8 MAYBE", 501),
        ("REST", 501),
        ("REST abc", 501),
        ("REST -1", 501),
        ("REST +1", 501),
        ("REST 99999999999999999999", 501),
        ("ALLO", 501),
        ("ALLO 5 R", 501),
        ("EPSV x", 501),
        ("HOST", 501),
        ("HOST ftp.example:21", 501),
        ("HOST [::1", 501),
        ("HOST a b", 501),
        ("SITE", 501),
        ("ADAT x", 503),
        ("MIC x", 533),
        ("CONF x", 533),
        ("ENC x", 533),
        ("PORT 1,2,3,4,5,6", 502),
        ("EPRT |1|1.2.3.4|5|", 502),
        ("LPRT x", 502),
        ("SMNT /", 502),
        ("REIN", 502),
        ("CPSV", 502),
        ("SSCN ON", 502),
        ("PRET LIST", 502),
        ("LANG en", 502),
        ("MFCT 20200101000000 x", 502),
        ("CSID Name=x;", 502),
        ("MFMT 20200101000000", 501),
        ("MFMT 20201301000000 x", 501),
        ("MFMT yesterday x", 501),
        ("MFF x", 501),
        ("MFF x y", 501),
        ("XCRC", 501),
        ("XCRC \"a\" 1 x", 501),
        ("RANG 1", 501),
    ] {
        assert_eq!(code(line), expected, "{line:?}");
    }
}

#[test]
fn bytes_that_are_no_line_are_refused() {
    assert_eq!(parse(b""), Err(Rejection::Ignore));
    assert_eq!(parse(b"\r"), Err(Rejection::Ignore));
    assert_eq!(parse(b"\xff\xf1\r"), Err(Rejection::Ignore));
    for line in [
        &b"RETR a\0b"[..],
        b"RETR a\rb\r",
        b"RETR a\r\r",
        b"RETR a\r\0",
        b"RETR \xe9",
        b"RETR a\xff\xffb",
        b"\xc0\xaf",
    ] {
        assert_eq!(code(line), 501, "{line:?}");
    }
    assert_eq!(parse(b"\xff\xf4\xff\xf2ABOR\r"), Ok(Command::Abor));
    assert_eq!(parse(b"\xff\xf4\xffABOR\r"), Ok(Command::Abor));
}

#[test]
fn http_is_told_from_ftp() {
    for line in [
        "GET / HTTP/1.1\r",
        "POST /",
        "PRI * HTTP/2.0",
        "Host: x",
        "host:x",
        "X-A: b",
        "OPTIONS *",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Rejection::Http), "{line:?}");
    }
    assert_eq!(code("get x"), 500);
    assert_eq!(code(": x"), 500);
    assert_eq!(ok("OPTS UTF8"), Command::Opts(Opt::Utf8On));
}

#[test]
fn replies_never_reflect_the_line() {
    for line in [
        "<script>",
        "<script> x",
        "TYPE <script>",
        "OPTS <script>",
        "HOST <script>",
        "PORT <script>",
    ] {
        let Err(Rejection::Answer(reply)) = parse(line.as_bytes()) else {
            panic!("{line:?}")
        };
        assert!(!reply.text().contains("script"), "{reply:?}");
    }
}

#[test]
fn option_words_are_dropped() {
    for (argument, path) in [
        ("", None),
        (" ", None),
        (" -a", None),
        (" -la", None),
        (" -a ", None),
        (" -al dir", Some("dir")),
        (" -l -a dir -x", Some("dir -x")),
        (" -a  dir", Some(" dir")),
        (" -- -x", Some("-x")),
        (" -a -- -x", Some("-x")),
        (" --", None),
        (" -", Some("-")),
        (" - x", Some("- x")),
        (" -a -", Some("-")),
        (" *.txt", Some("*.txt")),
        (" a b ", Some("a b ")),
    ] {
        let path = path.map(str::to_owned);
        assert_eq!(
            ok(&format!("LIST{argument}")),
            Command::List {
                path: path.clone(),
                recursive: false,
            },
            "{argument:?}"
        );
        assert_eq!(
            ok(&format!("NLST{argument}")),
            Command::Nlst { path: path.clone() },
            "{argument:?}"
        );
        assert_eq!(
            ok(&format!("STAT{argument}")),
            Command::Stat(path),
            "{argument:?}"
        );
    }
    for (line, path) in [
        ("LIST -R", None),
        ("LIST -alR dir", Some("dir")),
        ("LIST -a -R -- -x", Some("-x")),
        ("list -R R", Some("R")),
    ] {
        let path = path.map(str::to_owned);
        let recursive = true;
        assert_eq!(ok(line), Command::List { path, recursive }, "{line}");
    }
    for line in ["LIST -- -R", "LIST R", "LIST -r"] {
        let Command::List { recursive, .. } = ok(line) else {
            panic!("{line} is no LIST");
        };
        assert!(!recursive, "{line}");
    }
    let long = format!("LIST -{}", "a".repeat(65536));
    assert_eq!(
        ok(&long),
        Command::List {
            path: None,
            recursive: false
        }
    );
}

#[test]
fn times_are_read_where_a_time_belongs() {
    let t = "20200102030405";
    let set = |whole: &str, path: &str, at: &str| Command::MdtmSet {
        time: time(at),
        path: s(path),
        whole: s(whole),
    };
    for (line, command) in [
        (format!("MDTM {t} a b"), set(&format!("{t} a b"), "a b", t)),
        (
            format!("MDTM {t}.5 a"),
            set(&format!("{t}.5 a"), "a", "20200102030405.5"),
        ),
        (format!("MDTM {t}"), Command::Mdtm(s(t))),
        (format!("MDTM {t} "), Command::Mdtm(format!("{t} "))),
        (
            s("MDTM 20209902030405 a"),
            Command::Mdtm(s("20209902030405 a")),
        ),
        (s("MDTM 2020 a"), Command::Mdtm(s("2020 a"))),
        (
            format!("MFMT {t}  a"),
            Command::Mfmt {
                time: time(t),
                path: s(" a"),
            },
        ),
        (
            format!("MFF Modify={t};UNIX.mode=0644; a b"),
            Command::Mff {
                facts: vec![(s("modify"), s(t)), (s("unix.mode"), s("0644"))],
                path: s("a b"),
            },
        ),
    ] {
        assert_eq!(ok(&line), command, "{line:?}");
    }
}

#[test]
fn site_knows_four_words() {
    let utime = |digits: &str, path: &str| SiteCommand::Utime {
        modified: time(digits),
        path: s(path),
    };
    for (line, command) in [
        ("SITE HELP", SiteCommand::Help),
        (
            "site chmod 644 a b",
            SiteCommand::Chmod {
                mode: 0o644,
                path: s("a b"),
            },
        ),
        (
            "SITE CHMOD 0755 x",
            SiteCommand::Chmod {
                mode: 0o755,
                path: s("x"),
            },
        ),
        ("SITE IDLE", SiteCommand::Idle(None)),
        ("SITE IDLE 60", SiteCommand::Idle(Some(60))),
        (
            "SITE UTIME 202001020304 a b",
            utime("20200102030400", "a b"),
        ),
        ("SITE UTIME 20200102030405 a", utime("20200102030405", "a")),
        (
            "SITE UTIME a b 20200101000000 20200102030405 20200103000000 UTC",
            utime("20200102030405", "a b"),
        ),
        ("SITE EXEC ls", SiteCommand::Unknown),
        ("SITE CPFR a", SiteCommand::Unknown),
        ("SITE SYMLINK a b", SiteCommand::Unknown),
        ("SITE WHO", SiteCommand::Unknown),
    ] {
        assert_eq!(ok(line), Command::Site(command), "{line:?}");
    }
    for line in [
        "SITE CHMOD",
        "SITE CHMOD 644",
        "SITE CHMOD 999 x",
        "SITE CHMOD +644 x",
        "SITE CHMOD 00644 x",
        "SITE CHMOD u+x x",
        "SITE UTIME",
        "SITE UTIME a",
        "SITE UTIME 2020 a",
        "SITE IDLE x",
    ] {
        assert_eq!(code(line), 501, "{line:?}");
    }
}

#[test]
fn checksums_take_ranges_behind_quotes() {
    let sum = |path: &str, range| Command::Checksum {
        algorithm: ChecksumAlgorithm::Crc32,
        path: s(path),
        range,
    };
    let range = |start, end| Some(ChecksumRange { start, end });
    for (argument, path, expected) in [
        ("a b", "a b", None),
        ("a 0 10", "a 0 10", None),
        ("\"a b\"", "a b", None),
        ("\"a\"\"b\" 5", "a\"b", range(5, None)),
        ("\"/a b\" 0 100", "/a b", range(0, Some(100))),
        ("\"a", "\"a", None),
        ("\"", "\"", None),
        ("\"\"", "\"\"", None),
        ("\"a\"b", "\"a\"b", None),
    ] {
        assert_eq!(
            ok(&format!("XCRC {argument}")),
            sum(path, expected),
            "{argument:?}"
        );
    }
    for verb in ["XCRC", "XMD5", "MD5", "XSHA1", "XSHA256", "XSHA512"] {
        assert_eq!(ok(&format!("{verb} x")).verb(), verb);
    }
}

#[test]
fn what_is_answered_before_login() {
    for line in [
        "USER x",
        "PASS x",
        "ACCT x",
        "AUTH TLS",
        "PBSZ 0",
        "PROT P",
        "CCC",
        "FEAT",
        "OPTS UTF8",
        "HOST x",
        "CLNT x",
        "SYST",
        "NOOP",
        "HELP",
        "QUIT",
    ] {
        assert!(ok(line).allowed_before_login(), "{line}");
    }
    for line in [
        "PWD",
        "CWD x",
        "PASV",
        "EPSV",
        "LIST",
        "STOR x",
        "RETR x",
        "STAT",
        "SITE HELP",
        "REST 0",
        "TYPE I",
        "ABOR",
        "HASH x",
        "XMKD x",
        "SIZE x",
        "MFMT 20200101000000 x",
    ] {
        assert!(!ok(line).allowed_before_login(), "{line}");
    }
}

#[test]
fn pending_markers_survive_only_harmless_commands() {
    for (line, restart, rename) in [
        ("REST 3", MarkerEffect::Keep, MarkerEffect::Clear),
        ("PASV", MarkerEffect::Keep, MarkerEffect::Clear),
        ("EPSV", MarkerEffect::Keep, MarkerEffect::Clear),
        ("TYPE I", MarkerEffect::Keep, MarkerEffect::Clear),
        ("SIZE x", MarkerEffect::Keep, MarkerEffect::Clear),
        ("MDTM x", MarkerEffect::Keep, MarkerEffect::Clear),
        ("ALLO 1", MarkerEffect::Keep, MarkerEffect::Clear),
        ("NOOP", MarkerEffect::Keep, MarkerEffect::Clear),
        ("RNFR x", MarkerEffect::Clear, MarkerEffect::Keep),
        ("RNTO x", MarkerEffect::Clear, MarkerEffect::Take),
        ("RETR x", MarkerEffect::Take, MarkerEffect::Clear),
        ("STOR x", MarkerEffect::Take, MarkerEffect::Clear),
        ("APPE x", MarkerEffect::Take, MarkerEffect::Clear),
        ("PWD", MarkerEffect::Clear, MarkerEffect::Clear),
        ("LIST", MarkerEffect::Clear, MarkerEffect::Clear),
        ("ABOR", MarkerEffect::Clear, MarkerEffect::Clear),
    ] {
        assert_eq!(ok(line).restart_marker(), restart, "{line}");
        assert_eq!(ok(line).rename_source(), rename, "{line}");
    }
    assert!(ok("MLSD").is_transfer() && ok("STOU").is_transfer());
    assert!(!ok("MLST").is_transfer() && !ok("SIZE x").is_transfer());
}

fn verbs() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "USER",
        "PASS",
        "ACCT",
        "AUTH",
        "PBSZ",
        "PROT",
        "CCC",
        "FEAT",
        "OPTS",
        "OPTS MLST",
        "HOST",
        "CLNT",
        "TYPE",
        "MODE",
        "STRU",
        "SYST",
        "NOOP",
        "HELP",
        "STAT",
        "QUIT",
        "ABOR",
        "REST",
        "ALLO",
        "PASV",
        "EPSV",
        "CWD",
        "CDUP",
        "PWD",
        "MKD",
        "RMD",
        "DELE",
        "RNFR",
        "RNTO",
        "SIZE",
        "MDTM",
        "MFMT",
        "MFF",
        "MLST",
        "MLSD",
        "LIST",
        "NLST",
        "RETR",
        "STOR",
        "APPE",
        "STOU",
        "SITE",
        "SITE CHMOD",
        "SITE UTIME",
        "SITE IDLE",
        "HASH",
        "XCRC",
        "AVBL",
        "RANG",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn random_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&line);
    }

    #[test]
    fn random_arguments_never_panic(verb in verbs(), argument in "[-0-9A-Za-z \"=;.\\[\\]:é]{0,40}|.*") {
        let _ = parse(format!("{verb} {argument}").as_bytes());
        let _ = parse(format!("{verb}{argument}").as_bytes());
    }

    #[test]
    fn case_of_the_verb_means_nothing(verb in verbs(), argument in "[a-z0-9 ]{0,12}") {
        let upper = parse(format!("{verb} {argument}").as_bytes());
        let lower = parse(format!("{} {argument}", verb.to_lowercase()).as_bytes());
        prop_assert_eq!(upper, lower);
    }

    #[test]
    fn names_arrive_as_they_were_sent(name in "[^\0\r\n]{1,40}") {
        prop_assert_eq!(parse(format!("STOR {name}\r").as_bytes()), Ok(Command::Stor(name)));
    }

    #[test]
    fn answers_are_negative_and_the_verb_is_bounded(line in prop::collection::vec(any::<u8>(), 0..60)) {
        match parse(&line) {
            Err(Rejection::Answer(reply)) => prop_assert!((500..=599).contains(&reply.code())),
            Ok(command) => prop_assert!(command.verb().len() <= 7),
            Err(Rejection::Ignore | Rejection::Http) => {}
        }
    }

    #[test]
    fn no_command_holds_a_line_end(verb in verbs(), argument in "[a-z\0\r é\"]{0,12}") {
        if let Ok(command) = parse(format!("{verb} {argument}").as_bytes()) {
            let shown = format!("{command:?}");
            prop_assert!(!shown.contains("\\r") && !shown.contains("\\0"), "{}", shown);
        }
    }
}
