//! One client connection.

pub mod command;
mod control;
mod data;
pub mod line;
mod passive;
pub mod reply;
mod tls;
