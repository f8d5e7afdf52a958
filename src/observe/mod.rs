//! What an operator sees of the server: logs, metrics, the audit trail and events.

pub mod audit;
pub mod authorities;
pub mod events;
pub mod journal;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod process;
pub mod record;
pub mod telemetry;
mod text;
