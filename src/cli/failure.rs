//! Why a command failed, by whose fault it is: that decides the exit code.

use std::{fmt, process::ExitCode};

use crate::{auth::UsersError, config::ConfigErrors};

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The operator's files are wrong; one line for each mistake. Exit code 3.
    Configuration(Vec<String>),
    /// `explain` says no, on standard output. Exit code 4.
    Denied,
    /// `check` has printed what it found. The exit code.
    Checked(u8),
    /// Something went wrong while running. Exit code 1.
    Runtime(anyhow::Error),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(3),
            Self::Denied => ExitCode::from(4),
            Self::Checked(code) => ExitCode::from(*code),
            Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => formatter.write_str("denied"),
            Self::Checked(_) => formatter.write_str("not as it must be"),
            Self::Configuration(mistakes) => formatter.write_str(&mistakes.join("\n")),
            Self::Runtime(error) => write!(formatter, "causeway: {error:#}"),
        }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Configuration(errors.to_string().lines().map(str::to_owned).collect())
    }
}

/// A configuration error keeps its exit code even if the app found it (the users file, say).
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        if let Some(errors) = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<UsersError>())
        {
            return Self::Configuration(errors.lines());
        }
        match error
            .chain()
            .find_map(|cause| cause.downcast_ref::<ConfigErrors>())
        {
            Some(errors) => errors.clone().into(),
            None => Self::Runtime(error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Runtime(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn configuration_error_is_recognised_below_its_context() {
        let errors = ConfigErrors::of_file(Path::new("users.yaml"), "cannot read the file");
        let error = Err::<(), _>(errors).context("starting").unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.to_string(), "users.yaml: cannot read the file");
        assert!(matches!(failure, Failure::Configuration(_)));
        let failure = Failure::from(anyhow::anyhow!("address in use").context("binding"));
        assert_eq!(failure.to_string(), "causeway: binding: address in use");
    }
}
