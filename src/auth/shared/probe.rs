//! [`probe`]: whether the store lets replicas count together, for `causeway check`.

use std::time::Duration;

use redis::RedisResult;
use tokio_util::task::TaskTracker;

use super::store::Store;
use crate::{
    auth::{
        bans::{NameDigest, Subject},
        check::{Finding, nobody},
    },
    config,
};

/// So long what was tried would stay if it could not be taken back.
const BRIEFLY: Duration = Duration::from_secs(1);

/// Does everything that a replica does, about a user that nobody has: an account of the store that may
/// not is found out before it matters.
pub(in crate::auth) async fn probe(settings: &config::SharedCounters) -> Finding {
    let store = Store::new(settings).map_err(|errors| errors.to_string())?;
    match work(&store).await {
        Ok(()) => Ok("counts failures, bans and sessions".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn work(store: &Store) -> RedisResult<()> {
    // The driver ends with the connection.
    let connection = &mut store.connect(&TaskTracker::new()).await?;
    let name = nobody();
    let (user, subject) = (NameDigest::of(&name), Subject::user(&name));
    store.count_failure(connection, &subject, BRIEFLY).await?;
    store.ban(connection, &subject, BRIEFLY).await?;
    store.bans(connection).await?;
    store.lift(connection, &subject).await?;
    let session = "check";
    store
        .begin_session(connection, user, session, 1, BRIEFLY)
        .await?;
    store
        .keep_session(connection, user, session, BRIEFLY)
        .await?;
    store.end_session(connection, user, session).await
}
