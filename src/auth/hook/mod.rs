//! [`HttpHook`]: a service of the operator's own decides about logins.
//!
//! Owns the request (what is asked, its signature, its deadlines) and what the answers mean. The
//! answer to a yes is a user document, as the users file has them. Everything that is not a plain yes
//! lets nobody in: down, slow, redirecting, too long, not a document, a document of somebody else.

mod cache;
mod client;
mod probe;
mod retry;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Serialize;
use tokio::time::timeout;

pub use self::client::OpenError;
pub(super) use self::probe::probe;
use self::{cache::Cache, client::Client};
use super::{
    Attempt, Document, Hashing, LoginBy, Proof, Source, UserStore, Verdict, document,
    trust::{Trust, TrustErrors},
};
use crate::{access::Account, config};

/// The source `http`.
#[derive(Debug)]
pub struct HttpHook {
    client: Arc<Client>,
    cache: Cache,
    total: Duration,
    /// For the groups and the names of the configuration.
    users: Arc<UserStore>,
    /// For documents with a hash.
    hashing: Arc<Hashing>,
}

/// The body of a request.
#[derive(Debug, Serialize)]
struct Question<'a> {
    version: u32,
    /// `password` or `certificate`.
    method: &'static str,
    user: &'a str,
    /// `null` where the method is `certificate`.
    password: Option<&'a str>,
    /// What the client's verified certificate says; empty without one.
    certificate: &'a [String],
    peer: SocketAddr,
    listener: &'a str,
    encrypted: bool,
}

impl HttpHook {
    /// Reads the files that `settings` name; goes on with the connections of `last` if nothing about
    /// them has changed. What was remembered is forgotten: it was decided with the groups of then.
    /// Blocks for the disk; asks nobody.
    pub fn open(
        settings: &config::HttpHook,
        last: Option<&Self>,
        users: Arc<UserStore>,
        hashing: Arc<Hashing>,
    ) -> Result<Self, OpenError> {
        let trust = trust(settings)?;
        let kept = last.map(|last| &last.client);
        let client = match kept.filter(|client| client.is_of(settings, &trust)) {
            Some(client) => Arc::clone(client),
            None => Arc::new(Client::new(settings, trust)?),
        };
        Ok(Self {
            client,
            cache: Cache::new(settings.cache),
            total: settings.total,
            users,
            hashing,
        })
    }

    /// What the document that came with a 200 leads to.
    async fn judge(&self, text: &str, attempt: &Attempt) -> Verdict {
        let document = match Document::parse(text, "answer of the hook", &self.users.names()) {
            Ok(document) => document,
            Err(errors) => return Verdict::Unavailable(unusable(&errors.to_string())),
        };
        if document.name != attempt.user {
            let reason = "it answered with the document of another user";
            return Verdict::Unavailable(reason.to_owned());
        }
        let certified = document.named_by(&attempt.identities);
        let proved = match (&attempt.proof, document.login) {
            // A hook that does not look at the method must not let in whoever has some certificate.
            (Proof::Certificate, LoginBy::Certificate) | (Proof::Password(_), LoginBy::Both) => {
                certified.is_some()
            }
            (Proof::Password(_), LoginBy::Password) => true,
            _ => false,
        };
        if !proved {
            return Verdict::Refused("its document asks for another proof".to_owned());
        }
        if let (Proof::Password(password), Some(hash)) = (&attempt.proof, document.hash.clone()) {
            let password = password.clone();
            match self.hashing.run(move || hash.matches(&password)).await {
                Ok(Some(true)) => {}
                Ok(_) => return Verdict::Refused("wrong password".to_owned()),
                Err(busy) => return Verdict::Unavailable(busy.to_string()),
            }
        }
        match self.users.account(&document) {
            Ok(mut account) => {
                account.certificate = certified.cloned();
                Verdict::Accepted(Arc::new(account))
            }
            Err(problem) => Verdict::Unavailable(unusable(&problem)),
        }
    }

    async fn decide(&self, body: &[u8], attempt: &Attempt) -> Verdict {
        let reply = match self.client.ask(body).await {
            Ok(reply) => reply,
            Err(failure) => return Verdict::Unavailable(failure.to_string()),
        };
        match reply.status {
            StatusCode::OK => match std::str::from_utf8(&reply.body) {
                Ok(text) => self.judge(text, attempt).await,
                Err(_) => Verdict::Unavailable("its answer is not UTF-8".to_owned()),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Verdict::Refused(format!("status {}", reply.status.as_u16()))
            }
            StatusCode::NOT_FOUND => Verdict::Unknown,
            status => Verdict::Unavailable(format!("status {}", status.as_u16())),
        }
    }
}

#[async_trait]
impl Source for HttpHook {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn log_in(&self, attempt: &Attempt) -> Verdict {
        let (method, password) = match &attempt.proof {
            Proof::Password(password) => ("password", Some(password.as_str())),
            Proof::Certificate => ("certificate", None),
        };
        // The hook knows nobody whose name could be no account, and need not be asked.
        if document::name_problem(&attempt.user).is_some() {
            return Verdict::Unknown;
        }
        let question = Question {
            version: 1,
            method,
            user: &attempt.user,
            password,
            certificate: &attempt.identities,
            peer: attempt.peer,
            listener: &attempt.listener,
            encrypted: attempt.encrypted,
        };
        let body = match serde_json::to_vec(&question) {
            Ok(body) => body,
            Err(error) => return Verdict::Unavailable(error.to_string()),
        };
        let key = self.cache.key(attempt, self.users.generation());
        if let Some(account) = self.cache.recall(&key) {
            return Verdict::Accepted(account);
        }
        let decided = timeout(self.total, self.decide(&body, attempt)).await;
        let verdict = decided.unwrap_or_else(|_| {
            let seconds = self.total.as_secs();
            Verdict::Unavailable(format!("no answer within {seconds} s"))
        });
        if let Verdict::Accepted(account) = &verdict {
            self.cache.note(key, Arc::<Account>::clone(account));
        }
        verdict
    }
}

/// A document that cannot be used, in a line of the log.
fn unusable(problem: &str) -> String {
    let line = problem.replace('\n', "; ");
    format!("its document is not usable: {line}")
}

/// Whom it believes, and what it shows.
pub(super) fn trust(settings: &config::HttpHook) -> Result<Trust, TrustErrors> {
    let (ca_file, certificate) = (&settings.ca_file, &settings.client_certificate);
    Trust::open("auth.http", ca_file.as_ref(), certificate.as_ref())
}
