//! [`Session`]: what the edge remembers of one connection.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Door, Shared,
    command::{ChecksumAlgorithm, MarkerEffect},
    line::LineEvent,
    passive::PassivePort,
    reply::Reply,
};
use crate::{
    access::VirtualPath,
    config::Mode,
    engine::{Engine, Login},
    store::{Abilities, View, exchange::Exchange, listing::Facts},
};

/// State of one connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) door: Arc<Door>,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    /// The address the client reached; passive ports listen there.
    pub(super) local: SocketAddr,
    /// Shared with the storage backend.
    pub(super) exchange: Arc<Exchange>,
    pub(super) login: Arc<Login>,
    /// Started with the first password: who never logs in costs no engine.
    pub(super) engine: Option<Engine>,
    pub(super) protection: Protection,
    /// Name of the last USER, until PASS.
    pub(super) user: Option<String>,
    pub(super) login_failures: u32,
    pub(super) working_directory: VirtualPath,
    /// REST marker for the next transfer.
    pub(super) restart: u64,
    pub(super) rename_source: Option<VirtualPath>,
    pub(super) facts: Facts,
    /// What HASH computes (OPTS HASH).
    pub(super) hash_algorithm: ChecksumAlgorithm,
    /// First and last byte for the next HASH (RANG).
    pub(super) range: Option<(u64, u64)>,
    /// Longest wait for a command: the server's limit, or less by SITE IDLE.
    pub(super) idle: Duration,
    /// Unknown commands before login.
    pub(super) strange_commands: u32,
    /// EPSV ALL was said (RFC 2428 §4).
    pub(super) extended_only: bool,
    pub(super) passive: Option<PassivePort>,
    /// Lines that came while a transfer ran.
    pub(super) queue: VecDeque<LineEvent>,
    connected: Instant,
    pub(super) last_command: Instant,
}

/// TLS on this session's connections (RFC 2228, RFC 4217).
#[derive(Clone, Copy, Debug)]
pub(super) struct Protection {
    /// The control connection is under TLS.
    pub(super) encrypted: bool,
    /// PBSZ came, or is implied (implicit TLS).
    pub(super) buffer_size_set: bool,
    /// Data connections use TLS (PROT P).
    pub(super) private: bool,
}

/// What follows a command.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this final reply.
    Answer(Reply),
    /// Everything is sent; this was the final code.
    Answered(u16),
    /// Send this 234 and begin TLS; data connections start private or not.
    Upgrade(Reply, bool),
    /// Send this 200 and end TLS on the control connection.
    Downgrade(Reply),
    /// Send this and end the session.
    Farewell(Reply),
    /// The client is gone.
    Gone,
}

impl Session {
    pub(super) fn new(
        peer: SocketAddr,
        local: SocketAddr,
        door: Arc<Door>,
        shared: Arc<Shared>,
    ) -> Self {
        let exchange = Arc::new(Exchange::default());
        let login = Login::new(Arc::clone(&shared.surroundings), Arc::clone(&exchange));
        let idle = shared.timeouts.idle;
        // Implicit TLS: as after AUTH TLS, PBSZ 0 and PROT P (C22).
        let implicit = door.config.mode == Mode::Implicit;
        Self {
            door,
            shared,
            peer,
            local,
            exchange,
            login: Arc::new(login),
            engine: None,
            protection: Protection {
                encrypted: implicit,
                buffer_size_set: implicit,
                private: implicit,
            },
            user: None,
            login_failures: 0,
            working_directory: VirtualPath::root(),
            restart: 0,
            rename_source: None,
            facts: Facts::default(),
            hash_algorithm: ChecksumAlgorithm::Sha256,
            range: None,
            idle,
            strange_commands: 0,
            extended_only: false,
            passive: None,
            queue: VecDeque::new(),
            connected: Instant::now(),
            last_command: Instant::now(),
        }
    }

    /// The logged-in account's files; `None` before login.
    pub(super) fn view(&self) -> Option<&Arc<View>> {
        self.exchange.view()
    }

    /// After AUTH: whatever was said in clear is forgotten (S2, S3).
    pub(super) fn begin_tls(&mut self, private: bool) {
        self.protection = Protection {
            encrypted: true,
            buffer_size_set: false,
            private,
        };
        self.user = None;
        self.restart = 0;
        self.rename_source = None;
        self.passive = None;
        self.extended_only = false;
        self.facts = Facts::default();
        self.hash_algorithm = ChecksumAlgorithm::Sha256;
        self.range = None;
    }

    /// After CCC: commands cross in the clear, data stays what it was (RFC 4217 §5).
    pub(super) fn end_tls(&mut self) {
        self.protection.encrypted = false;
        self.protection.buffer_size_set = false;
    }

    /// What some mounted store can do beyond what all can.
    pub(super) fn abilities(&self) -> Abilities {
        self.shared.surroundings.abilities()
    }

    /// When the session ends without another command, and what is said then (A15, B11).
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        let timeouts = &self.shared.timeouts;
        let idle = self.last_command + self.idle;
        let login = self.connected + timeouts.login;
        if self.view().is_none() && login < idle {
            (login, "Login took too long")
        } else {
            (idle, "Idle for too long")
        }
    }

    /// Takes or forgets what REST and RNFR left, as the command at hand demands (G12, G13, J10).
    pub(super) fn apply_markers(&mut self, restart: MarkerEffect, rename: MarkerEffect) -> Markers {
        let mut markers = Markers::default();
        if restart != MarkerEffect::Keep {
            let marker = std::mem::take(&mut self.restart);
            if restart == MarkerEffect::Take {
                markers.restart = marker;
            }
        }
        if rename != MarkerEffect::Keep {
            let source = self.rename_source.take();
            if rename == MarkerEffect::Take {
                markers.rename_source = source;
            }
        }
        markers
    }

    /// Takes or forgets what RANG left.
    pub(super) fn apply_range(&mut self, effect: MarkerEffect) -> Option<(u64, u64)> {
        match effect {
            MarkerEffect::Keep => None,
            MarkerEffect::Take => self.range.take(),
            MarkerEffect::Clear => {
                self.range = None;
                None
            }
        }
    }

    /// As after a command that is none: REST and RNFR are forgotten.
    pub(super) fn forget_pending(&mut self) {
        self.restart = 0;
        self.rename_source = None;
        self.range = None;
    }

    pub(super) fn count(&self, verb: &'static str, code: u16) {
        self.shared.metrics.count_command(verb, code);
    }
}

/// What earlier commands left for this one.
#[derive(Debug, Default)]
pub(super) struct Markers {
    pub(super) restart: u64,
    pub(super) rename_source: Option<VirtualPath>,
}
