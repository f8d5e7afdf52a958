//! Mistakes in the configuration, all of them at once.

use std::{fmt, path::Path};

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

impl ConfigErrors {
    /// One mistake that concerns the whole file.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let error = ConfigError {
            path: String::new(),
            message: message.into(),
        };
        Self {
            file: file.display().to_string(),
            errors: vec![error],
        }
    }
}

/// `path: message`, or the message alone for the whole file.
impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// One line each, without a newline at the end.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(formatter, "{newline}{}: {error}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
