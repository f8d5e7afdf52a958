//! Which control session a TLS session belongs to.
//!
//! Every ticket and every entry of the session cache carries the [`Token`] of the control session that
//! it was made for, on the control connection and on its data connections alike: a client may resume
//! the newest one it has, or the first one again and again, and both lead back. rustls hands through
//! application data of tickets only in TLS 1.3, so the token travels one level below, where 1.2
//! tickets, 1.3 tickets and session ids look the same: [`Tags`] stand between rustls and the keys.
//!
//! The tags also decide, before the handshake goes on, what is resumed at all:
//!
//! | a data connection offers a session of | then |
//! | --- | --- |
//! | its own control session, or the one that this resumed | resumed |
//! | another session of the same account from the same address | resumed: parallel transfers share one cache |
//! | a live session of somebody else | 522 and a security event |
//! | a session that is over, another process | a full handshake, as if nothing had been offered |

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{
        NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
    },
};

use crate::config;

/// Sessions in the TLS 1.2 cache, about 200 bytes each: curl before 8.x sends no ticket extension.
const CACHED_SESSIONS: usize = 16_384;
/// Control sessions that are over and still known, so that their client's next one can resume what
/// the client kept.
const ENDED_SESSIONS: usize = 4_096;
const TOKEN_BYTES: usize = 16;

/// Names one control session inside its tickets and cache entries. Never leaves the server readable.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token([u8; TOKEN_BYTES]);

/// The resumption of one listener. Outlives every reload of certificates.
#[derive(Debug)]
pub(super) struct Resumption {
    mode: config::Resumption,
    /// `None` where nobody can resume.
    keys: Option<Keys>,
    /// Held over no I/O.
    sessions: Mutex<Sessions>,
}

#[derive(Debug)]
struct Keys {
    ticketer: Arc<dyn ProducesTickets>,
    cache: Arc<dyn StoresServerSessions>,
}

/// Who logged in on which control session. As many live ones as there are connections, and
/// [`ENDED_SESSIONS`].
#[derive(Debug, Default)]
struct Sessions {
    owners: HashMap<Token, Owner>,
    /// Oldest first.
    ended: VecDeque<Token>,
}

#[derive(Debug)]
struct Owner {
    account: String,
    address: IpAddr,
    live: bool,
}

/// What rustls resumes with on one connection.
#[derive(Clone, Debug)]
pub(super) struct Tags(Arc<Tagging>);

#[derive(Debug)]
struct Tagging {
    resumption: Arc<Resumption>,
    /// Goes into everything made on this connection.
    token: Token,
    side: Side,
    offered: Mutex<Offered>,
}

#[derive(Debug)]
enum Side {
    Control { may_resume: bool },
    Data { parent: Option<Token> },
}

/// What the client offered to resume.
#[derive(Debug, Default)]
struct Offered {
    /// Of the session that rustls was given last.
    token: Option<Token>,
    /// A session of somebody else was among them.
    foreign: bool,
    /// A data connection resumes with TLS 1.2: it gets no new ticket.
    keeps_its_ticket: bool,
}

impl Resumption {
    pub(super) fn new(mode: config::Resumption) -> Result<Self, rustls::Error> {
        let keys = match mode {
            config::Resumption::Disabled => None,
            config::Resumption::Enabled | config::Resumption::Enforced => Some(Keys {
                ticketer: aws_lc_rs::Ticketer::new()?,
                cache: ServerSessionMemoryCache::new(CACHED_SESSIONS),
            }),
        };
        Ok(Self {
            mode,
            keys,
            sessions: Mutex::default(),
        })
    }

    pub(super) fn mode(&self) -> config::Resumption {
        self.mode
    }

    /// Tags of a new control session. Whoever resumes skips the verification of client certificates,
    /// so that revocation would come too late: `may_resume` is `false` where they are asked for.
    pub(super) fn for_control(self: &Arc<Self>, may_resume: bool) -> Tags {
        self.tags(Token::random(), Side::Control { may_resume })
    }

    /// Tags of a data connection of the session `token`, whose control connection resumed `parent`.
    pub(super) fn for_data(self: &Arc<Self>, token: Token, parent: Option<Token>) -> Tags {
        self.tags(token, Side::Data { parent })
    }

    fn tags(self: &Arc<Self>, token: Token, side: Side) -> Tags {
        Tags(Arc::new(Tagging {
            resumption: Arc::clone(self),
            token,
            side,
            offered: Mutex::default(),
        }))
    }

    /// The session `token` is now this account's, from this address.
    pub(super) fn log_in(&self, token: Token, account: &str, address: IpAddr) {
        let owner = Owner {
            account: account.to_owned(),
            address: address.to_canonical(),
            live: true,
        };
        self.sessions().owners.insert(token, owner);
    }

    /// The session is over.
    pub(super) fn end(&self, token: Token) {
        let mut sessions = self.sessions();
        let Some(owner) = sessions.owners.get_mut(&token) else {
            return;
        };
        owner.live = false;
        sessions.ended.push_back(token);
        if sessions.ended.len() > ENDED_SESSIONS
            && let Some(oldest) = sessions.ended.pop_front()
        {
            sessions.owners.remove(&oldest);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an offered session is to a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// Resumed.
    Ours,
    /// A live session of somebody else.
    Foreign,
    /// Not known, or over.
    Stale,
}

impl Sessions {
    fn relation(&self, ours: Token, parent: Option<Token>, offered: Token) -> Relation {
        // The control connection has resumed the parent: its client holds the very same secret.
        if offered == ours || parent == Some(offered) {
            return Relation::Ours;
        }
        let Some(other) = self.owners.get(&offered) else {
            return Relation::Stale;
        };
        let same = self
            .owners
            .get(&ours)
            .is_some_and(|own| own.account == other.account && own.address == other.address);
        match (same, other.live) {
            (true, _) => Relation::Ours,
            (false, true) => Relation::Foreign,
            (false, false) => Relation::Stale,
        }
    }
}

impl Tags {
    pub(super) fn token(&self) -> Token {
        self.0.token
    }

    /// `config` with these tags.
    pub(super) fn apply(&self, config: &ServerConfig) -> Arc<ServerConfig> {
        let mut config = config.clone();
        if self.0.resumption.keys.is_some() {
            config.ticketer = Arc::clone(&self.0) as _;
            config.session_storage = Arc::clone(&self.0) as _;
        } else {
            // Without a ticketer rustls would keep TLS 1.3 sessions here.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Arc::new(config)
    }

    /// The session that rustls was given; it did resume it if the handshake says so.
    pub(super) fn offered(&self) -> Option<Token> {
        self.0.offered().token
    }

    /// Whether a session of somebody else was offered.
    pub(super) fn was_foreign(&self) -> bool {
        self.0.offered().foreign
    }
}

impl Tagging {
    fn offered(&self) -> MutexGuard<'_, Offered> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session with the tag; `None` on a connection that is about to be refused, whose client must
    /// not carry it into its own control session's next data connection.
    fn tag(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let refused = self.offered().foreign;
        (!refused).then(|| [self.token.0.as_slice(), plain].concat())
    }

    /// The session without its tag, if it may be resumed here.
    fn admit(&self, tagged: &[u8]) -> Option<Vec<u8>> {
        let (token, plain) = tagged.split_first_chunk::<TOKEN_BYTES>()?;
        let token = Token(*token);
        let mut offered = self.offered();
        match self.side {
            Side::Control { may_resume: false } => return None,
            Side::Control { may_resume: true } => {}
            Side::Data { parent } => {
                let sessions = self.resumption.sessions();
                match sessions.relation(self.token, parent, token) {
                    Relation::Ours => {}
                    Relation::Stale => return None,
                    Relation::Foreign => {
                        offered.foreign = true;
                        return None;
                    }
                }
            }
        }
        offered.token = Some(token);
        // OpenSSL drops the session it resumed when a new ticket arrives on TLS 1.2, and PHP and Ruby never
        // learn of the new one: their next data connection could not resume.
        offered.keeps_its_ticket =
            matches!(self.side, Side::Data { .. }) && is_tls12_session(plain);
        Some(plain.to_vec())
    }
}

impl ProducesTickets for Tagging {
    /// rustls asks once more after it took the client's ticket, whether to send a new one.
    fn enabled(&self) -> bool {
        self.resumption.keys.is_some() && !self.offered().keeps_its_ticket
    }

    fn lifetime(&self) -> u32 {
        let keys = self.resumption.keys.as_ref();
        keys.map_or(0, |keys| keys.ticketer.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.resumption.keys.as_ref()?;
        keys.ticketer.encrypt(&self.tag(plain)?)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let keys = self.resumption.keys.as_ref()?;
        self.admit(&keys.ticketer.decrypt(ticket)?)
    }
}

impl StoresServerSessions for Tagging {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        let keys = self.resumption.keys.as_ref();
        keys.zip(self.tag(&session))
            .is_some_and(|(keys, tagged)| keys.cache.put(id, tagged))
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        let keys = self.resumption.keys.as_ref()?;
        self.admit(&keys.cache.get(id)?)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        // Only TLS 1.3 without tickets takes, which does not happen here; clients resume many times.
        self.get(id)
    }

    fn can_cache(&self) -> bool {
        // Without an id in the answer a refused client keeps the session it had.
        self.resumption.keys.is_some() && !self.offered().foreign
    }
}

/// Whether rustls wrote this session for TLS 1.2: the server's name, if any, comes first, then the version.
fn is_tls12_session(plain: &[u8]) -> bool {
    let version = match plain {
        [0, version @ ..] => version,
        [1, length, rest @ ..] => rest.get(usize::from(*length)..).unwrap_or_default(),
        _ => &[],
    };
    version.starts_with(&[0x03, 0x03])
}

impl Token {
    fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn resumption() -> Arc<Resumption> {
        Arc::new(Resumption::new(config::Resumption::Enabled).unwrap())
    }

    fn session(resumption: &Arc<Resumption>, account: &str, address: IpAddr) -> Tags {
        let tags = resumption.for_control(true);
        resumption.log_in(tags.token(), account, address);
        tags
    }

    /// What a data connection of `session` makes of a ticket: resumed, and whether it was foreign.
    fn present(
        resumption: &Arc<Resumption>,
        session: &Tags,
        parent: Option<Token>,
        ticket: &[u8],
    ) -> (bool, bool) {
        let data = resumption.for_data(session.token(), parent);
        let resumed = data.0.decrypt(ticket).as_deref() == Some(b"secret");
        (resumed, data.was_foreign())
    }

    #[test]
    fn tickets_and_session_ids_lead_back_to_their_control_session() {
        let resumption = resumption();
        let alice = session(&resumption, "alice", HERE);
        let ticket = alice.0.encrypt(b"secret").unwrap();
        assert_eq!(present(&resumption, &alice, None, &ticket), (true, false));
        // A ticket of a data connection is worth what one of the control connection is.
        let data = resumption.for_data(alice.token(), None);
        let ticket = data.0.encrypt(b"secret").unwrap();
        assert_eq!(present(&resumption, &alice, None, &ticket), (true, false));
        assert!(alice.0.put(vec![1], b"secret".to_vec()));
        for _ in 0..2 {
            assert_eq!(data.0.get(&[1]).as_deref(), Some(b"secret".as_slice()));
        }
        let bob = session(&resumption, "bob", HERE);
        let data = resumption.for_data(bob.token(), None);
        assert_eq!(data.0.get(&[1]), None);
        assert!(data.was_foreign());
    }

    #[test]
    fn siblings_share_sessions_and_strangers_do_not() {
        let resumption = resumption();
        let alice = session(&resumption, "alice", HERE);
        let ticket = alice.0.encrypt(b"secret").unwrap();
        let sibling = session(&resumption, "alice", HERE);
        assert_eq!(present(&resumption, &sibling, None, &ticket), (true, false));
        for (account, address) in [("alice", THERE), ("bob", HERE)] {
            let other = session(&resumption, account, address);
            assert_eq!(present(&resumption, &other, None, &ticket), (false, true));
            // Whose control connection resumed it holds its secret.
            let parent = Some(alice.token());
            assert_eq!(present(&resumption, &other, parent, &ticket), (true, false));
        }
    }

    #[test]
    fn ended_sessions_are_their_owners_and_nobodys_event() {
        let resumption = resumption();
        let alice = session(&resumption, "alice", HERE);
        let ticket = alice.0.encrypt(b"secret").unwrap();
        resumption.end(alice.token());
        let next = session(&resumption, "alice", HERE);
        assert_eq!(present(&resumption, &next, None, &ticket), (true, false));
        let bob = session(&resumption, "bob", HERE);
        assert_eq!(present(&resumption, &bob, None, &ticket), (false, false));
        for _ in 0..ENDED_SESSIONS {
            resumption.end(session(&resumption, "carol", HERE).token());
        }
        assert_eq!(present(&resumption, &next, None, &ticket), (false, false));
        let sessions = resumption.sessions();
        assert_eq!(sessions.owners.len(), ENDED_SESSIONS + 2);
        assert_eq!(sessions.ended.len(), ENDED_SESSIONS);
    }

    #[test]
    fn resumed_tls12_data_connection_gets_no_new_ticket() {
        let resumption = resumption();
        let alice = session(&resumption, "alice", HERE);
        for (session, again) in [(&[0, 3, 3, 9], false), (&[0, 3, 4, 9], true)] {
            let ticket = alice.0.encrypt(session).unwrap();
            let data = resumption.for_data(alice.token(), None);
            assert!(data.0.enabled());
            assert!(data.0.decrypt(&ticket).is_some());
            assert_eq!(data.0.enabled(), again, "{session:?}");
            // The control connection of another session is new to its client in any case.
            let control = resumption.for_control(true);
            assert!(control.0.decrypt(&ticket).is_some());
            assert!(control.0.enabled());
        }
    }

    #[test]
    fn version_of_a_session_is_found_behind_the_servers_name() {
        let named = |name: &[u8], rest: &[u8]| {
            let length = u8::try_from(name.len()).unwrap();
            [&[1, length], name, rest].concat()
        };
        for (plain, is_tls12) in [
            (vec![0, 3, 3, 1], true),
            (vec![0, 3, 4, 1], false),
            (named(b"localhost", &[3, 3]), true),
            (named(b"localhost", &[3, 4]), false),
            // A name that looks like a version, and what rustls never writes.
            (named(&[3, 3], &[3, 4]), false),
            (named(b"localhost", &[3]), false),
            (vec![1, 200, 3, 3], false),
            (vec![2, 3, 3], false),
            (vec![], false),
        ] {
            assert_eq!(is_tls12_session(&plain), is_tls12, "{plain:?}");
        }
    }

    #[test]
    fn nothing_made_elsewhere_is_resumed() {
        let (one, other) = (resumption(), resumption());
        let ticket = session(&one, "alice", HERE).0.encrypt(b"secret").unwrap();
        let alice = session(&other, "alice", HERE);
        assert_eq!(present(&other, &alice, None, &ticket), (false, false));
        assert_eq!(present(&other, &alice, None, b"garbage"), (false, false));
        let strict = one.for_control(false);
        assert_eq!(strict.0.decrypt(&ticket), None);
        let disabled = Arc::new(Resumption::new(config::Resumption::Disabled).unwrap());
        let tags = disabled.for_control(true);
        assert!(!ProducesTickets::enabled(&*tags.0) && !tags.0.can_cache());
        assert_eq!(tags.0.encrypt(b"secret"), None);
    }
}
