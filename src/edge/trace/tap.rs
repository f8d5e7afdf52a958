//! [`Tap`]: a session's end of the traces.
//!
//! A trace of a user begins with the connection, long before USER names it: while such a trace runs, a
//! session keeps its first lines until it is known whose they are.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use super::{Entry, Subject, Trace, Traces, What};

/// Entries that a session keeps before its user is known: a client that says more before it logs in
/// is traced by its address.
const EARLY: usize = 64;

/// What one session tells its followers.
#[derive(Debug)]
pub(in crate::edge) struct Tap {
    traces: Arc<Traces>,
    session: Arc<str>,
    peer: SocketAddr,
    /// Something happened that nobody heard.
    missed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the traces when `followers` was made.
    generation: Option<u64>,
    followers: Vec<Arc<Trace>>,
    /// The name of the last USER, or the account.
    user: Option<String>,
    is_logged_in: bool,
    /// What was heard so far, while it is not known whose it is and somebody may want it.
    early: Vec<Entry>,
    /// How much was heard so far.
    heard: usize,
}

impl Tap {
    pub(in crate::edge) fn new(traces: Arc<Traces>, session: &str, peer: SocketAddr) -> Self {
        Self {
            traces,
            session: session.into(),
            peer,
            missed: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Tells whoever follows. `what` is not called where nobody does.
    pub(in crate::edge) fn note(&self, what: impl FnOnce() -> What) {
        if !self.traces.is_on() {
            // Only sessions that were followed write twice.
            if !self.missed.load(Ordering::Relaxed) {
                self.missed.store(true, Ordering::Relaxed);
            }
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut state);
        let waits = !state.is_logged_in && self.is_wanted_by_name();
        if !waits {
            state.early.clear();
        }
        if state.followers.is_empty() && !waits {
            self.missed.store(true, Ordering::Relaxed);
            return;
        }
        let entry = Entry {
            at: SystemTime::now(),
            session: Arc::clone(&self.session),
            what: what(),
        };
        if waits && state.early.len() < EARLY {
            state.early.push(entry.clone());
        }
        state.heard += 1;
        state.followers.retain(|trace| trace.write(entry.clone()));
    }

    /// The client says who it is; `is_proven` after the login.
    pub(in crate::edge) fn name(&self, user: &str, is_proven: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.user = Some(user.to_owned());
        state.generation = None;
        self.look(&mut state);
        if is_proven {
            state.is_logged_in = true;
            state.early = Vec::new();
        }
    }

    /// Finds the traces that follow this session, if they may have changed.
    fn look(&self, state: &mut State) {
        let generation = self.traces.generation.load(Ordering::Relaxed);
        if state.generation == Some(generation) || !self.traces.is_on() {
            return;
        }
        state.generation = Some(generation);
        let peer = self.peer.ip();
        let mut followers = self.traces.running();
        followers.retain(|trace| trace.follows(peer, state.user.as_deref()));
        for trace in &followers {
            if state.followers.iter().any(|known| known.id() == trace.id()) {
                continue;
            }
            let is_whole = state.early.len() == state.heard;
            if is_whole && !self.missed.load(Ordering::Relaxed) {
                for entry in &state.early {
                    trace.write(entry.clone());
                }
            } else {
                trace.write(Entry {
                    at: SystemTime::now(),
                    session: Arc::clone(&self.session),
                    what: What::Joined,
                });
            }
        }
        state.followers = followers;
    }

    fn is_wanted_by_name(&self) -> bool {
        let running = self.traces.running();
        running
            .iter()
            .any(|trace| matches!(trace.order().subject, Subject::User(_)))
    }
}
