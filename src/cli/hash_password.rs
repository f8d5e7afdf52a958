//! `causeway hash-password`: the only way to make a hash for the users file.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail};

use super::Failure;
use crate::auth::password::Hash;

/// More than any client sends in a PASS command.
const LINE_BYTES: u64 = 4096;

pub(super) fn run() -> Result<(), Failure> {
    let password = if io::stdin().is_terminal() {
        ask()
    } else {
        read_line()
    }?;
    let hash = Hash::make(&password).map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?;
    writeln!(io::stdout(), "{hash}")?;
    Ok(())
}

/// Asks twice without echo: a typing error would lock the user out.
fn ask() -> anyhow::Result<String> {
    let password = rpassword::prompt_password("Password: ").context("cannot read the password")?;
    if rpassword::prompt_password("Again: ").context("cannot read the password")? != password {
        bail!("the two passwords differ");
    }
    usable(password)
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    let mut input = io::stdin().lock().take(LINE_BYTES);
    input
        .read_line(&mut line)
        .context("cannot read the password from standard input")?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    usable(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn usable(password: String) -> anyhow::Result<String> {
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.chars().any(char::is_control) {
        bail!("the password holds a control character, which no FTP command can carry");
    }
    Ok(password)
}
