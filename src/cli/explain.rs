//! `causeway explain`: what a user may do with a path, and the rule behind it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use clap::Args;

use super::Failure;
use crate::{
    access::{Account, Known, Tree, VirtualPath, explain},
    auth::{Names, Users},
    config::Config,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The YAML configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    login: Login,
    /// A user of the users file
    user: String,
    /// A command such as STOR, RETR or CWD
    verb: String,
    /// A path as the user sees it
    path: String,
}

/// What is known of the login; `causeway ctl explain` asks the same.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// Where the user comes from; without it, `allowed_networks` are not looked at
    #[arg(long, value_name = "ADDRESS")]
    pub(super) from: Option<IpAddr>,
    /// The listener; without it, `allowed_listeners` are not looked at
    #[arg(long, value_name = "NAME")]
    pub(super) listener: Option<String>,
    /// A session without TLS
    #[arg(long)]
    pub(super) clear: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config)?;
    let users = match &config.auth.users {
        None => Users::nobody(),
        Some(files) => Users::load(files, &Names::of(&config))
            .map_err(|errors| Failure::Configuration(errors.lines()))?,
    };
    let account = users.account(&arguments.user).ok_or_else(|| {
        anyhow::anyhow!(
            "no user of the users file has the name {:?}",
            arguments.user
        )
    })?;
    let path = VirtualPath::parse(&VirtualPath::root(), &arguments.path)
        .map_err(|error| anyhow::anyhow!("{:?}: {error}", arguments.path))?;
    let tree = Tree::new(Arc::clone(account), &config.mounts);
    let steps = explain(&tree, &arguments.verb, &path)
        .ok_or_else(|| anyhow::anyhow!("{} is no command with a path", arguments.verb))?;
    let mut text = String::new();
    let mut allowed = login(account, arguments, &mut text);
    for step in &steps {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {step}");
        allowed &= step.lets_go_on();
    }
    let verb = arguments.verb.to_ascii_uppercase();
    let word = if allowed { "allowed" } else { "denied" };
    write!(
        io::stdout(),
        "{} {verb} {path}: {word}\n{text}",
        arguments.user
    )?;
    if allowed {
        Ok(())
    } else {
        Err(Failure::Denied)
    }
}

/// Whether the user could log in, as far as the arguments say.
fn login(account: &Account, arguments: &Arguments, text: &mut String) -> bool {
    let known = Known {
        now: SystemTime::now(),
        address: arguments.login.from,
        listener: arguments.login.listener.as_deref(),
        encrypted: !arguments.login.clear,
    };
    // Writing to a string does not fail.
    let _ = match account.conditions.admit_as_known(&known) {
        Ok(()) => return true,
        Err(reason) => writeln!(text, "  login: denied: {reason}"),
    };
    false
}
