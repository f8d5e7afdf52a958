//! `causeway ctl`: a running server from the shell, through its admin API.
//!
//! Owns what is asked and how it is printed. Names and paths come from strangers: what a terminal would
//! act on is escaped before it is shown.

mod client;
mod show;
mod top;
mod trace;
mod users;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::Value;

use self::client::Client;
use super::Failure;
use crate::admin::{BanView, FailureView, LogView, Reloaded, SessionView, Status, TransferView};

/// Between two looks of `--watch` and `--wait`.
const PERIOD: Duration = Duration::from_secs(1);

/// Where the server is.
#[derive(Debug, Args)]
pub(super) struct Ctl {
    #[command(flatten)]
    server: Server,
    /// Print the API's JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Server {
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "Address of the admin side [default: $CAUSEWAY_ADMIN_URL or http://127.0.0.1:9090]"
    )]
    url: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "File that holds the token [default: $CAUSEWAY_ADMIN_TOKEN_FILE; the token itself may \
                stand in $CAUSEWAY_ADMIN_TOKEN]"
    )]
    token_file: Option<PathBuf>,
    /// PEM of the authority that issued the admin side's certificate [default: those of the system]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The server in a few numbers
    Status,
    /// Everybody who is connected
    Sessions,
    /// Running transfers with their progress
    Transfers {
        /// Print them again every second, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// The last commands that failed, the newest first
    Failures {
        /// Only the one with this reference, as the client was told it
        reference: Option<String>,
    },
    /// End sessions: running transfers are aborted and leave nothing, clients get 421
    Kick {
        /// Ids, as `sessions` prints them
        #[arg(required = true, value_name = "SESSION")]
        sessions: Vec<String>,
    },
    /// Who is banned; add and lift bans
    Bans {
        #[command(subcommand)]
        action: Option<BanAction>,
    },
    /// What is logged; change it while the server runs
    Log {
        #[command(subcommand)]
        action: Option<LogAction>,
    },
    /// Follow what a client and the server say to each other, line by line
    Trace {
        #[command(subcommand)]
        action: trace::Action,
    },
    /// Who there is; or one user, with everything that decides what it may do
    Users {
        /// A user of the users files, or one of another source who is logged in
        name: Option<String>,
    },
    /// What a user may do with a path on the running server, and the rule behind it
    Explain(users::Question),
    /// Look at configuration, users and certificates now
    Reload,
    /// Stop the server: no new logins, running transfers may end, then it exits
    Drain {
        #[arg(
            long,
            value_name = "SECONDS",
            help = "How long running transfers may take; 0 aborts them [default: timeouts.drain_seconds]"
        )]
        deadline: Option<u64>,
        /// Wait until the server is gone
        #[arg(long)]
        wait: bool,
    },
    /// Live view of sessions, transfers and failures; q ends it, k kicks
    Top,
}

#[derive(Debug, Subcommand)]
enum LogAction {
    /// Log something else, at once; what is not said is as configured
    Set {
        /// A level (error, warn, info, debug, trace), or a level and directives: TARGET=LEVEL
        #[arg(long, required_unless_present = "format")]
        filter: Option<String>,
        /// compact, pretty or json
        #[arg(long)]
        format: Option<String>,
        /// How long, such as 90s, 10m or 2h [default: until it is reset or the server ends]
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        lasts: Option<u64>,
    },
    /// Log as configured again
    Reset,
}

#[derive(Debug, Subcommand)]
enum BanAction {
    /// Ban somebody. Sessions that are logged in go on: `kick` ends them
    Add {
        /// address:192.0.2.1, network:192.0.2.0/24 or user:NAME
        subject: String,
        /// For how long
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        seconds: u64,
    },
    /// End a ban and forget the failures behind it
    Lift {
        /// As `bans` prints it, or user:NAME
        subject: String,
    },
}

/// Runs one command.
pub(super) fn run(ctl: &Ctl) -> Result<(), Failure> {
    let client = Client::new(
        ctl.server.url.clone(),
        ctl.server.token_file.as_deref(),
        ctl.server.ca_file.as_deref(),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match &ctl.command {
        Command::Top => top::run(&runtime, &client),
        command => runtime.block_on(carry_out(&client, command, ctl.json)),
    }
}

async fn carry_out(client: &Client, command: &Command, json: bool) -> Result<(), Failure> {
    match command {
        Command::Status => {
            let answer = client.get("/status").await?;
            print(&answer, json, |status: Status| show::status(&status))
        }
        Command::Sessions => {
            let answer = client.get("/sessions").await?;
            print(&answer, json, |all: Vec<SessionView>| show::sessions(&all))
        }
        Command::Transfers { watch } => loop {
            let answer = client.get("/transfers").await?;
            if *watch && !json && io::stdout().is_terminal() {
                // Home, and clear to the end: the screen does not flicker.
                write!(io::stdout(), "\u{1b}[H\u{1b}[J")?;
            }
            print(&answer, json, |all: Vec<TransferView>| {
                show::transfers(&all)
            })?;
            if !watch {
                return Ok(());
            }
            tokio::time::sleep(PERIOD).await;
        },
        Command::Failures { reference } => {
            let mut answer = client.get("/failures").await?;
            if let (Some(wanted), Some(all)) = (reference, answer.as_array_mut()) {
                all.retain(|failure| failure["reference"] == wanted.as_str());
                if all.is_empty() {
                    let message =
                        "no failure with this reference is kept; the log may still have it";
                    return Err(anyhow::anyhow!("{wanted}: {message}").into());
                }
            }
            print(&answer, json, |all: Vec<FailureView>| show::failures(&all))
        }
        Command::Kick { sessions } => {
            for id in sessions {
                let answer = client
                    .delete(&format!("/sessions/{}", client::segment(id)))
                    .await?;
                print(&answer, json, |session: SessionView| show::kicked(&session))?;
            }
            Ok(())
        }
        Command::Bans { action } => bans(client, action.as_ref(), json).await,
        Command::Log { action } => {
            let answer = match action {
                None => client.get("/log").await?,
                Some(LogAction::Reset) => client.delete("/log").await?,
                Some(LogAction::Set {
                    filter,
                    format,
                    lasts,
                }) => {
                    let body = serde_json::json!({
                        "filter": filter, "format": format, "seconds": lasts
                    });
                    client.put("/log", &body).await?
                }
            };
            print(&answer, json, |log: LogView| show::log(&log))
        }
        Command::Trace { action } => trace::carry_out(client, action, json).await,
        Command::Users { name } => users::show(client, name.as_deref(), json).await,
        Command::Explain(question) => users::explain(client, question, json).await,
        Command::Reload => {
            let answer = client.post("/reload", &Value::Null).await?;
            print(&answer, json, |reloaded: Reloaded| {
                show::reloaded(&reloaded)
            })
        }
        Command::Drain { deadline, wait } => {
            let body = match deadline {
                None => Value::Null,
                Some(seconds) => serde_json::json!({"deadline_seconds": seconds}),
            };
            let answer = client.post("/drain", &body).await?;
            print(&answer, json, |_: Value| "draining\n".to_owned())?;
            if *wait {
                gone(client).await?;
            }
            Ok(())
        }
        // Has a terminal of its own.
        Command::Top => Ok(()),
    }
}

async fn bans(client: &Client, action: Option<&BanAction>, json: bool) -> Result<(), Failure> {
    match action {
        None => {
            let answer = client.get("/bans").await?;
            print(&answer, json, |all: Vec<BanView>| show::bans(&all))
        }
        Some(BanAction::Add { subject, seconds }) => {
            let body = serde_json::json!({"subject": subject, "seconds": seconds});
            let answer = client.post("/bans", &body).await?;
            print(&answer, json, |ban: BanView| show::bans(&[ban]))
        }
        Some(BanAction::Lift { subject }) => {
            let path = format!("/bans/{}", client::segment(subject));
            let answer = client.delete(&path).await?;
            print(&answer, json, |_: Value| "lifted\n".to_owned())
        }
    }
}

/// Waits until the server no longer answers, and says what it waits for.
async fn gone(client: &Client) -> Result<(), Failure> {
    let mut last = None;
    // It ends with the server, whose own drain has a deadline.
    while let Ok(answer) = client.get("/status").await {
        let left = (answer["sessions"].as_u64(), answer["transfers"].as_u64());
        if let (Some(sessions), Some(transfers)) = left
            && last != Some(left)
        {
            last = Some(left);
            writeln!(
                io::stderr(),
                "{sessions} sessions, {transfers} transfers left"
            )?;
        }
        tokio::time::sleep(PERIOD).await;
    }
    writeln!(io::stderr(), "the server has ended")?;
    Ok(())
}

/// A time such as `90`, `90s`, `10m` or `2h`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok();
    let seconds = number.and_then(|number| number.checked_mul(unit));
    seconds.ok_or_else(|| "expected a time such as 90s, 10m or 2h".to_owned())
}

/// Prints an answer as it came, or as text.
fn print<T: serde::de::DeserializeOwned>(
    answer: &Value,
    json: bool,
    text: impl FnOnce(T) -> String,
) -> Result<(), Failure> {
    let mut out = io::stdout();
    if json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(answer).map_err(io::Error::from)?
        )?;
        return Ok(());
    }
    let value = client::read(answer)?;
    write!(out, "{}", text(value))?;
    out.flush()?;
    Ok(())
}
