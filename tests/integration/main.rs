//! The real binary under real clients, on local disk and on a real S3 server. Run by `./tests/run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in a test a panic is the report, and the harness is all test code"
)]

/// The server's process, its store, and the clients.
mod harness;

/// The operator's side: API, token, references of failures.
mod admin;
/// How a control connection becomes TLS, by AUTH or at once, and what cannot be smuggled around it.
mod auth;
/// Renames on Azure, by the service itself.
mod azure_copy;
/// Operations on every backend: the table of docs/storage.md.
mod behaviour;
/// `causeway check` on real stores.
mod check;
/// And what it finds about the sources of users.
mod check_sources;
/// `check`, `hash-password` and `demo`, as an operator runs them.
mod cli;
/// Certificates of clients: who must have one, and whom it names.
mod client_certificates;
/// The schema of the files, and the configuration as it counts.
mod config;
/// Section 1 of the conformance list: one test for each of its 179 items.
mod conformance;
/// `causeway ctl`, as an operator types it.
mod ctl;
/// Where data connections come from, when, and protected how.
mod data_connections;
/// Files under temporary names, which S3 completes only when they are renamed.
mod deferred;
/// Alerts and dashboard, which are shipped beside the binary.
mod deploy;
/// Dialogues of clients that cannot run here, replayed.
mod dialogues;
/// The end of a server under load, and what systemd hears of its life.
mod drain;
/// Encryption and storage class of objects, and private authorities.
mod encryption;
/// A store of which every tenth request fails.
mod faulty_store;
/// Grants, quotas, own trees and conditions of users, and their files.
mod grants;
/// Limits, bans and bandwidth: what guessers and crowds meet.
mod guard;
/// Thousands of handshakes in a row on a busy machine.
mod handshakes;
/// Logins decided by a service over HTTP, and anonymous ones.
mod hook;
/// Names, rights, logs and lines as an attacker sends them.
mod hostile;
/// Users of other servers, with what those servers' own tools make.
mod import;
/// Two features at once.
mod interplay;
/// The audit trail and the webhooks.
mod journal;
/// Credentials of a cloud's own services.
mod keyless;
/// Listings of a million keys.
mod large_listings;
/// Users of an LDAP directory.
mod ldap;
/// Health, metrics and the end of the process.
mod life;
/// Lines that are too long, odd, or early.
mod lines;
/// A disk that is full, a server that is killed.
mod local_disk;
/// Users: who gets in, and what a read-only user may not do.
mod login;
/// What logins cost, and what their time tells.
mod logins;
/// The log, changed while the server runs.
mod logs;
/// A directory that sends nonsense.
mod lying_directory;
/// curl, lftp and ftplib: every action, on every mode, TLS version and store.
mod matrix;
/// The metrics page, with promtool and Prometheus.
mod metrics;
/// Names, directories, renames, and paths that try to leave the home.
mod names;
/// The status page in a real Chromium.
mod page;
/// Passive ports: how many, whose, on which address.
mod passive;
/// What a profile changes for a device, and what `learn` says.
mod profiles;
/// PROXY headers of a load balancer, on control and data connections.
mod proxy;
/// LIST -R and its bounds.
mod recursive_listing;
/// Files that change while the server runs.
mod reload;
/// Several replicas that count together.
mod replicas;
/// Interrupted uploads that their user continues.
mod resume;
/// Whose TLS session a data connection may resume, and where it must.
mod resumption;
/// Section 5 of the conformance list: the ids that no other module has, and the count of all.
mod security;
/// Long or large: run by `./tests/soak`, with small forms in every run.
mod soak;
/// OpenTelemetry spans, as a collector gets them.
mod spans;
/// What is seen on the stand-ins alone: conditions, retries of OpenDAL.
mod stand_ins;
/// What may be imported where, and what no file may say.
mod structure;
/// Sessions whose account expires meanwhile.
mod terms;
/// Tickets and session resumption, by direction.
mod tickets;
/// Versions, suites, several certificates, reloads.
mod tls;
/// Protocol traces of real clients, and their replay.
mod traces;
/// Transfers that end well, badly, in the middle, or at an offset.
mod transfers;
/// The harness itself: it sees the litter and the resets that the other tests rely on.
mod witness;
