//! [`log`]: a panic is a line of the log like any other.
//!
//! It ends the task it is in and never the process. There are none of ours that are known; libraries
//! have some, for what they think cannot be.

use std::panic::{PanicHookInfo, set_hook};

/// Panics go to the log from now on instead of standard error, where their lines would stand between
/// those of the log.
pub fn log() {
    set_hook(Box::new(write));
}

fn write(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    // Only words that stand in the code: the others may hold what a client has sent.
    let words = panic.payload().downcast_ref::<&str>();
    tracing::error!(place, words, "a task has panicked");
}
