//! `causeway users import`: users of other servers, as a users file.

mod formats;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use crate::{
    access::check_home,
    auth::{name_problem, password::Hash},
};

/// Largest file to import.
const FILE_BYTES: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the users of another server's files as a users file; what cannot be taken is listed on
    /// standard error, with the reason
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// What the files are
    #[arg(long, value_name = "FORMAT")]
    from: Format,
    /// Homes below this directory become relative to it; without it, and for others, a home is the
    /// user's name
    #[arg(long, value_name = "DIR")]
    homes_below: Option<PathBuf>,
    /// Files to read
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// The formats that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// passwd(5) with hashes in it
    Passwd,
    /// shadow(5)
    Shadow,
    /// Apache's htpasswd
    Htpasswd,
    /// The text that vsftpd's virtual users are made of: a name and a password in turns, one a line
    Vsftpd,
    /// `ProFTPD`'s `AuthUserFile`
    Proftpd,
    /// Pure-FTPd's pureftpd.passwd, which puredb is made of
    Puredb,
}

/// One line of a foreign file that is a user.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    name: String,
    /// A hash, or where the format has such, a password.
    secret: Secret,
    /// Absolute, as the other server has it.
    home: Option<String>,
    enabled: bool,
    /// More keys of a user, as YAML.
    more: Vec<String>,
    /// What of the line is not taken.
    notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Secret {
    Hash(String),
    Clear(String),
}

/// A user, or why there is none, and the number of the line.
type Line = (usize, Result<Found, (String, String)>);

/// What one run yields.
#[derive(Debug, Default)]
struct Imported {
    yaml: String,
    users: usize,
    /// One line for each thing that was not taken.
    left_out: Vec<String>,
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Import(import) = command;
    let mut imported = Imported::default();
    let mut names = BTreeSet::new();
    for file in &import.files {
        let text = read(file)?;
        let lines = formats::read(import.from, &text);
        let homes = import.homes_below.as_deref();
        take(&mut imported, &mut names, file, lines, homes)?;
    }
    write!(io::stdout(), "{}", imported.file())?;
    let mut report = String::new();
    for line in &imported.left_out {
        // Writing to a string does not fail.
        let _ = writeln!(report, "{line}");
    }
    let (users, left_out) = (imported.users, imported.left_out.len());
    let _ = writeln!(report, "{users} users taken, {left_out} remarks");
    io::stderr().write_all(report.as_bytes())?;
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", file.display());
    let length = fs::metadata(file).with_context(context)?.len();
    anyhow::ensure!(length <= FILE_BYTES, "{} is too large", file.display());
    let bytes = fs::read(file).with_context(context)?;
    // Comments of old files are in any charset; a name that is not UTF-8 is refused as a name.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Imported {
    /// The users file.
    fn file(&self) -> String {
        match self.users {
            0 => "users: []\n".to_owned(),
            _ => format!("users:{}\n", self.yaml),
        }
    }
}

/// Adds the users of one file.
fn take(
    imported: &mut Imported,
    names: &mut BTreeSet<String>,
    file: &Path,
    lines: Vec<Line>,
    homes: Option<&Path>,
) -> anyhow::Result<()> {
    for (number, found) in lines {
        let remark =
            |name: &str, text: &str| format!("{}:{number}: {name:?}: {text}", file.display());
        let found = match found {
            Ok(found) => found,
            Err((name, reason)) => {
                imported.left_out.push(remark(&name, &reason));
                continue;
            }
        };
        let name = found.name.as_str();
        let bad_name = name_problem(name)
            .or_else(|| name.contains('\u{fffd}').then_some("the name is not UTF-8"));
        if let Some(problem) = bad_name {
            imported.left_out.push(remark(name, problem));
            continue;
        }
        let hash = match &found.secret {
            Secret::Hash(hash) => match Hash::parse(hash) {
                Ok(_) => hash.clone(),
                Err(problem) => {
                    let problem = formats::explain(hash).unwrap_or(&problem).to_owned();
                    imported.left_out.push(remark(name, &problem));
                    continue;
                }
            },
            Secret::Clear(password) => Hash::make(password)
                .map_err(|error| anyhow::anyhow!("cannot hash a password: {error}"))?,
        };
        if !names.insert(name.to_owned()) {
            imported
                .left_out
                .push(remark(name, "the name was there before"));
            continue;
        }
        for note in &found.notes {
            imported.left_out.push(remark(name, note));
        }
        let home = match relative(found.home.as_deref(), homes) {
            Ok(home) => home,
            Err(problem) => {
                imported.left_out.push(remark(name, &problem));
                None
            }
        };
        imported.users += 1;
        let yaml = &mut imported.yaml;
        // Writing to a string does not fail.
        let _ = write!(yaml, "\n  - name: {}", quoted(name));
        let _ = write!(yaml, "\n    password_hash: {}", quoted(&hash));
        if let Some(home) = home {
            let _ = write!(yaml, "\n    home: {}", quoted(&home));
        }
        if !found.enabled {
            yaml.push_str("\n    enabled: false");
        }
        for line in &found.more {
            let _ = write!(yaml, "\n    {line}");
        }
    }
    Ok(())
}

/// The home below `homes`; `None` leaves it to be the name.
fn relative(home: Option<&str>, homes: Option<&Path>) -> Result<Option<String>, String> {
    let (Some(home), Some(homes)) = (home, homes) else {
        return Ok(None);
    };
    // `/srv/ftp/./alice` and `/srv/ftp/alice/./` are chroots with a start directory.
    let path: PathBuf = Path::new(home).components().collect();
    let Ok(rest) = path.strip_prefix(homes) else {
        return Err(format!("its home {home} is elsewhere, so it is its name"));
    };
    let rest = rest.to_string_lossy().into_owned();
    match check_home(&rest) {
        Ok(()) if !rest.contains('{') => Ok(Some(rest)),
        _ => Err(format!("its home {home} cannot be one, so it is its name")),
    }
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
