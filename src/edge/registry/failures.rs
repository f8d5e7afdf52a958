//! [`Failures`]: the last commands that failed, by the reference that the client was told.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use super::Presence;

/// How many are kept: the page shows fewer, and the log has them all.
const KEPT: usize = 200;

/// Names one failure in the client's reply, in the log and here. Six hexadecimal digits: short enough
/// to be read over the telephone, rare enough to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

/// A ring of failures, the newest first. Not one of the locks is held over I/O.
#[derive(Debug, Default)]
pub struct Failures {
    kept: Mutex<VecDeque<Failed>>,
}

/// One failed command.
#[derive(Clone, Debug)]
pub struct Failed {
    /// As in the reply and the log.
    pub reference: Reference,
    /// When.
    pub at: SystemTime,
    /// Id of the session.
    pub session: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// The account, if it was logged in.
    pub user: Option<Arc<str>>,
    /// Verb of the command.
    pub verb: &'static str,
    /// What it was about; empty where it names no file.
    pub path: String,
    /// FTP code of the reply.
    pub code: u16,
    /// The whole reason, for the operator only.
    pub reason: String,
}

/// What failed, apart from whose it was.
#[derive(Debug)]
pub(in crate::edge) struct What<'a> {
    pub(in crate::edge) verb: &'static str,
    pub(in crate::edge) path: &'a str,
    pub(in crate::edge) code: u16,
    pub(in crate::edge) error: &'a (dyn std::error::Error + 'static),
}

impl Failures {
    /// The newest first, at most `limit`.
    pub fn newest(&self, limit: usize) -> Vec<Failed> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().take(limit).cloned().collect()
    }

    pub(super) fn keep(
        &self,
        session: &Presence,
        user: Option<Arc<str>>,
        what: &What<'_>,
    ) -> Reference {
        let reference = Reference(format!("{:06x}", rand::random::<u32>() >> 8));
        let failed = Failed {
            reference: reference.clone(),
            at: SystemTime::now(),
            session: session.id.clone(),
            peer: session.peer,
            user,
            verb: what.verb,
            path: what.path.to_owned(),
            code: what.code,
            reason: chain(what.error),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT - 1);
        kept.push_front(failed);
        reference
    }
}

/// An error and what caused it, in one line. What its parent has said already is left out.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    const LONGEST: usize = 1000;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Registry, *};

    #[test]
    fn newest_failures_are_kept_within_the_bound() {
        let registry = Arc::new(Registry::default());
        let visit = registry.enter("1", SocketAddr::from(([127, 0, 0, 1], 1)), &"ftp".into());
        let error = std::io::Error::other("disk is gone");
        let mut last = None;
        for code in 0..300 {
            last = Some(visit.fail(&What {
                verb: "STOR",
                path: "/a",
                code,
                error: &error,
            }));
        }
        let kept = registry.failures().newest(1000);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(
            (kept[0].code, Some(&kept[0].reference)),
            (299, last.as_ref())
        );
        assert_eq!(kept[0].reason, "disk is gone");
        assert_eq!(registry.failures().newest(3).len(), 3);
    }
}
