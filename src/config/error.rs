//! Mistakes in the configuration, all of them at once.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// YAML path, for example `listeners[0].tls.certificate_file`; empty for the whole file.
    pub path: String,
    /// What is wrong, what was expected, and the nearest right spelling if there is one.
    pub message: String,
}

/// Every mistake of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as named on the command line.
    pub file: String,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(
                formatter,
                "{}: {}: {}",
                self.file, error.path, error.message
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
