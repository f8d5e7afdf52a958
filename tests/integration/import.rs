//! `causeway users import`, with files that the other servers' own tools make: every user logs in through
//! the real server afterwards, or it was said why not.

use std::{
    fmt::Write as _,
    fs,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::harness::{PASSWORD, Raw, Server, Store, run_to_end, run_with_input, until};

const LIMIT: Duration = Duration::from_mins(1);

/// A program of a Debian package that `tests/lab/prepare.sh` installs, or unpacks where its package
/// would start a server.
fn tool(name: &str) -> Command {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.clients/passwords");
    let found = ["usr/bin", "usr/sbin"]
        .map(|folder| unpacked.join(folder).join(name))
        .into_iter()
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| PathBuf::from(name)))
}

/// Runs a tool to its good end; what it printed.
#[track_caller]
fn run(command: &mut Command, input: &str) -> String {
    let mut scratch = tempfile::tempfile().unwrap();
    scratch.write_all(input.as_bytes()).unwrap();
    scratch.rewind().unwrap();
    let mut owned = Command::new(command.get_program());
    owned.args(command.get_args());
    let (status, stdout, stderr) = run_with_input(owned, Stdio::from(scratch), LIMIT);
    assert!(status.success(), "{command:?}: {stderr}");
    stdout
}

/// The hash that whois' mkpasswd makes.
fn mkpasswd(method: &str) -> String {
    let hash = run(tool("mkpasswd").args(["-s", "-m", method]), PASSWORD);
    hash.trim().to_owned()
}

struct Imported {
    users: String,
    remarks: String,
}

#[track_caller]
fn import(format: &str, file: &Path) -> Imported {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args([
        "users",
        "import",
        "--homes-below",
        "/srv/ftp",
        "--from",
        format,
    ]);
    command.arg(file);
    let (status, users, remarks) = run_to_end(command, LIMIT);
    assert!(status.success(), "{format}: {remarks}");
    assert!(!remarks.contains(PASSWORD), "{remarks}");
    Imported { users, remarks }
}

/// Apache: every kind that its htpasswd makes.
fn htpasswd(directory: &Path) -> Imported {
    let file = directory.join("htpasswd");
    fs::write(&file, "# the web server's\n").unwrap();
    for flag in ["B", "m", "2", "5", "s", "d"] {
        let name = format!("web-{flag}");
        run(
            tool("htpasswd")
                .args(["-i", &format!("-{flag}")])
                .arg(&file)
                .arg(name),
            PASSWORD,
        );
    }
    import("htpasswd", &file)
}

/// passwd and shadow, and `pam_userdb`'s text, with what crypt(3) of this system makes.
fn system(directory: &Path, format: &str) -> Imported {
    let mut text = String::new();
    for method in [
        "sha-512",
        "sha-256",
        "md5crypt",
        "yescrypt",
        "bcrypt",
        "descrypt",
        "gost-yescrypt",
        "scrypt",
    ] {
        let (name, hash) = (format!("{format}-{method}"), mkpasswd(method));
        match format {
            "passwd" => writeln!(
                text,
                "{name}:{hash}:1000:1000:A Name:/srv/ftp/{name}:/bin/sh"
            ),
            "shadow" => writeln!(text, "{name}:{hash}:19000:0:99999:7:::"),
            _ => writeln!(text, "{name}\n{hash}"),
        }
        .unwrap();
    }
    match format {
        "shadow" => writeln!(
            text,
            "shadow-locked:!{}:19000:0:99999:7:::",
            mkpasswd("sha-512")
        ),
        "vsftpd" => writeln!(text, "vsftpd-clear\n{PASSWORD}"),
        _ => writeln!(text, "root:x:0:0:root:/root:/bin/sh"),
    }
    .unwrap();
    let file = directory.join(format);
    fs::write(&file, text).unwrap();
    import(format, &file)
}

/// `ProFTPD`'s `AuthUserFile`.
fn proftpd(directory: &Path) -> Imported {
    let file = directory.join("ftpd.passwd");
    let home = directory.join("home");
    fs::create_dir(&home).unwrap();
    let home = home.display().to_string();
    for hash in ["--sha256", "--sha512", "--md5"] {
        let name = format!("--name=pro{hash}");
        let mut command = tool("ftpasswd");
        command.args([
            "--passwd",
            "--stdin",
            "--uid=1001",
            "--gid=1001",
            "--shell=/bin/false",
        ]);
        command.args([hash, &name, &format!("--home={home}")]);
        run(command.arg(format!("--file={}", file.display())), PASSWORD);
    }
    let mut command = tool("ftpasswd");
    command.args(["--passwd", "--lock", "--name=pro--md5"]);
    run(command.arg(format!("--file={}", file.display())), "");
    import("proftpd", &file)
}

/// Pure-FTPd's own file, with limits, a quota and networks.
fn puredb(directory: &Path) -> Imported {
    let file = directory.join("pureftpd.passwd");
    for (name, more) in [
        ("pure-plain", &[][..]),
        (
            "pure-bound",
            &[
                "-N",
                "100",
                "-n",
                "500",
                "-y",
                "1",
                "-t",
                "100",
                "-T",
                "200",
                "-r",
                "127.0.0.0/8",
            ],
        ),
        ("pure-far", &["-r", "192.0.2.0/24"]),
    ] {
        let mut command = tool("pure-pw");
        command.args(["useradd", name, "-u", "1001", "-g", "1001", "-d"]);
        command.arg(format!("/srv/ftp/{name}")).args(more);
        let twice = format!("{PASSWORD}\n{PASSWORD}\n");
        run(command.arg("-f").arg(&file), &twice);
    }
    import("puredb", &file)
}

#[test]
fn users_of_other_servers_log_in_with_their_passwords() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let imported = [
        htpasswd(path),
        system(path, "passwd"),
        system(path, "shadow"),
        system(path, "vsftpd"),
        proftpd(path),
        puredb(path),
    ];
    let store = Store::local();
    let server = Server::with(&store)
        .set("/listeners/0/clear_text", "allow")
        .set("/limits/login_delay_milliseconds", 0)
        .set("/limits/login_failures_per_connection", 100)
        .start();
    let mut users = "users:\n".to_owned();
    for Imported { users: more, .. } in &imported {
        users += more.strip_prefix("users:\n").expect("somebody is imported");
    }
    fs::write(server.directory().join("users.yaml"), &users).unwrap();
    server.api("POST", "/reload", "", 200);

    let log_in = |user: &str, password: &str| {
        let mut raw = Raw::clear(server.explicit);
        raw.expect(&format!("USER {user}"), 331);
        let code = raw.command(&format!("PASS {password}")).code;
        (code, raw)
    };
    let crypts = ["sha-512", "sha-256", "md5crypt", "yescrypt", "bcrypt"];
    let of_system = ["passwd", "shadow", "vsftpd"]
        .iter()
        .flat_map(|format| crypts.map(|method| format!("{format}-{method}")));
    let others = [
        "web-B",
        "web-m",
        "web-2",
        "web-5",
        "vsftpd-clear",
        "pro--sha256",
        "pro--sha512",
        "pure-plain",
        "pure-bound",
    ];
    let mut count = 0;
    for user in of_system.chain(others.map(str::to_owned)) {
        assert_eq!(log_in(&user, "wrong").0, 530, "{user}");
        let (code, mut raw) = log_in(&user, PASSWORD);
        assert_eq!(code, 230, "{user}");
        raw.store("STOR file", user.as_bytes());
        count += 1;
    }
    println!("{count} imported users logged in");
    for user in [
        "shadow-locked",
        "pro--md5",
        "pure-far",
        "web-d",
        "web-s",
        "root",
    ] {
        assert_eq!(log_in(user, PASSWORD).0, 530, "{user}");
    }
    // One session and a quota in files and bytes, as pure-pw was told.
    let _one = until(LIMIT, "its last session has ended", || {
        match log_in("pure-bound", PASSWORD) {
            (230, raw) => Ok(raw),
            (code, _) => Err(code.to_string()),
        }
    });
    assert_eq!(log_in("pure-bound", PASSWORD).0, 421);

    // What is not taken is named with its reason.
    let remarks: String = imported.iter().map(|one| one.remarks.as_str()).collect();
    for (user, reason) in [
        ("web-s", "SHA-1"),
        ("web-d", "DES"),
        ("passwd-descrypt", "DES"),
        ("shadow-gost-yescrypt", "a hash of the kind gy"),
        ("vsftpd-scrypt", "$7$"),
        ("root", "--from shadow"),
    ] {
        let named = format!("{user:?}");
        let said = remarks
            .lines()
            .any(|line| line.contains(&named) && line.contains(reason));
        assert!(said, "{user}: {reason}\n{remarks}");
    }
    for limit in [
        "sessions: 1",
        "files: 500",
        "bytes: 104857600",
        "127.0.0.0/8",
    ] {
        assert!(users.contains(limit), "{limit}\n{users}");
    }
}
