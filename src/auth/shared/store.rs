//! [`Store`]: what is asked of Redis or Valkey.
//!
//! Every request is one command or one script, so that replicas never see each other half done. The
//! store's own clock decides what has expired.

use std::{io, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    auth::bans::{NameDigest, Subject},
    config,
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
    client: Client,
    prefix: String,
    deadline: Duration,
}

impl Store {
    /// # Errors
    /// Only for a URL that the configuration should not have let through.
    pub(super) fn new(settings: &config::SharedCounters) -> RedisResult<Self> {
        Ok(Self {
            client: Client::open(settings.url.expose())?,
            prefix: settings.prefix.clone(),
            deadline: settings.deadline,
        })
    }

    /// A connection, driven by a task that ends with its last handle.
    pub(super) async fn connect(&self, tasks: &TaskTracker) -> RedisResult<MultiplexedConnection> {
        let connect = async {
            let info = self.client.get_connection_info();
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.deadline));
            let settings = info.redis_settings();
            // The handshake needs the driver, which is there only after it: `new_with_config` does both.
            match info.addr() {
                ConnectionAddr::Tcp(host, port) => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    let new = MultiplexedConnection::new_with_config(settings, stream, config);
                    let (connection, driver) = new.await?;
                    tasks.spawn(driver);
                    Ok(connection)
                }
                ConnectionAddr::Unix(path) => {
                    let stream = UnixStream::connect(path).await?;
                    let new = MultiplexedConnection::new_with_config(settings, stream, config);
                    let (connection, driver) = new.await?;
                    tasks.spawn(driver);
                    Ok(connection)
                }
                _ => Err(RedisError::from((
                    ErrorKind::InvalidClientConfig,
                    "only redis:// and unix:// are supported",
                ))),
            }
        };
        timeout(self.deadline, connect)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
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

    /// Everybody who is banned, and for how long still.
    pub(super) async fn bans(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Vec<(Subject, Duration)>> {
        let bans: Vec<(String, u64)> = script(BANS_NOW, &self.key("bans"))
            .arg(BANS)
            .query_async(connection)
            .await?;
        let parsed = bans.into_iter().filter_map(|(subject, left)| {
            // What another version wrote and this one does not know stands for nobody here.
            Some((subject.parse().ok()?, Duration::from_millis(left)))
        });
        Ok(parsed.collect())
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
        format!("{}{name}", self.prefix)
    }

    fn failures(&self, subject: &Subject) -> String {
        format!("{}failures:{subject}", self.prefix)
    }

    fn sessions(&self, user: NameDigest) -> String {
        format!("{}sessions:{user}", self.prefix)
    }
}

/// A script over one key. Sent as a whole: the scripts are short.
fn script(script: &str, key: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
