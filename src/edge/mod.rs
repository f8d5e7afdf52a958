//! One client connection.

pub mod command;
pub mod line;
pub mod reply;
