//! [`Session`]: what the edge remembers of one connection.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, SystemTime},
};

use encoding_rs::{Encoding, UTF_8};
use tokio::time::Instant;

use super::{
    Arrival, Door, Shared,
    command::{ChecksumAlgorithm, MarkerEffect},
    learn::{Learned, Quirk},
    line::LineEvent,
    network::canonical,
    pace::{Buckets, Pacing},
    passive::{EarlyTls, Holder, PassivePort, Reached},
    registry::Visit,
    reply::Reply,
    spans::Spans,
    term::{self, Term},
    tls::SessionTls,
    usage::{Seat, TransferSeat},
};
use crate::{
    access::{Account, VirtualPath},
    auth::shared::{Full, SharedSeat},
    config::{Mode, Profile, Rates},
    engine::{Engine, Login},
    observe::metrics::QuirkLabels,
    store::{Abilities, View, exchange::Exchange, listing::Facts},
};

/// State of one connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) door: Arc<Door>,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    /// What others see of the session.
    pub(super) visit: Visit,
    /// Its place in the log and in a collector's traces.
    pub(super) spans: Spans,
    /// Our side of the control connection.
    local: SocketAddr,
    /// What the client connected to, where a PROXY header said so.
    destination: Option<SocketAddr>,
    /// Shared with the storage backend.
    pub(super) exchange: Arc<Exchange>,
    pub(super) login: Arc<Login>,
    /// Started with the first password: who never logs in costs no engine.
    pub(super) engine: Option<Engine>,
    pub(super) protection: Protection,
    /// Of the control connection; `None` in clear. Data connections are made with it.
    pub(super) tls: Option<Arc<SessionTls>>,
    /// Name of the last USER, until PASS.
    pub(super) user: Option<String>,
    /// How the login came about.
    pub(super) logged_in_by: Option<Factor>,
    /// After login: until when, if anything ends the account's time.
    pub(super) term: Option<Term>,
    pub(super) login_failures: u32,
    /// After login: its place among the user's sessions.
    seat: Option<Seat>,
    /// And among those on all replicas; given back with the session.
    shared_seat: Option<SharedSeat>,
    /// Of the user, at once.
    most_transfers: Option<usize>,
    pacing: Pacing,
    pub(super) working_directory: VirtualPath,
    /// REST marker for the next transfer.
    pub(super) restart: u64,
    pub(super) rename_source: Option<VirtualPath>,
    /// Bytes that ALLO announced for the next upload.
    pub(super) allocation: Option<u64>,
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
    /// The last passive port was asked for by EPSV.
    pub(super) extended: bool,
    /// What the device needs: the listener's profile, after login the user's.
    pub(super) profile: Arc<Profile>,
    profile_is_final: bool,
    /// What OPTS UTF8 ON chose instead of the profile's charset.
    pub(super) charset_said: Option<&'static Encoding>,
    learned: Learned,
    /// Lines that came while a transfer ran.
    pub(super) queue: VecDeque<LineEvent>,
    connected: Instant,
    pub(super) last_command: Instant,
}

/// What a login was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// PASS.
    Password,
    /// A certificate at USER, without a password.
    Certificate,
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

impl Next {
    /// Code of the final reply, if there is one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Answer(reply)
            | Self::Upgrade(reply, _)
            | Self::Downgrade(reply)
            | Self::Farewell(reply) => Some(reply.code()),
            Self::Answered(code) => Some(*code),
            Self::Gone => None,
        }
    }
}

impl Session {
    #[allow(
        clippy::too_many_arguments,
        reason = "everything that a session begins with, once"
    )]
    pub(super) fn new(
        arrival: Arrival,
        local: SocketAddr,
        door: Arc<Door>,
        shared: Arc<Shared>,
        tls: Option<SessionTls>,
        visit: Visit,
        spans: Spans,
    ) -> Self {
        let exchange = Arc::new(Exchange::default());
        let login = Login::new(Arc::clone(&shared.surroundings), Arc::clone(&exchange));
        let idle = shared.timeouts.idle;
        // Implicit TLS: as after AUTH TLS, PBSZ 0 and PROT P (C22).
        let implicit = door.config.mode == Mode::Implicit;
        let profile = Arc::clone(&door.config.profile);
        Self {
            door,
            shared,
            peer: arrival.peer,
            visit,
            spans,
            local: canonical(local),
            destination: arrival.destination,
            exchange,
            login: Arc::new(login),
            engine: None,
            protection: Protection {
                encrypted: implicit,
                buffer_size_set: implicit,
                private: implicit,
            },
            tls: tls.map(Arc::new),
            user: None,
            logged_in_by: None,
            term: None,
            login_failures: 0,
            seat: None,
            shared_seat: None,
            most_transfers: None,
            pacing: Pacing::default(),
            working_directory: VirtualPath::root(),
            restart: 0,
            rename_source: None,
            allocation: None,
            facts: Facts::default(),
            hash_algorithm: ChecksumAlgorithm::Sha256,
            range: None,
            idle,
            strange_commands: 0,
            extended_only: false,
            passive: None,
            extended: false,
            profile,
            profile_is_final: false,
            charset_said: None,
            learned: Learned::default(),
            queue: VecDeque::new(),
            connected: Instant::now(),
            last_command: Instant::now(),
        }
    }

    /// The logged-in account's files; `None` before login.
    pub(super) fn view(&self) -> Option<&Arc<View>> {
        self.exchange.view()
    }

    /// The addresses of the control connection.
    pub(super) fn reached(&self) -> Reached {
        Reached {
            client: self.peer.ip(),
            local: self.local.ip(),
            through: self.destination.map(|address| address.ip()),
        }
    }

    /// Whether the client speaks IPv4, as far as anybody knows.
    pub(super) fn is_ipv4(&self) -> bool {
        let reached = self.destination.unwrap_or(self.local);
        reached.ip().to_canonical().is_ipv4()
    }

    /// Whether EPSV works: on IPv6 there is nothing else.
    pub(super) fn offers_epsv(&self) -> bool {
        self.profile.epsv || !self.is_ipv4()
    }

    /// Where passive ports listen: where the control connection arrived, as routes and firewalls
    /// know it. Clients that reach us past the balancer may arrive anywhere.
    ///
    /// With the interface of a link-local address, and a port that means nothing.
    pub(super) fn passive_address(&self) -> SocketAddr {
        if self.destination.is_none() || self.door.network.data_is_proxied() {
            return self.local;
        }
        if self.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        }
    }

    /// How a client is served that wants the data handshake before its command; `None` at level C.
    pub(super) fn early_tls(&self) -> Option<EarlyTls> {
        let tls = self.tls.clone().filter(|_| self.protection.private)?;
        let handshake = self.shared.timeouts.tls_handshake;
        Some(EarlyTls { tls, handshake })
    }

    /// Charset of names in this session.
    pub(super) fn charset(&self) -> &'static Encoding {
        self.charset_said.unwrap_or(self.profile.name_charset)
    }

    /// After login: the user's profile, if it has one.
    pub(super) fn adopt_profile(&mut self) {
        let Some(view) = self.exchange.view() else {
            return;
        };
        if std::mem::replace(&mut self.profile_is_final, true) {
            return;
        }
        let name = view.account().profile.as_deref();
        if let Some(profile) = name.and_then(|name| self.shared.profiles.get(name)) {
            self.profile = Arc::clone(profile);
        }
    }

    /// Notes that the device would have needed a switch that is off.
    pub(super) fn learn(&self, quirk: Quirk) {
        if !self.door.config.learn || !self.learned.insert(quirk) {
            return;
        }
        let label = quirk.label();
        tracing::info!(quirk = label, "device would have needed a switch");
        let labels = QuirkLabels {
            listener: self.door.config.name.to_string(),
            quirk: label,
        };
        self.shared
            .metrics
            .learned_quirks
            .get_or_create(&labels)
            .inc();
    }

    /// Notes a refused line whose bytes are no UTF-8 (and no Telnet, which begins with 0xFF).
    pub(super) fn learn_charset(&self, line: &[u8]) {
        let foreign = std::str::from_utf8(line).is_err() && !line.contains(&0xFF);
        if foreign && self.charset() == UTF_8 {
            self.learn(Quirk::NameCharset);
        }
    }

    /// Whose share of the passive ports the session's port belongs to.
    pub(super) fn holder(&self) -> Holder {
        match self.view() {
            Some(view) => Holder::User(view.account().name.clone()),
            None => Holder::Address(self.peer.ip()),
        }
    }

    /// After AUTH: whatever was said in clear is forgotten (S2, S3).
    pub(super) fn begin_tls(&mut self, tls: SessionTls, private: bool) {
        self.tls = Some(Arc::new(tls));
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
        self.charset_said = None;
        self.hash_algorithm = ChecksumAlgorithm::Sha256;
        self.range = None;
    }

    /// After a login: the TLS sessions of this connection are now the account's.
    pub(super) fn claim_tls(&self) {
        if let (Some(tls), Some(view)) = (&self.tls, self.view()) {
            tls.log_in(&view.account().name, self.peer.ip());
        }
    }

    /// After a login: notes until when the account may be used.
    pub(super) fn note_term(&mut self, account: &Account) {
        let grace = self.shared.timeouts.drain;
        self.term = Term::of(&account.conditions, SystemTime::now(), grace);
    }

    /// Whether the account's time is over.
    pub(super) fn is_over(&self) -> bool {
        let term = self.term.as_ref();
        term.is_some_and(|term| term.is_over(SystemTime::now()))
    }

    /// After a login: takes the session's place among the user's, here and where replicas count
    /// together; `false` if there is none.
    pub(super) async fn sit(&mut self, account: &Account) -> bool {
        let (limits, bandwidth) = (&self.shared.limits, &self.shared.bandwidth);
        let own = account.limits;
        let most = own.sessions.or(limits.sessions_per_user);
        let rate = |own: Option<u64>, default| own.and_then(NonZeroU64::new).or(default);
        let rates = Rates {
            upload: rate(own.upload_bytes_per_second, bandwidth.user.upload),
            download: rate(own.download_bytes_per_second, bandwidth.user.download),
        };
        let Some((seat, of_user)) = self.shared.usage.sit(&account.name, most, rates) else {
            return false;
        };
        if let (Some(counters), Some(most)) = (&self.shared.counters, most) {
            match counters.begin_session(&account.name, most).await {
                Ok(place) => self.shared_seat = place,
                Err(Full) => return false,
            }
        }
        let of_session = Buckets::new(bandwidth.session);
        self.pacing = Pacing::new([&of_session, &of_user, &self.door.buckets]);
        self.most_transfers = own.transfers.or(limits.transfers_per_user);
        self.seat = Some(seat);
        true
    }

    /// Gives up what the session has of its user's: who has heard goodbye may come again at once, although
    /// the connection takes a moment more to end.
    pub(super) fn leave(&mut self) {
        self.seat = None;
        self.shared_seat = None;
        self.passive = None;
    }

    /// How fast data connections of this session may be.
    pub(super) fn pacing(&self) -> Pacing {
        self.pacing.clone()
    }

    /// The place of a file transfer among the user's, which has it until it is dropped.
    pub(super) fn begin_transfer(&self) -> Result<TransferSeat, Reply> {
        let most = self.most_transfers;
        let seat = self.seat.as_ref().and_then(|seat| seat.transfer(most));
        seat.ok_or_else(|| {
            self.shared.metrics.transfers_refused.inc();
            tracing::warn!("the user has its share of transfers");
            Reply::new(450, "Too many transfers of this user, try again later")
        })
    }

    /// What the client's certificate says about it; empty without one.
    pub(super) fn identities(&self) -> Vec<String> {
        let tls = self.tls.as_ref();
        tls.map(|tls| tls.identities()).unwrap_or_default()
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
        let term = self.term.as_ref().and_then(Term::timer);
        if let Some(end) = term.filter(|end| *end < idle) {
            return (end, term::FAREWELL);
        }
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
