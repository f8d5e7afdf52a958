//! `causeway ctl trace`: what a client and the server say to each other.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{self, Client},
    print, show,
};
use crate::{
    admin::{TraceContent, TraceView},
    cli::Failure,
};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Follow a user or an address from now on
    Start(Start),
    /// Every trace that is kept
    List,
    /// Print what a trace heard so far
    Show {
        /// As `list` prints it
        id: String,
    },
    /// End a trace; what it heard is kept for an hour
    Stop {
        /// As `list` prints it
        id: String,
    },
    /// Save one session of a trace as a dialogue that can be replayed; passwords are not in it
    Save {
        /// As `list` prints it
        id: String,
        /// Where to; `-` is standard output
        file: PathBuf,
        /// Which session, where the trace heard several
        #[arg(long)]
        session: Option<String>,
    },
    /// End a trace and forget it
    Remove {
        /// As `list` prints it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Start {
    #[command(flatten)]
    subject: Subject,
    /// How long, such as 90s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = super::seconds)]
    lasts: u64,
    /// It ends after so many lines and events
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    lines: usize,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// Who says this name in USER
    #[arg(long)]
    user: Option<String>,
    /// Who comes from this address or network, such as 192.0.2.0/24
    #[arg(long, value_name = "NET")]
    address: Option<String>,
}

pub(super) async fn carry_out(
    client: &Client,
    action: &Action,
    as_json: bool,
) -> Result<(), Failure> {
    let path = |id: &str| format!("/traces/{}", client::segment(id));
    match action {
        Action::Start(start) => {
            let mut body = json!({"seconds": start.lasts, "lines": start.lines});
            if let Some(user) = &start.subject.user {
                body["user"] = json!(user);
            }
            if let Some(address) = &start.subject.address {
                body["address"] = json!(address);
            }
            let answer = client.post("/traces", &body).await?;
            print(&answer, as_json, |one: TraceView| show::traces(&[one]))
        }
        Action::List => {
            let answer = client.get("/traces").await?;
            print(&answer, as_json, |all: Vec<TraceView>| show::traces(&all))
        }
        Action::Show { id } => {
            let answer = client.get(&path(id)).await?;
            print(&answer, as_json, |content: TraceContent| {
                show::trace(&content)
            })
        }
        Action::Stop { id } => {
            let path = format!("{}/stop", path(id));
            let answer = client.post(&path, &Value::Null).await?;
            print(&answer, as_json, |one: TraceView| show::traces(&[one]))
        }
        Action::Remove { id } => {
            let answer = client.delete(&path(id)).await?;
            print(&answer, as_json, |_: TraceView| "removed\n".to_owned())
        }
        Action::Save { id, file, session } => {
            let one = session.as_ref().map_or_else(String::new, |session| {
                format!("/{}", client::segment(session))
            });
            let text = client.text(&format!("{}/dialogue{one}", path(id))).await?;
            if file.as_os_str() == "-" {
                io::stdout().write_all(text.as_bytes())?;
                return Ok(());
            }
            fs::write(file, &text)
                .with_context(|| format!("{}: cannot be written", file.display()))?;
            let lines = text.lines().count();
            writeln!(io::stdout(), "{}: {lines} lines", file.display())?;
            Ok(())
        }
    }
}
