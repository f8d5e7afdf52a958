//! [`Report`]: what `causeway check` found, for people and for programs.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::super::Failure;
use crate::store::probe::{Outcome, Step};

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in super::super) enum Format {
    /// Lines for people, each as soon as it is known
    Text,
    /// One JSON document at the end
    Json,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The operator's files are wrong: the server does not start with them.
    Mistake,
    /// The files are right, and something that they need is not as it must be.
    Problem,
    /// The server works; somebody should know.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    /// What it is about: `configuration`, `certificates`, `network`, `store` …
    area: &'static str,
    message: String,
}

/// Everything that was found.
#[derive(Debug)]
pub(in super::super) struct Report {
    file: PathBuf,
    format: Format,
    lines: Vec<String>,
    findings: Vec<Finding>,
    steps: Vec<(String, Step)>,
}

impl Report {
    pub(super) fn new(file: &Path, format: Format) -> Self {
        Self {
            file: file.to_owned(),
            format,
            lines: Vec::new(),
            findings: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The operator's files are wrong (exit code 3).
    pub(in super::super) fn mistake(&mut self, area: &'static str, message: impl Into<String>) {
        self.find(Severity::Mistake, area, message.into());
    }

    /// Something that the files need is not as it must be (exit code 1).
    pub(in super::super) fn problem(&mut self, area: &'static str, message: impl Into<String>) {
        self.find(Severity::Problem, area, message.into());
    }

    /// The server works; somebody should know.
    pub(in super::super) fn warn(&mut self, area: &'static str, message: impl Into<String>) {
        self.find(Severity::Warning, area, message.into());
    }

    fn find(&mut self, severity: Severity, area: &'static str, message: String) {
        let finding = Finding {
            severity,
            area,
            message,
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// One line of the summary.
    pub(in super::super) fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// A step of a probe of `backend`, which people know as `what`, printed at once; `severity` is what a failure of it is.
    pub(super) fn step(&mut self, backend: &str, what: &str, severity: Severity, step: Step) {
        let place = match step.place.as_str() {
            "" => what.to_owned(),
            place => format!("{what} below {place:?}"),
        };
        let (name, took) = (step.name, step.took.as_millis());
        let line = match &step.outcome {
            Outcome::Done => format!("{place}: {name}: ok, {took} ms"),
            Outcome::LeftOut(why) => format!("{place}: {name}: left out, {why}"),
            Outcome::Doubtful(what) => {
                self.find(
                    Severity::Warning,
                    "store",
                    format!("{place}: {name}: {what}"),
                );
                format!("{place}: {name}: see the warning, {took} ms")
            }
            Outcome::Refused {
                permissions,
                message,
            } => {
                let missing = permissions.join(" or ");
                let text = format!("{place}: {name} is refused, missing: {missing} ({message})");
                self.find(severity, "store", text);
                format!("{place}: {name}: refused, missing: {missing}, {took} ms")
            }
            Outcome::Failed(message) => {
                self.find(
                    severity,
                    "store",
                    format!("{place}: {name} failed: {message}"),
                );
                format!("{place}: {name}: failed, {took} ms")
            }
        };
        // Nobody may be left to read it; the exit code is for whoever is.
        let _ = match self.format {
            Format::Text => writeln!(io::stdout(), "{line}"),
            Format::Json if io::stderr().is_terminal() => writeln!(io::stderr(), "{line}"),
            Format::Json => Ok(()),
        };
        self.steps.push((backend.to_owned(), step));
    }

    /// Prints what is not printed yet, and says how the command ends.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let [mistakes, problems, warnings] =
            [Severity::Mistake, Severity::Problem, Severity::Warning]
                .map(|severity| self.of(severity).count());
        match self.format {
            Format::Json => writeln!(io::stdout(), "{:#}", self.json())?,
            Format::Text => {
                let mut said = String::new();
                for finding in self.of(Severity::Mistake) {
                    let _ = writeln!(said, "{}", finding.message);
                }
                for finding in self.of(Severity::Problem) {
                    let _ = writeln!(said, "problem: {}", finding.message);
                }
                io::stderr().write_all(said.as_bytes())?;
                let mut text = String::new();
                let bad = mistakes + problems;
                let verdict = if bad == 0 {
                    "ok".to_owned()
                } else {
                    format!("{bad} to be put right")
                };
                let _ = match warnings {
                    0 => writeln!(text, "{}: {verdict}", self.file.display()),
                    count => writeln!(
                        text,
                        "{}: {verdict}, warnings: {count}",
                        self.file.display()
                    ),
                };
                for line in &self.lines {
                    let _ = writeln!(text, "{line}");
                }
                for finding in self.of(Severity::Warning) {
                    let _ = writeln!(text, "warning: {}", finding.message);
                }
                io::stdout().write_all(text.as_bytes())?;
            }
        }
        match (mistakes, problems) {
            (0, 0) => Ok(()),
            (0, _) => Err(Failure::Checked(1)),
            _ => Err(Failure::Checked(3)),
        }
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity == severity)
    }

    fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            let severity = match finding.severity {
                Severity::Mistake => "mistake",
                Severity::Problem => "problem",
                Severity::Warning => "warning",
            };
            json!({"severity": severity, "area": finding.area, "message": finding.message})
        });
        let steps = self.steps.iter().map(|(backend, step)| {
            let mut value = json!({
                "backend": backend,
                "prefix": step.place,
                "step": step.name,
                "milliseconds": u64::try_from(step.took.as_millis()).unwrap_or(u64::MAX),
            });
            let (outcome, message) = match &step.outcome {
                Outcome::Done => ("done", None),
                Outcome::Doubtful(what) => ("doubtful", Some(what)),
                Outcome::Refused {
                    permissions,
                    message,
                } => {
                    value["permissions"] = json!(permissions);
                    ("refused", Some(message))
                }
                Outcome::Failed(message) => ("failed", Some(message)),
                Outcome::LeftOut(why) => ("left_out", Some(why)),
            };
            value["outcome"] = json!(outcome);
            if let Some(message) = message {
                value["message"] = json!(message);
            }
            value
        });
        let ok = self.of(Severity::Mistake).count() + self.of(Severity::Problem).count() == 0;
        json!({
            "file": self.file.display().to_string(),
            "ok": ok,
            "summary": self.lines,
            "findings": findings.collect::<Vec<_>>(),
            "steps": steps.collect::<Vec<_>>(),
        })
    }

    /// The findings as `severity area message`, for tests.
    #[cfg(test)]
    pub(super) fn found(&self) -> Vec<String> {
        self.findings
            .iter()
            .map(|finding| {
                format!(
                    "{:?} {} {}",
                    finding.severity, finding.area, finding.message
                )
            })
            .collect()
    }

    /// The summary, for tests.
    #[cfg(test)]
    pub(super) fn summary(&self) -> String {
        self.lines.join("\n")
    }
}
