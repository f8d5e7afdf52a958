//! The command line: parses arguments, runs one command, turns its failure into an exit code.
//!
//! Owns what is printed for people on stdout and stderr. Knows the [`crate::app`] that it starts and
//! nothing of what runs inside.

mod check;
mod config;
mod ctl;
mod demo;
mod explain;
mod failure;
mod generated;
mod hash_password;
mod serve;
mod sweep;
mod users;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `serve` and `demo`: stopped by a signal, all transfers ended or drained
  1  failed while running, for example an address is taken; `check`: a store, a port or a name is not as
     the configuration needs it
  2  wrong arguments
  3  mistakes in the configuration, the users file or the certificates
  4  `explain`: denied";

/// An FTPS server whose disk is an object store.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or SIGINT, then let running transfers end
    Serve {
        /// The YAML configuration; config.example.yaml explains every key
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Try causeway on this machine: creates certificate, user and configuration, then serves a local
    /// folder on 127.0.0.1 and prints commands to paste
    Demo {
        /// Where uploaded files, certificate and password lie; kept between runs
        #[arg(long, value_name = "DIR", default_value = "./causeway-data")]
        data: PathBuf,
        /// Port for explicit FTPS, implicit FTPS takes the next free one; 0 takes free ports for
        /// everything [default: 2121 or the next free one]
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
    },
    /// Check everything that can be wrong before the first connection: configuration, users, certificates;
    /// each backend with small objects that are taken away again; ports, names, memory
    Check(check::Arguments),
    /// The configuration as it counts
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Print the JSON Schema of a file, for editors and pipelines
    Schema {
        /// Which file
        #[arg(value_enum, default_value_t = config::File::Config)]
        file: config::File,
    },
    /// End unfinished uploads that a crash left in the backends and nobody has gone on with, as the
    /// running server does from time to time
    Sweep {
        /// The YAML configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Only those that have not moved for so long [default: `uploads.keep_seconds`]
        #[arg(long, value_name = "SECONDS")]
        age: Option<u64>,
    },
    /// Print what a user may do with a path, and the grant, mount or condition that decides it
    Explain(explain::Arguments),
    /// Users files
    Users {
        #[command(subcommand)]
        command: users::Command,
    },
    /// Look at and steer a running server through its admin API
    Ctl(ctl::Ctl),
    /// Read a password from the terminal or from standard input and print its hash for the users file
    HashPassword,
    /// Print what a shell completes arguments with, for its folder of completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command into a folder
    Man {
        /// The folder; made where it is missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { config } => serve::run(&config),
        Command::Demo { data, port } => demo::run(&data, port),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config { command } => config::run(&command),
        Command::Schema { file } => config::print_schema(file),
        Command::Sweep { config, age } => sweep::run(&config, age),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Users { command } => users::run(&command),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::HashPassword => hash_password::run(),
        Command::Completions { shell } => generated::completions(shell, Arguments::command()),
        Command::Man { directory } => generated::man(&directory, Arguments::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to hear that standard error is closed. What was denied is said already.
            if !matches!(failure, Failure::Denied | Failure::Checked(_)) {
                let _ = writeln!(io::stderr(), "{failure}");
            }
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_parse_as_documented() {
        for line in [
            "causeway serve -c a.yaml",
            "causeway serve --config a.yaml",
            "causeway demo",
            "causeway demo --data d --port 0",
            "causeway check -c a.yaml",
            "causeway check -c a.yaml --offline",
            "causeway check -c a.yaml --format json",
            "causeway config print -c a.yaml",
            "causeway config print -c a.yaml --format json",
            "causeway schema",
            "causeway schema users",
            "causeway sweep -c a.yaml",
            "causeway sweep -c a.yaml --age 60",
            "causeway hash-password",
            "causeway completions zsh",
            "causeway man d",
            "causeway explain -c a.yaml alice STOR /x",
            "causeway explain -c a.yaml --from ::1 --listener public --clear alice CWD /",
            "causeway users import --from shadow a b",
            "causeway ctl sessions",
            "causeway ctl --url http://h:1 transfers --watch",
            "causeway ctl kick 1 2 --json",
            "causeway ctl drain --deadline 0 --wait",
            "causeway ctl users",
            "causeway ctl users alice --json",
            "causeway ctl explain alice STOR /x --from ::1 --clear",
            "causeway ctl bans",
            "causeway ctl bans add address:192.0.2.1 --seconds 60",
            "causeway ctl bans lift user:alice",
            "causeway ctl log",
            "causeway ctl log set --filter info,causeway::edge=debug --format json --for 10m",
            "causeway ctl log reset",
            "causeway ctl trace start --user alice --for 90s --lines 50",
            "causeway ctl trace start --address 192.0.2.0/24",
            "causeway ctl trace save 1 - --session 2",
            "causeway ctl top",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "causeway",
            "causeway serve",
            "causeway demo --port 70000",
            "causeway ctl trace start",
            "causeway ctl trace start --user a --address b",
            "causeway ctl trace start --user a --for 10d",
            "causeway ctl log set",
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
