//! Waiting for a condition instead of for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks `condition` again and again until it holds.
///
/// # Panics
/// With `what` and the last answer, when it does not within `limit`.
#[track_caller]
pub(crate) fn until<T>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(why) if Instant::now() >= end => panic!("{what}: not within {limit:?}: {why}"),
            // The pause between two questions; what is waited for is the condition.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
