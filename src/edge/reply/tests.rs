//! Tables and properties of replies, rendered and parsed.

use proptest::prelude::*;

use super::*;

fn parse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Reply>, ReplyError> {
    let mut parser = ReplyParser::new();
    let mut replies = Vec::new();
    for mut chunk in chunks {
        while let Some(reply) = parser.next(&mut chunk)? {
            replies.push(reply);
        }
    }
    Ok(replies)
}

fn rendered(reply: &Reply) -> String {
    String::from_utf8(reply.render()).unwrap()
}

#[test]
fn replies_render_as_rfc_959_says() {
    assert_eq!(rendered(&Reply::new(200, "NOOP ok")), "200 NOOP ok\r\n");
    assert_eq!(
        rendered(&Reply::multi_line(
            211,
            ["Features:", "UTF8", "211 x", ""],
            "End"
        )),
        "211-Features:\r\n UTF8\r\n 211 x\r\n \r\n211 End\r\n"
    );
    assert_eq!(
        rendered(&Reply::multi_line(214, [] as [&str; 0], "Help")),
        "214 Help\r\n"
    );
    assert_eq!(rendered(&Reply::new(12, "x")), "451 x\r\n");
}

#[test]
fn text_cannot_end_a_line() {
    assert_eq!(
        rendered(&Reply::new(550, "a\r\n226 \0ok\x1b[0m\u{85}\u{e9}")),
        "550 a\\r\\n226 \\u{0}ok\\u{1b}[0m\\u{85}\u{e9}\r\n"
    );
    assert_eq!(
        rendered(&Reply::multi_line(211, ["a\n211 b"], "c\n")),
        "211-a\\n211 b\r\n211 c\\n\r\n"
    );
}

#[test]
fn quotes_are_doubled() {
    assert_eq!(quote("/"), "\"/\"");
    assert_eq!(quote("/a\"b\"\"c"), "\"/a\"\"b\"\"\"\"c\"");
}

#[test]
fn codes_say_what_follows() {
    assert!(Reply::new(150, "").is_preliminary() && Reply::new(150, "").is_positive());
    assert!(!Reply::new(350, "").is_preliminary() && Reply::new(350, "").is_positive());
    assert!(!Reply::new(421, "").is_positive());
    assert_eq!(
        Reply::multi_line(550, ["a"], "b").with_text("c"),
        Reply::new(550, "c")
    );
}

#[test]
fn engine_replies_are_read() {
    for (bytes, expected) in [
        ("220 hello\r\n", vec![Reply::new(220, "hello")]),
        ("226\r\n", vec![Reply::new(226, "")]),
        ("226 \r\n", vec![Reply::new(226, "")]),
        (
            "150 a\r\n226 b\r\n",
            vec![Reply::new(150, "a"), Reply::new(226, "b")],
        ),
        (
            "214-Usage: foo\r\n\r\n12 indented by nobody\r\n 214 x\r\n215 y\r\n214-z\r\n214 Options:\r\n",
            vec![Reply::multi_line(
                214,
                [
                    "Usage: foo",
                    "",
                    "12 indented by nobody",
                    "214 x",
                    "215 y",
                    "214-z",
                ],
                "Options:",
            )],
        ),
        (
            "211-\r\n  two spaces\r\n211 \r\n",
            vec![Reply::multi_line(211, ["", " two spaces"], "")],
        ),
        ("220-no end\r\n", vec![]),
        ("220 no end", vec![]),
    ] {
        assert_eq!(parse([bytes.as_bytes()]), Ok(expected.clone()), "{bytes:?}");
        assert_eq!(
            parse(bytes.as_bytes().chunks(1)),
            Ok(expected),
            "{bytes:?} byte by byte"
        );
    }
}

#[test]
fn garbage_is_a_typed_error() {
    for (bytes, expected) in [
        (&b"hello\r\n"[..], ReplyError::NoReply),
        (b"\r\n", ReplyError::NoReply),
        (b"22\r\n", ReplyError::NoReply),
        (b"099 x\r\n", ReplyError::NoReply),
        (b"600 x\r\n", ReplyError::NoReply),
        (b"+20 x\r\n", ReplyError::NoReply),
        (b"220x\r\n", ReplyError::NoReply),
        (b"22\xc3\xa9 x\r\n", ReplyError::NoReply),
        (b"220 \xff\r\n", ReplyError::NotUtf8),
    ] {
        assert_eq!(parse([bytes]), Err(expected), "{bytes:?}");
    }
    let mut endless = b"220-".to_vec();
    endless.resize(ReplyParser::REPLY_BYTES + 1, b'x');
    assert_eq!(parse([&endless[..]]), Err(ReplyError::TooLong));
    let many = b"220-a\r\n".repeat(ReplyParser::REPLY_BYTES);
    assert_eq!(parse(many.chunks(512)), Err(ReplyError::TooLong));
}

#[test]
fn a_reply_cut_short_is_noticed() {
    let mut parser = ReplyParser::new();
    assert!(!parser.is_inside_reply());
    assert_eq!(parser.next(&mut &b"220-a\r\n"[..]), Ok(None));
    assert!(parser.is_inside_reply());
    assert!(parser.next(&mut &b"220 b\r\n"[..]).unwrap().is_some());
    assert!(!parser.is_inside_reply());
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let line = "[ -~é\r\n\0]{0,30}|211[- ].{0,9}|.{0,20}";
    (100u16..600, prop::collection::vec(line, 0..6), line)
        .prop_map(|(code, head, last)| Reply::multi_line(code, head, last))
}

proptest! {
    #[test]
    fn parsing_what_was_rendered_is_the_identity(
        replies in prop::collection::vec(any_reply(), 0..5),
        size in 1usize..40,
    ) {
        let bytes: Vec<u8> = replies.iter().flat_map(Reply::render).collect();
        prop_assert_eq!(parse(bytes.chunks(size)), Ok(replies));
    }

    #[test]
    fn rendered_lines_are_as_many_as_given_and_only_the_last_ends(reply in any_reply()) {
        let text = rendered(&reply);
        let lines: Vec<_> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
        prop_assert_eq!(lines.len(), reply.lines().count());
        prop_assert!(!text.replace("\r\n", "").chars().any(char::is_control));
        let end = format!("{} ", reply.code());
        prop_assert_eq!(lines.iter().filter(|line| line.starts_with(&end)).count(), 1);
        prop_assert!(lines.last().unwrap().starts_with(&end));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..40) {
        // Neither outcome is wrong here; what must not happen is a panic or a hang.
        let _ = parse(bytes.chunks(size));
    }

    #[test]
    fn cutting_engine_bytes_changes_nothing(text in "([1-5][0-9][0-9][ -]?[a-z]{0,3}\r\n){0,8}", size in 1usize..9) {
        prop_assert_eq!(parse(text.as_bytes().chunks(size)), parse([text.as_bytes()]));
    }
}
