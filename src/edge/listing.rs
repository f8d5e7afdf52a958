//! Which entries LIST, NLST, MLSD and STAT show: a directory's, one file, or those that match a
//! pattern in the last segment (CONFORMANCE H2–H6, H15).

use futures_util::{StreamExt, stream, stream::BoxStream};

use crate::{
    access::VirtualPath,
    store::{Entry, ErrorKind, Result as StoreResult, View, listing::Pattern, transfer::Failure},
};

/// Entries and the directory they lie in.
pub(super) struct Selection {
    pub(super) directory: VirtualPath,
    pub(super) entries: BoxStream<'static, StoreResult<Entry>>,
    /// What was asked for is one file.
    pub(super) is_file: bool,
}

/// The wildcards in the last segment of an argument, if it has any.
pub(super) fn pattern(argument: Option<&str>) -> Option<Pattern> {
    argument.and_then(|argument| Pattern::parse(last_segment(argument)))
}

/// Opens what `path` stands for. A name that exists wins over a pattern (J15); only then are the
/// names of one directory matched, one at a time as the receiver takes them.
pub(super) async fn select(
    view: &View,
    path: &VirtualPath,
    pattern: Option<Pattern>,
) -> Result<Selection, Failure> {
    let failure = match view.list(path).await {
        Ok(entries) => {
            return Ok(Selection {
                directory: path.clone(),
                entries,
                is_file: false,
            });
        }
        Err(failure) => failure,
    };
    let kind = match &failure {
        Failure::Store(error) => error.kind(),
        _ => return Err(failure),
    };
    match (kind, pattern) {
        (ErrorKind::NotADirectory, _) => {
            let stat = view.stat(path).await?;
            let name = path.name().unwrap_or_default().to_owned();
            Ok(Selection {
                directory: path.parent(),
                entries: stream::iter([Ok(Entry { name, stat })]).boxed(),
                is_file: true,
            })
        }
        (ErrorKind::NotFound, Some(pattern)) => {
            let directory = path.parent();
            let matching = view.list(&directory).await?.filter(move |entry| {
                let fits = entry
                    .as_ref()
                    .map_or(true, |entry| pattern.matches(&entry.name));
                std::future::ready(fits)
            });
            Ok(Selection {
                directory,
                entries: matching.boxed(),
                is_file: false,
            })
        }
        _ => Err(failure),
    }
}

/// What stands before each name of `NLST argument`, so that it can be used in a later command from
/// the same working directory (RFC 1123 §4.1.2.7, O18): nothing without an argument.
pub(super) fn name_prefix(argument: Option<&str>) -> String {
    let Some(argument) = argument else {
        return String::new();
    };
    let last = last_segment(argument);
    let directory = if Pattern::parse(last).is_some() {
        &argument[..argument.len() - last.len()]
    } else {
        argument
    };
    match directory {
        "" | "." => String::new(),
        directory if directory.ends_with('/') => directory.to_owned(),
        directory => format!("{directory}/"),
    }
}

/// What stands before the last segment of an argument.
pub(super) fn directory_of(argument: Option<&str>) -> &str {
    let argument = argument.unwrap_or_default();
    &argument[..argument.len() - last_segment(argument).len()]
}

fn last_segment(argument: &str) -> &str {
    argument.rsplit('/').next().unwrap_or(argument)
}
