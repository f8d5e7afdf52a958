//! One client connection.

pub mod command;
pub mod reply;
