//! [`Event`]: a record as a `CloudEvent` (version 1.0, JSON, structured mode).

use serde::Serialize;

use crate::{
    config::EventKind,
    observe::record::{Kind, Outcome, Record, escape},
};

/// What a receiver gets.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    specversion: &'static str,
    /// That of the record: the same in every delivery and in the audit trail.
    pub(super) id: &'a str,
    source: &'a str,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: &'a str,
    datacontenttype: &'static str,
    data: &'a Record,
}

impl<'a> Event<'a> {
    pub(super) fn new(kind: EventKind, source: &'a str, record: &'a Record) -> Self {
        Self {
            specversion: "1.0",
            id: &record.id,
            source,
            r#type: kind.name(),
            subject: record.path.as_deref(),
            time: &record.time,
            datacontenttype: "application/json",
            data: record,
        }
    }

    pub(super) fn body(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| escape(&text))
    }
}

impl EventKind {
    /// What a record is to webhooks. A file counts as uploaded only when its store has all of it.
    pub(super) fn of(record: &Record) -> Option<Self> {
        if record.deferred.is_some() {
            // Told when the file appears, by a record of its own.
            return None;
        }
        match (record.kind, record.outcome) {
            (Kind::Upload, Outcome::Success) => Some(Self::FileUploaded),
            (Kind::Download, Outcome::Success) => Some(Self::FileDownloaded),
            (Kind::Delete, Outcome::Success) => Some(Self::FileDeleted),
            (Kind::Rename, Outcome::Success) => Some(Self::FileRenamed),
            (Kind::Ban, _) => Some(Self::Ban),
            (Kind::Login, Outcome::Refused) => Some(Self::LoginFailed),
            _ => None,
        }
    }
}
