//! Commands to paste into a POSIX shell.

use std::{borrow::Cow, path::Path};

/// What all commands share.
pub(super) struct Commands<'a> {
    /// PEM file of the CA that clients verify the server with.
    pub(super) authority: &'a Path,
    /// Login name.
    pub(super) user: &'a str,
    /// Letters and digits.
    pub(super) password: &'a str,
}

impl Commands<'_> {
    /// Uploads `README.md` with curl; `scheme` is `ftp` (explicit) or `ftps` (implicit).
    ///
    /// The host is `localhost`, which both clients verify against the certificate's names; where it
    /// resolves to `::1` first they go on to 127.0.0.1.
    pub(super) fn curl(&self, scheme: &str, port: u16) -> String {
        let Self { user, password, .. } = self;
        let authority = self.authority.to_string_lossy();
        let authority = shell_quoted(&authority);
        format!(
            "curl --ssl-reqd --cacert {authority} --user {user}:{password} -T README.md {scheme}://localhost:{port}/"
        )
    }

    /// Uploads `README.md` with lftp.
    pub(super) fn lftp(&self, scheme: &str, port: u16) -> String {
        let Self { user, password, .. } = self;
        let authority = lftp_quoted(&self.authority.to_string_lossy());
        // cmd:fail-exit: without it lftp reports success after a failed upload.
        let script = format!(
            "set ssl:ca-file {authority}; set ftp:ssl-force true; set ftp:ssl-protect-data true; set cmd:fail-exit true; put README.md; bye"
        );
        format!(
            "lftp -e {} -u {user},{password} {scheme}://localhost:{port}",
            shell_quoted(&script)
        )
    }
}

/// `text` as one word of a POSIX shell.
fn shell_quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''")).into()
}

/// `text` as one word of lftp's own command language.
fn lftp_quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn commands(authority: &str) -> Commands<'_> {
        Commands {
            authority: Path::new(authority),
            user: "demo",
            password: "abc123",
        }
    }

    #[test]
    fn plain_paths_are_not_quoted() {
        assert_eq!(
            commands("/srv/ca.pem").curl("ftp", 2121),
            "curl --ssl-reqd --cacert /srv/ca.pem --user demo:abc123 -T README.md ftp://localhost:2121/"
        );
        assert_eq!(
            commands("/srv/ca.pem").lftp("ftps", 2990),
            "lftp -e 'set ssl:ca-file \"/srv/ca.pem\"; set ftp:ssl-force true; set ftp:ssl-protect-data true; set cmd:fail-exit true; put README.md; bye' -u demo,abc123 ftps://localhost:2990"
        );
    }

    /// Lets a real shell take the commands apart.
    #[test]
    fn odd_paths_survive_the_shell() {
        for path in [
            "/a b/ca.pem",
            "/it's/ca.pem",
            "/$HOME/`id`/ca.pem",
            "/a\"b/ca.pem",
            "/ä;x/ca",
        ] {
            let words = |command: &str| {
                let script = command.replacen("curl", "printf '%s\\n'", 1);
                let script = script.replacen("lftp", "printf '%s\\n'", 1);
                let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(words(&commands(path).curl("ftp", 1))[2], path);
            let script = &words(&commands(path).lftp("ftp", 1))[1];
            let expected = format!("set ssl:ca-file {};", lftp_quoted(path));
            assert!(script.starts_with(&expected), "{script}");
        }
    }
}
