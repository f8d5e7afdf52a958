//! [`Store`]: what is asked of Redis or Valkey.
//!
//! Every request is one command or one script, so that replicas never see each other half done. The
//! store's own clock decides what has expired.

use std::{io, time::Duration};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::{
    auth::{
        bans::{NameDigest, Subject},
        trust::{Trust, TrustErrors},
    },
    config::{self, RedisServer},
};

/// Bans that are taken over at once.
const BANS: usize = 10_000;

/// KEYS: counter. ARGV: window in milliseconds. The count.
const COUNT_FAILURE: &str = "
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count";

/// KEYS: sessions of a user. ARGV: this session, most, lease in milliseconds. 1 if there was a place.
const BEGIN_SESSION: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";

/// KEYS: sessions of a user. ARGV: this session, lease in milliseconds.
const KEEP_SESSION: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// KEYS: bans. ARGV: most. Subjects and milliseconds left, in turn.
const BANS_NOW: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local bans = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
for i = 2, #bans, 2 do bans[i] = string.format('%.0f', bans[i] - now) end
return bans";

/// KEYS: bans. ARGV: subject, milliseconds left. The longer ban stays.
const BAN: &str = "
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
return redis.call('ZADD', KEYS[1], 'GT', now + ARGV[2], ARGV[1])";

/// How to reach the store, and how its keys begin.
#[derive(Clone, Debug)]
pub(super) struct Store {
    server: RedisServer,
    settings: config::SharedCounters,
}

impl Store {
    /// Tries the files that `settings` name; asks nobody.
    ///
    /// # Errors
    /// Files that are not usable; an URL that the configuration should not have let through.
    pub(super) fn new(settings: &config::SharedCounters) -> Result<Self, TrustErrors> {
        let unusable = || TrustErrors(vec!["shared_counters.url is not usable".to_owned()]);
        let server = RedisServer::parse(settings.url.expose()).ok_or_else(unusable)?;
        if server.tls {
            trust(settings)?;
        }
        Ok(Self {
            server,
            settings: settings.clone(),
        })
    }

    /// A connection, driven by a task that ends with its last handle. The files are read anew each
    /// time: certificates are renewed while the server runs.
    pub(super) async fn connect(&self, tasks: &TaskTracker) -> RedisResult<MultiplexedConnection> {
        let connect = async {
            match self.server.info.addr() {
                ConnectionAddr::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    if self.server.tls {
                        let connector = self.connector().await?;
                        let name = ServerName::try_from(host.clone()).map_err(unusable)?;
                        let stream = connector.connect(name, stream).await?;
                        self.greet(stream, tasks).await
                    } else {
                        self.greet(stream, tasks).await
                    }
                }
                ConnectionAddr::Unix(path) => {
                    self.greet(UnixStream::connect(path).await?, tasks).await
                }
                _ => Err(unusable("neither TCP nor a socket of this machine")),
            }
        };
        timeout(self.settings.deadline, connect)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn connector(&self) -> RedisResult<TlsConnector> {
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || trust(&settings)).await;
        let trust = read.map_err(unusable)?.map_err(unusable)?;
        Ok(TlsConnector::from(trust.config()))
    }

    /// Logs in and chooses the database. The driver is there only afterwards, since the library's
    /// `new_with_config` does both.
    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tasks: &TaskTracker,
    ) -> RedisResult<MultiplexedConnection> {
        let deadline = Some(self.settings.deadline);
        let config = AsyncConnectionConfig::new().set_response_timeout(deadline);
        let settings = self.server.info.redis_settings();
        let new = MultiplexedConnection::new_with_config(settings, stream, config);
        let (connection, driver) = new.await?;
        tasks.spawn(driver);
        Ok(connection)
    }

    /// Failures of a subject within its window, over all replicas, this one included.
    pub(super) async fn count_failure(
        &self,
        connection: &mut MultiplexedConnection,
        subject: &Subject,
        window: Duration,
    ) -> RedisResult<u32> {
        script(COUNT_FAILURE, &self.failures(subject))
            .arg(millis(window))
            .query_async(connection)
            .await
    }

    /// Publishes a ban; the failures behind it are forgotten.
    pub(super) async fn ban(
        &self,
        connection: &mut MultiplexedConnection,
        subject: &Subject,
        left: Duration,
    ) -> RedisResult<()> {
        let _: i64 = script(BAN, &self.key("bans"))
            .arg(subject.to_string())
            .arg(millis(left))
            .query_async(connection)
            .await?;
        let mut forget = redis::cmd("DEL");
        forget.arg(self.failures(subject));
        forget.query_async(connection).await
    }

    pub(super) async fn lift(
        &self,
        connection: &mut MultiplexedConnection,
        subject: &Subject,
    ) -> RedisResult<()> {
        let mut forget = redis::cmd("DEL");
        forget.arg(self.failures(subject));
        let () = forget.query_async(connection).await?;
        let mut lift = redis::cmd("ZREM");
        lift.arg(self.key("bans")).arg(subject.to_string());
        lift.query_async(connection).await
    }

    /// Everybody who is banned, and for how long still; and whether that is everybody.
    pub(super) async fn bans(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<(Vec<(Subject, Duration)>, bool)> {
        let bans: Vec<(String, u64)> = script(BANS_NOW, &self.key("bans"))
            .arg(BANS)
            .query_async(connection)
            .await?;
        let is_whole = bans.len() < BANS;
        let parsed = bans.into_iter().filter_map(|(subject, left)| {
            // What another version wrote and this one does not know stands for nobody here.
            Some((subject.parse().ok()?, Duration::from_millis(left)))
        });
        Ok((parsed.collect(), is_whole))
    }

    /// Takes a place among `most` sessions of a user for the time of `lease`; `false` if there is none.
    pub(super) async fn begin_session(
        &self,
        connection: &mut MultiplexedConnection,
        user: NameDigest,
        session: &str,
        most: usize,
        lease: Duration,
    ) -> RedisResult<bool> {
        script(BEGIN_SESSION, &self.sessions(user))
            .arg(session)
            .arg(most)
            .arg(millis(lease))
            .query_async(connection)
            .await
    }

    pub(super) async fn keep_session(
        &self,
        connection: &mut MultiplexedConnection,
        user: NameDigest,
        session: &str,
        lease: Duration,
    ) -> RedisResult<()> {
        let _: i64 = script(KEEP_SESSION, &self.sessions(user))
            .arg(session)
            .arg(millis(lease))
            .query_async(connection)
            .await?;
        Ok(())
    }

    pub(super) async fn end_session(
        &self,
        connection: &mut MultiplexedConnection,
        user: NameDigest,
        session: &str,
    ) -> RedisResult<()> {
        let mut end = redis::cmd("ZREM");
        end.arg(self.sessions(user)).arg(session);
        end.query_async(connection).await
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.settings.prefix)
    }

    fn failures(&self, subject: &Subject) -> String {
        format!("{}failures:{subject}", self.settings.prefix)
    }

    fn sessions(&self, user: NameDigest) -> String {
        format!("{}sessions:{user}", self.settings.prefix)
    }
}

/// A script over one key. Sent as a whole: the scripts are short.
fn script(script: &str, key: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}

/// Whom it believes, and what it shows.
pub(in crate::auth) fn trust(settings: &config::SharedCounters) -> Result<Trust, TrustErrors> {
    let (ca_file, certificate) = (&settings.ca_file, &settings.client_certificate);
    Trust::open("shared_counters", ca_file.as_ref(), certificate.as_ref())
}

fn unusable(problem: impl std::fmt::Display) -> RedisError {
    let kind = ErrorKind::InvalidClientConfig;
    RedisError::from((kind, "shared_counters", problem.to_string()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
