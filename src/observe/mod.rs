//! What an operator sees: metrics and logs.

pub mod logging;
pub mod metrics;
