//! causeway: an FTPS server whose disk is an object store.
//!
//! One connection flows through the modules in this order, and no module knows one above it:
//!
//! 1. [`cli`] parses the command line, [`config`] turns YAML into checked values;
//! 2. [`app`] composes everything, binds, runs and drains;
//! 3. [`listen`] accepts TCP connections and admits them;
//! 4. [`edge`] owns the client: TLS, the control dialogue, passive ports, data connections;
//! 5. [`engine`] runs libunftp, one per connection, which dispatches the file commands;
//! 6. [`auth`] says who a user is, [`access`] what that user may touch: only it makes a `StoreKey`;
//! 7. [`store`] moves bytes between a data connection and S3 or a local disk;
//! 8. [`sweep`] ends what crashes left in the stores;
//! 9. [`observe`] and [`admin`] let an operator watch.

pub mod access;
pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod edge;
pub mod engine;
pub mod listen;
mod loopback;
pub mod observe;
pub mod shutdown;
pub mod store;
pub mod sweep;
pub mod text;
pub mod validity;
pub mod watch;
