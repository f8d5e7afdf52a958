//! Tries on a store what the server will do to it: for `causeway check`.
//!
//! Owns the steps and what their outcomes mean. Every step is one request with a deadline of its own, under
//! names that nobody else has; what was made is removed at the end, whatever failed before. What a refusal
//! says of rights is put in the provider's own words (`s3:PutObject`), taken from its answer where that
//! names them, else from the documents of the provider. Nothing of this runs in a serving process.

use std::{collections::BTreeSet, future::Future, time::Duration};

use tokio::time::Instant;

use super::{LocalStore, ObjectStore, Retries, StoreError};
use crate::config::{Backend, Timeouts};

/// One step; a store that needs longer for a few bytes is not one to serve files from.
const STEP: Duration = Duration::from_secs(20);

/// Where in a backend, and what for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Keys begin with this, below the backend's own root; no slash at its ends, may be empty.
    pub prefix: String,
    /// Whether anything is to be written there.
    pub writes: bool,
}

/// One request of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The prefix it was tried under.
    pub place: String,
    /// The provider's name of the request, or what it does.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Done,
    /// The server works, but an operator should know.
    Doubtful(String),
    /// The store does not let us.
    Refused {
        /// What is missing, in the provider's words; more than one where it does not say which.
        permissions: Vec<String>,
        /// What it said.
        message: String,
    },
    /// Anything else that a transfer would fail of.
    Failed(String),
    /// Not tried, and why.
    LeftOut(String),
}

/// Why a request did not do what it should.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// Rights.
    Denied,
    /// A condition did not hold, as it should not.
    Condition,
    /// The request, or its condition, is not known to the store.
    Unsupported,
    /// Nothing else will work either: no such bucket, no such key pair, nobody there.
    Hopeless,
    Other,
}

/// Takes the steps of one place one after the other and tells of each.
pub(super) struct Steps<'a> {
    place: &'a Place,
    report: &'a mut (dyn FnMut(Step) + Send),
    /// Rights that an earlier step has shown.
    shown: BTreeSet<&'static str>,
    hopeless: bool,
}

/// Probes a backend in `places`; `resume`: interrupted uploads are kept there. Every step is reported when it
/// is done.
///
/// # Errors
/// The backend's own settings make no client; nothing was sent.
pub async fn probe(
    backend: &Backend,
    timeouts: &Timeouts,
    places: &[Place],
    resume: bool,
    report: &mut (dyn FnMut(Step) + Send),
) -> Result<(), StoreError> {
    // Nobody counts them here.
    let retries = Retries::default();
    let store = match backend {
        Backend::Memory(_) => return Ok(()),
        Backend::Fs(fs) => {
            for place in places {
                LocalStore::probe(fs, &mut Steps::new(place, report)).await;
            }
            return Ok(());
        }
        Backend::S3(backend) => ObjectStore::open_s3(backend, timeouts, &retries, None)?,
        // Both drivers have the same rights, so one of them asks.
        Backend::Gcs(backend) => {
            #[cfg(feature = "unftp-sbe-gcs")]
            super::unftp_gcs::UnftpGcsStore::open(backend, timeouts)?;
            ObjectStore::open_gcs(backend, timeouts, &retries)?
        }
        Backend::Azblob(backend) => ObjectStore::open_azblob(backend, timeouts, &retries)?,
        Backend::OpenDal(backend) => ObjectStore::open_other(backend, timeouts, &retries)?,
    };
    for place in places {
        store.probe(&mut Steps::new(place, report), resume).await;
    }
    Ok(())
}

impl<'a> Steps<'a> {
    fn new(place: &'a Place, report: &'a mut (dyn FnMut(Step) + Send)) -> Self {
        Self {
            place,
            report,
            shown: BTreeSet::new(),
            hopeless: false,
        }
    }

    pub(super) fn writes(&self) -> bool {
        self.place.writes
    }

    /// The prefix, empty or with a slash at its end.
    pub(super) fn prefix(&self) -> String {
        match self.place.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// One step that should succeed; `rights` is what it needs. `None` where it did not, or was not tried
    /// since nothing can succeed any more.
    pub(super) async fn take<T>(
        &mut self,
        name: &'static str,
        rights: &[&'static str],
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Option<T> {
        let (done, took) = self.timed(work).await?;
        match done {
            Ok(value) => {
                self.shown.extend(rights);
                self.tell(name, took, Outcome::Done);
                Some(value)
            }
            Err(trouble) => {
                self.failed(name, rights, took, trouble);
                None
            }
        }
    }

    /// One step that the server can do without, at a `cost`.
    pub(super) async fn take_or_warn(
        &mut self,
        name: &'static str,
        rights: &[&'static str],
        cost: &str,
        work: impl Future<Output = Result<(), Trouble>>,
    ) -> Option<()> {
        let (done, took) = self.timed(work).await?;
        match done {
            Ok(()) => {
                self.shown.extend(rights);
                self.tell(name, took, Outcome::Done);
                Some(())
            }
            Err(trouble) if trouble.kind == TroubleKind::Denied => {
                let missing = self.missing(rights, &trouble.message).join(" or ");
                let said = format!("is refused, missing: {missing}: {cost}");
                self.tell(name, took, Outcome::Doubtful(said));
                None
            }
            Err(trouble) => {
                self.failed(name, rights, took, trouble);
                None
            }
        }
    }

    /// One step that a condition should stop: `Some(true)` if it did, `Some(false)` if the store did it all
    /// the same. What that means is for the caller to tell, by [`Self::tell`].
    pub(super) async fn stopped<T>(
        &mut self,
        name: &'static str,
        rights: &[&'static str],
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Option<(bool, Duration)> {
        let (done, took) = self.timed(work).await?;
        match done {
            Ok(_) => Some((false, took)),
            Err(trouble) if trouble.kind == TroubleKind::Condition => Some((true, took)),
            Err(trouble) => {
                self.failed(name, rights, took, trouble);
                None
            }
        }
    }

    /// A request that is no step of its own: what came of it is not reported, unless nothing can succeed any
    /// more.
    pub(super) async fn quietly<T>(
        &mut self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Option<T> {
        let (done, took) = self.timed(work).await?;
        match done {
            Ok(value) => Some(value),
            Err(trouble) if trouble.kind == TroubleKind::Hopeless => {
                self.failed("request", &[], took, trouble);
                None
            }
            Err(_) => None,
        }
    }

    /// Reports a step.
    pub(super) fn tell(&mut self, name: &'static str, took: Duration, outcome: Outcome) {
        (self.report)(Step {
            place: self.place.prefix.clone(),
            name,
            took,
            outcome,
        });
    }

    /// From here on everything is tried, whatever failed before: what was made must go.
    pub(super) fn try_again(&mut self) {
        self.hopeless = false;
    }

    /// Reports a step that is not tried.
    pub(super) fn leave_out(&mut self, name: &'static str, why: &str) {
        if !self.hopeless {
            self.tell(name, Duration::ZERO, Outcome::LeftOut(why.to_owned()));
        }
    }

    async fn timed<T>(
        &mut self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Option<(Result<T, Trouble>, Duration)> {
        if self.hopeless {
            return None;
        }
        let begin = Instant::now();
        let done = tokio::time::timeout(STEP, work).await;
        let done = done.unwrap_or_else(|_| {
            Err(Trouble {
                kind: TroubleKind::Hopeless,
                message: format!("no answer within {} seconds", STEP.as_secs()),
            })
        });
        Some((done, begin.elapsed()))
    }

    fn failed(
        &mut self,
        name: &'static str,
        rights: &[&'static str],
        took: Duration,
        trouble: Trouble,
    ) {
        let Trouble { kind, message } = trouble;
        self.hopeless |= kind == TroubleKind::Hopeless;
        let outcome = if kind == TroubleKind::Denied {
            Outcome::Refused {
                permissions: self.missing(rights, &message),
                message,
            }
        } else {
            Outcome::Failed(message)
        };
        self.tell(name, took, outcome);
    }

    /// What the store names itself; else what no other step has shown to be there.
    fn missing(&self, rights: &[&'static str], message: &str) -> Vec<String> {
        let named = named_permissions(message);
        if !named.is_empty() {
            return named;
        }
        let unshown = rights.iter().filter(|right| !self.shown.contains(*right));
        let unshown: Vec<String> = unshown.map(|right| (*right).to_owned()).collect();
        if unshown.is_empty() {
            return rights.iter().map(|right| (*right).to_owned()).collect();
        }
        unshown
    }
}

/// Permissions that a provider's message names: "… is not authorized to perform: s3:PutObject on …", "…
/// does not have storage.objects.create access …".
fn named_permissions(message: &str) -> Vec<String> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '/'));
    let words = message
        .split(part)
        .map(|word| word.trim_end_matches(['.', ':']));
    let is_permission = |word: &&str| {
        let of_aws = |service| {
            let action = word.strip_prefix(service);
            action.is_some_and(|action| action.starts_with(|c: char| c.is_ascii_uppercase()))
        };
        let of_google = || {
            let Some(("storage", rest)) = word.split_once('.') else {
                return false;
            };
            // Not the service's own name, storage.googleapis.com.
            let resources = [
                "objects",
                "buckets",
                "multipartUploads",
                "folders",
                "managedFolders",
            ];
            let parts = rest.split_once('.');
            parts.is_some_and(|(resource, verb)| resources.contains(&resource) && !verb.is_empty())
        };
        of_aws("s3:") || of_aws("kms:") || of_google() || word.starts_with("Microsoft.Storage/")
    };
    let mut found: Vec<String> = Vec::new();
    for word in words.filter(is_permission) {
        if !found.iter().any(|known| known == word) {
            found.push(word.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_found_in_what_providers_say() {
        for (message, expected) in [
            (
                "User: arn:aws:iam::1:user/u is not authorized to perform: s3:AbortMultipartUpload on resource: \"arn:aws:s3:::b/k\" because no identity-based policy allows the s3:AbortMultipartUpload action",
                &["s3:AbortMultipartUpload"][..],
            ),
            (
                "… not authorized to perform: kms:GenerateDataKey on this resource",
                &["kms:GenerateDataKey"],
            ),
            (
                "a@b.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud Storage object. Permission 'storage.objects.create' denied on resource (or it may not exist).",
                &["storage.objects.create"],
            ),
            (
                "This request is not authorized to perform this operation.",
                &[],
            ),
            ("AccessDenied at storage.googleapis.com", &[]),
        ] {
            assert_eq!(named_permissions(message), expected, "{message}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_what_no_step_has_shown() {
        let place = Place {
            prefix: "a/b".to_owned(),
            writes: true,
        };
        let mut told = Vec::new();
        let mut report = |step: Step| told.push(step);
        let mut steps = Steps::new(&place, &mut report);
        let denied = || Trouble {
            kind: TroubleKind::Denied,
            message: "Access Denied".to_owned(),
        };
        assert!(
            steps
                .take("put", &["s3:PutObject"], async { Ok(()) })
                .await
                .is_some()
        );
        let copy = async { Err::<(), _>(denied()) };
        steps
            .take("copy", &["s3:PutObject", "s3:GetObject"], copy)
            .await;
        let hopeless = async {
            Err::<(), _>(Trouble {
                kind: TroubleKind::Hopeless,
                message: "nobody there".to_owned(),
            })
        };
        steps.take("list", &["s3:ListBucket"], hopeless).await;
        // Not tried, not told.
        assert!(steps.take("delete", &[], async { Ok(()) }).await.is_none());
        let outcomes: Vec<_> = told.into_iter().map(|step| step.outcome).collect();
        assert_eq!(
            outcomes,
            [
                Outcome::Done,
                Outcome::Refused {
                    permissions: vec!["s3:GetObject".to_owned()],
                    message: "Access Denied".to_owned()
                },
                Outcome::Failed("nobody there".to_owned()),
            ]
        );
    }
}
