//! [`Delivery`]: from the spool to the receiver, signed, again and again until it is taken.

use std::{
    error::Error as _,
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64, Encoding as _};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::{task::spawn_blocking, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Hook,
    spool::{Attempts, Turn, age},
};
use crate::{
    config::{Secret, Webhook},
    observe::authorities,
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How the base64 form of a key begins (standardwebhooks.com).
const BASE64_KEY: &str = "whsec_";

/// Who is told, and how.
#[derive(Debug)]
pub(super) struct Delivery {
    client: reqwest::Client,
    url: Secret,
    secret: Option<Secret>,
    give_up: Duration,
    concurrency: usize,
}

impl Delivery {
    pub(super) fn new(hook: &Webhook) -> io::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("causeway/", env!("CARGO_PKG_VERSION")))
            .timeout(hook.timeout);
        if let Some(file) = &hook.ca_file {
            let name = |error| io::Error::other(format!("ca_file {}: {error}", file.display()));
            for authority in authorities::read(file).map_err(name)? {
                builder = builder.add_root_certificate(authority);
            }
        }
        Ok(Self {
            client: builder.build().map_err(io::Error::other)?,
            url: hook.url.clone(),
            secret: hook.secret.clone(),
            give_up: hook.give_up,
            concurrency: hook.concurrency,
        })
    }

    /// One try.
    ///
    /// # Errors
    /// Why it was not taken, without the address, which may hold a password.
    async fn post(&self, id: &str, body: String) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.unwrap_or_default().as_secs().to_string();
        let mut request = self
            .client
            .post(self.url.expose())
            .header("content-type", "application/cloudevents+json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp);
        if let Some(secret) = &self.secret {
            let signature = sign(secret, id, &timestamp, &body)?;
            request = request.header("webhook-signature", signature);
        }
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| reason(&error.without_url()))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("status {}", answer.status().as_u16()))
        }
    }
}

/// `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body` (standardwebhooks.com).
fn sign(secret: &Secret, id: &str, timestamp: &str, body: &str) -> Result<String, String> {
    let key = match secret.expose().strip_prefix(BASE64_KEY) {
        Some(text) => Base64::decode_vec(text).map_err(|_| "the secret is no base64".to_owned())?,
        None => secret.expose().as_bytes().to_vec(),
    };
    // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    for part in [id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    let signature = Base64::encode_string(&mac.finalize().into_bytes());
    Ok(format!("v1,{signature}"))
}

impl Hook {
    /// Delivers until `stop`. What is on its way then may arrive, and is delivered again.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            let mut rest = None;
            while running.len() < self.delivery.concurrency {
                match self.spool.next(Instant::now()) {
                    Turn::Deliver(name, attempts) => running.push(self.attempt(name, attempts)),
                    Turn::Rest(until) => {
                        rest = until;
                        break;
                    }
                }
            }
            let due = async {
                match rest {
                    Some(rest) => sleep_until(rest.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = running.next() => {}
                () = self.spool.arrived.notified(), if running.len() < self.delivery.concurrency => {}
                () = due => {}
            }
        }
    }

    /// One try of one event, and what follows from it.
    async fn attempt(&self, name: String, attempts: Attempts) {
        let (spool, file) = (Arc::clone(&self.spool), name.clone());
        let body = match spawn_blocking(move || spool.read(&file)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!(
                    webhook = &*self.name,
                    event = name,
                    "an event is gone from the spool"
                );
                return self.finish(name).await;
            }
            Ok(Err(error)) => return self.again(&name, attempts, &error.to_string()),
            Err(error) => return self.again(&name, attempts, &error.to_string()),
        };
        let id = name
            .split_once('-')
            .map_or(&*name, |(_, id)| id)
            .trim_end_matches(".json");
        let refused = match self.delivery.post(id, body.clone()).await {
            Ok(()) => {
                self.count("delivered");
                return self.finish(name).await;
            }
            Err(refused) => refused,
        };
        if age(&name) < self.delivery.give_up {
            return self.again(&name, attempts, &refused);
        }
        let (spool, reason) = (Arc::clone(&self.spool), refused.clone());
        match spawn_blocking(move || spool.bury(&body, &reason)).await {
            Ok(Ok(())) => {
                self.count("dead");
                tracing::error!(
                    webhook = &*self.name,
                    event = name,
                    reason = refused,
                    "an event is given up: see the dead letters"
                );
                self.finish(name).await;
            }
            Ok(Err(error)) => self.again(&name, attempts, &error.to_string()),
            Err(error) => self.again(&name, attempts, &error.to_string()),
        }
    }

    async fn finish(&self, name: String) {
        let spool = Arc::clone(&self.spool);
        // A task that does not end leaves the file, and the event is delivered again.
        let _ = spawn_blocking(move || spool.remove(&name)).await;
        self.show();
    }

    /// The pauses double, and differ a little: receivers that come back should not meet everybody.
    fn again(&self, name: &str, attempts: Attempts, reason: &str) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.count.saturating_sub(1).min(16));
        let pause = doubled
            .min(LONGEST_PAUSE)
            .mul_f64(0.8 + 0.4 * rand::random::<f64>());
        self.count("retried");
        tracing::warn!(
            webhook = &*self.name,
            event = name,
            attempt = attempts.count,
            reason,
            "an event was not taken"
        );
        self.spool.postpone(name, pause);
    }
}

/// An error with its causes in one line.
fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification (standard-webhooks, spec/standard-webhooks.md).
    #[test]
    fn signature_is_that_of_standard_webhooks() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "{\"test\": 2432232314}",
        );
        assert_eq!(
            signature.unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
}
