//! `causeway config print` and `causeway schema`: what the files say and may say.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Subcommand, ValueEnum};

use super::Failure;
use crate::{
    auth,
    config::{Config, schema},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the configuration with every default filled in; secrets in it become ***, references to
    /// variables and files stay
    Print {
        /// The YAML configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Yaml)]
        format: Format,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// As a configuration file
    Yaml,
    /// As the admin API has it at /api/v1/config
    Json,
}

/// A file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum File {
    /// The configuration
    Config,
    /// A users file
    Users,
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Print { config, format } = command;
    let effective = Config::load(config)?.effective;
    let text = match format {
        Format::Yaml => effective
            .to_yaml()
            .map_err(|error| anyhow::anyhow!(error))?,
        Format::Json => json(&effective)?,
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Prints the JSON Schema of a file.
pub(super) fn print_schema(file: File) -> Result<(), Failure> {
    let schema = match file {
        File::Config => schema::configuration(),
        File::Users => auth::users_schema(),
    };
    io::stdout().lock().write_all(json(&schema)?.as_bytes())?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    Ok(text + "\n")
}
