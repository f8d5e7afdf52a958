//! What every test stands on: the real binary, a store that can be read behind its back, and clients.
//!
//! Nothing here calls causeway's own code: the server is a process, the stored bytes are read by
//! `std::fs` or by boto3, and TLS is spoken by clients that do not share its configuration.

mod authority;
mod cloud;
mod content;
mod data;
mod deadline;
mod faulty;
mod kubernetes;
pub(crate) mod liar;
mod peers;
mod raw;
mod receiver;
mod relay;
mod server;
mod services;
mod store;
mod stream;
mod tls;

pub(crate) use self::{
    authority::{Authority, Identity},
    cloud::{Cloud, Peer, TlsFront},
    content::{Blocks, bytes, same_bytes, sha256},
    data::{Data, End},
    deadline::until,
    faulty::{Fault, FaultyGateway},
    kubernetes::Kubernetes,
    peers::{Client, Curl, Ftplib, Lftp, Link, Mode, run_to_end, run_with_input},
    raw::{Raw, Reply, begin_downloads, begin_uploads},
    receiver::{Receiver, Request},
    relay::Relay,
    server::{
        Builder, GROUPS, PASSWORD, Server, http, http_get, password_hash, users_file,
        write_certificates,
    },
    services::{Hook, Redis, Slapd},
    store::Store,
    tls::{Tls, Version},
};

/// Runs each named function as two tests, on a fresh local disk and on a fresh bucket.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use crate::harness::Store;

            #[test]
            fn local() {
                super::$test(&Store::local());
            }

            #[test]
            fn s3() {
                super::$test(&Store::s3());
            }
        }
    )+};
}
pub(crate) use on_each_store;
