//! When changed files are to be loaded: for certificates and users.
//!
//! The content is compared and not the time of change: Kubernetes swaps the symbolic link above the
//! files, `cp -p` keeps times, and the files are small. A change must look the same twice before it
//! is loaded, so that the moment between a new certificate and its new key, or half a file, is no
//! error.

use std::time::Duration;

use tokio::signal::unix::Signal;

/// Between two looks at files.
pub const PERIOD: Duration = Duration::from_secs(2);

/// What the last look at the files saw.
#[derive(Debug)]
pub struct Seen {
    /// What was last loaded, or tried to.
    tried: [u8; 32],
    /// A change that was seen once.
    changed: Option<[u8; 32]>,
}

impl Seen {
    /// The files as they were loaded.
    pub fn first(digest: [u8; 32]) -> Self {
        Self {
            tried: digest,
            changed: None,
        }
    }

    /// Whether the files are to be loaded.
    pub fn look(&mut self, digest: [u8; 32], at_once: bool) -> bool {
        let settled = self.changed == Some(digest);
        self.changed = (digest != self.tried).then_some(digest);
        let load = at_once || (settled && digest != self.tried);
        if load {
            self.took(digest);
        }
        load
    }

    /// Files of this content are in force, or were tried: only others are a change.
    pub fn took(&mut self, digest: [u8; 32]) {
        self.tried = digest;
        self.changed = None;
    }
}

/// The next SIGHUP; never, where it is not listened for.
pub async fn next(hangup: &mut Option<Signal>) {
    let came = match hangup {
        Some(hangup) => hangup.recv().await.is_some(),
        None => false,
    };
    if !came {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_loaded_when_it_looks_the_same_twice_and_then_once() {
        let [old, half, new] = [[0; 32], [1; 32], [2; 32]];
        let mut seen = Seen::first(old);
        for (digest, load) in [
            (old, false),
            (half, false),
            (new, false),
            (new, true),
            (new, false),
            (old, false),
            (new, false),
            (old, false),
            (old, true),
        ] {
            assert_eq!(seen.look(digest, false), load, "{digest:?}");
        }
        assert!(seen.look(old, true));
        assert!(seen.look(half, true));
        assert!(!seen.look(half, false));
    }
}
