//! STUB; discarded at the merge.

pub mod logging;
