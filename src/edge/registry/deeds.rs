//! What a session did, as [`Record`]s on their way to the journal.
//!
//! A record is made where the outcome is known, often deep in a check that cannot wait; it is kept
//! before the client hears the final reply, by [`Presence::settle`].

use std::sync::PoisonError;

use super::{Presence, Reference};
use crate::{
    access::VirtualPath,
    observe::{
        events::Unkept,
        record::{Kind, Outcome, Place, Record},
    },
    store::transfer::Failure,
};

impl Presence {
    /// A record of this session, if anybody reads them.
    pub(in crate::edge) fn record(&self, kind: Kind, outcome: Outcome) -> Option<Record> {
        if !self.journal.is_read() {
            return None;
        }
        let doing = self.doing();
        let mut record = Record::new(kind, outcome);
        record.session = Some(self.id.clone());
        record.peer = Some(self.peer.to_string());
        record.listener = Some(self.listener.to_string());
        record.user = doing.user.as_deref().map(str::to_owned);
        record.tls_version = doing.tls;
        record.tls_certificate = doing.certificate.to_vec();
        Some(record)
    }

    /// Says in a record where `path` lies for this session's account.
    pub(in crate::edge) fn locate(&self, record: &mut Record, path: &VirtualPath) {
        record.path = Some(path.as_str().to_owned());
        record.place = self.place(path);
    }

    /// Says in a record of a rename where it went.
    pub(in crate::edge) fn locate_target(&self, record: &mut Record, path: &VirtualPath) {
        record.target = Some(path.as_str().to_owned());
        record.target_key = self.place(path).map(|place| place.key);
    }

    fn place(&self, path: &VirtualPath) -> Option<Place> {
        let view = self.view.get()?;
        let (mount, backend, key) = view.place(path)?;
        Some(Place {
            mount: mount.as_str().to_owned(),
            backend: backend.to_string(),
            key,
        })
    }

    /// Notes what was done at a path with success.
    pub(in crate::edge) fn did(&self, verb: &'static str, code: u16, path: &VirtualPath) {
        let Some(kind) = kind(verb) else { return };
        if let Some(mut record) = self.record(kind, Outcome::Success) {
            (record.verb, record.code) = (Some(verb), Some(code));
            self.locate(&mut record, path);
            self.note(record);
        }
    }

    /// Notes what did not succeed: a refusal of rights, whatever the command, and every failure of what
    /// would have changed or moved something. `from`: the source of a rename.
    pub(in crate::edge) fn failed(
        &self,
        verb: &'static str,
        paths: (Option<&VirtualPath>, &VirtualPath),
        failure: &Failure,
        reference: Option<&Reference>,
    ) {
        if let Some(record) = self.failure(verb, paths, failure, reference) {
            self.note(record);
        }
    }

    /// What [`Self::failed`] notes.
    pub(in crate::edge) fn failure(
        &self,
        verb: &'static str,
        (from, path): (Option<&VirtualPath>, &VirtualPath),
        failure: &Failure,
        reference: Option<&Reference>,
    ) -> Option<Record> {
        let (kind, outcome) = match failure {
            Failure::Denied(_) => (Kind::Denied, Outcome::Refused),
            _ => (kind(verb)?, Outcome::Failed),
        };
        let mut record = self.record(kind, outcome)?;
        (record.verb, record.code) = (Some(verb), Some(failure.reply().0));
        record.reason = Some(failure.label());
        record.detail = Some(super::failures::chain(failure));
        record.reference = reference.map(ToString::to_string);
        self.locate(&mut record, from.unwrap_or(path));
        if from.is_some() {
            self.locate_target(&mut record, path);
        }
        Some(record)
    }

    /// Puts a record down until [`Self::settle`]. A command makes one or two.
    pub(in crate::edge) fn note(&self, record: Record) {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    }

    /// Gives every record that was put down to the journal.
    ///
    /// # Errors
    /// An event could not be put on the disk.
    pub(in crate::edge) async fn settle(&self) -> Result<(), Unkept> {
        let mut settled = Ok(());
        let records = std::mem::take(
            &mut *self
                .unsettled
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for record in records {
            settled = self.journal.keep(record).await.and(settled);
        }
        settled
    }
}

/// What a command is in the audit trail; `None` for those that change and move nothing.
fn kind(verb: &str) -> Option<Kind> {
    Some(match verb {
        "STOR" | "STOU" | "APPE" => Kind::Upload,
        "RETR" => Kind::Download,
        "RNFR" | "RNTO" => Kind::Rename,
        "DELE" => Kind::Delete,
        "MKD" => Kind::MakeDirectory,
        "RMD" => Kind::RemoveDirectory,
        _ => return None,
    })
}
