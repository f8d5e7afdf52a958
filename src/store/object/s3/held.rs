//! Files that wait for their rename: received whole, acknowledged, and not completed yet.
//!
//! Such a file is two open multipart uploads with the same parts ([`super::twin`]) and a *record* that names
//! both, in the hidden area like the records of interrupted uploads. The record is written before the
//! client hears 226: from then on every process that serves the bucket sees the file under its temporary
//! name, and whoever comes first completes one of the two: at the final name when the client renames,
//! at the temporary one when the time is up, the server stops, or somebody wants to read it.
//!
//! Invariants: the final name appears only by a rename that a client asked for; a record goes only after
//! one of the two uploads was completed, or after the client deleted or replaced the file; a record is
//! never changed, so that two processes cannot lose each other's.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    S3, S3Upload,
    announce::{Appears, Origin},
    attributes::NONCE,
    record::Claim,
    upload::State,
};
use crate::store::{
    ErrorKind, Kind, NewFile, Result, Stat, StoreError, Total, Whose, object::ObjectStore,
};

/// Where the records lie inside the area.
pub(super) const HELD: &str = "held/";
/// Files that are looked at or completed side by side.
const AT_ONCE: usize = 8;
/// How long somebody waits for another to be done with a file: 5 s.
const TURNS: u32 = 100;
const TURN: Duration = Duration::from_millis(50);
/// Records that one look takes up: as many as one process may have waiting, by its configuration.
const MOST_RECORDS: usize = 100_000;

/// What a record says, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The temporary key, and the multipart upload there.
    pub(super) path: String,
    pub(super) id: String,
    /// The final key that is expected, and the multipart upload there.
    pub(super) target: String,
    pub(super) twin: String,
    /// What the finished object carries to be told from others.
    pub(super) nonce: String,
    pub(super) bytes: u64,
    /// Digests of the content by their names.
    pub(super) digests: Vec<(String, String)>,
    /// Whose it is, for those who are told when it appears.
    pub(super) origin: Option<Origin>,
    /// How many seconds it waits, by the configuration of who received it.
    #[serde(default)]
    pub(super) commit_after: u64,
}

/// A file that waits.
#[derive(Clone, Debug)]
pub(in super::super) struct Held {
    /// Name of the record inside the area.
    name: String,
    record: Record,
    /// When the store wrote the record: the file's time.
    since: SystemTime,
}

/// Where a file is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Temporary,
    Final,
}

impl Record {
    /// A new name for the record; later ones of the same file come behind it in key order.
    pub(super) fn name(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = now.unwrap_or_default().as_millis();
        format!("{}{millis:015}.{}", prefix_of(&self.path), self.nonce)
    }
}

impl Held {
    pub(in super::super) fn stat(&self) -> Stat {
        Stat {
            kind: Kind::File,
            size: self.record.bytes,
            modified: Some(self.since),
            version: None,
            waits: true,
        }
    }

    /// Whether it has waited as long as who received it would have let it.
    fn has_waited(&self) -> bool {
        let waited = self.since.elapsed().unwrap_or_default();
        waited >= Duration::from_secs(self.record.commit_after)
    }

    /// Last segment of its key.
    pub(in super::super) fn file_name(&self) -> &str {
        split(&self.record.path).1
    }
}

/// What all records of one file begin with.
fn prefix_of(path: &str) -> String {
    format!("{}{}.", directory_of(split(path).0), hash(split(path).1))
}

/// What all records of files directly in `directory` begin with.
fn directory_of(directory: &str) -> String {
    format!("{HELD}{}/", hash(directory))
}

/// Names of any length and content as part of a key.
fn hash(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text));
    digits.truncate(32);
    digits
}

/// Directory without its slash, and name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The file at `path`, if it waits.
pub(in super::super) async fn at(s3: &S3, path: &str) -> Result<Option<Held>> {
    if s3.settings.deferred.final_name(split(path).1).is_none() {
        return Ok(None);
    }
    let mut found = s3.records_of(path).await?;
    // Where two processes took the same name at once, the later one's file counts.
    while let Some((name, since)) = found.pop() {
        let held = s3.read_held(name, since).await?;
        if held.as_ref().is_some_and(|held| held.record.path == path) {
            return Ok(held);
        }
    }
    Ok(None)
}

/// Every file that waits directly in `directory`, a path with its slash.
pub(in super::super) async fn within(s3: &S3, directory: &str) -> Result<Vec<Held>> {
    if s3.settings.deferred.names.is_empty() {
        return Ok(Vec::new());
    }
    let prefix = directory_of(directory.trim_end_matches('/'));
    s3.held_below(&prefix).await
}

/// Bytes and number of all files that wait below `directory`, a path with its slash.
pub(in super::super) async fn total(s3: &S3, directory: &str) -> Result<Total> {
    let mut total = Total::default();
    if s3.settings.deferred.names.is_empty() {
        return Ok(total);
    }
    let directory = if directory == "/" { "" } else { directory };
    for held in s3.held_below(HELD).await? {
        if held.record.path.starts_with(directory) {
            total.bytes = total.bytes.saturating_add(held.record.bytes);
            total.files += 1;
        }
    }
    Ok(total)
}

/// Gives a file its final name, if `target` is the one that was expected and can still be had; `exclusive`:
/// over nothing, else it goes on waiting.
pub(in super::super) async fn rename(
    store: &ObjectStore,
    s3: &Arc<S3>,
    held: &Held,
    target: &str,
    exclusive: bool,
) -> Result<bool> {
    let Some(_claim) = s3.hold_record(held, "rename").await? else {
        return Ok(false);
    };
    if held.record.target != target {
        return Ok(false);
    }
    let completed = s3.complete_held(store, held, At::Final, exclusive).await?;
    if completed.is_none() {
        return Ok(false);
    }
    let record = &held.record;
    s3.abort(&record.path, &record.id).await?;
    // Another process may have committed it just now, and an older file may have been there.
    if let Some(head) = s3.head("rename", &record.path).await?
        && (carries(&head, &record.nonce) || modified(&head).is_some_and(|time| time <= held.since))
    {
        store.keep_parent("rename", &record.path).await?;
        let version = head.e_tag().filter(|_| s3.switches().delete_if_match);
        store.delete("rename", &record.path, version).await?;
    }
    s3.end_held(held, Some(At::Final)).await?;
    Ok(true)
}

/// Commits a file under its temporary name.
pub(in super::super) async fn commit(store: &ObjectStore, s3: &Arc<S3>, held: &Held) -> Result<()> {
    let Some(_claim) = s3.hold_record(held, "commit").await? else {
        return Ok(());
    };
    let record = &held.record;
    if s3.is_held_at(&record.target, &record.nonce).await? {
        // A process that died in a rename had got so far.
        s3.abort(&record.path, &record.id).await?;
        return s3.end_held(held, Some(At::Final)).await;
    }
    if let Some(head) = s3.head("commit", &record.path).await?
        && !carries(&head, &record.nonce)
        && modified(&head).is_some_and(|time| time > held.since)
    {
        // By another program, or by a process that died before it could say that this one is replaced.
        tracing::warn!(key = ?record.path, "a file that waited for its rename was replaced meanwhile");
        s3.abort(&record.path, &record.id).await?;
        s3.abort(&record.target, &record.twin).await?;
        return s3.end_held(held, None).await;
    }
    let completed = s3.complete_held(store, held, At::Temporary, false).await?;
    if completed.is_none() {
        if s3.read_held(held.name.clone(), held.since).await?.is_none() {
            // Another process renamed it in this moment.
            return Ok(());
        }
        tracing::error!(
            key = ?record.path,
            "a file that waited for its rename is gone: somebody else ended its uploads"
        );
    }
    let was_open = s3.abort(&record.target, &record.twin).await?;
    if !was_open
        && s3.is_held_at(&record.target, &record.nonce).await?
        && s3.is_held_at(&record.path, &record.nonce).await?
    {
        // Another process renamed it in this moment: it is not under both names.
        store.keep_parent("commit", &record.path).await?;
        store.delete("commit", &record.path, None).await?;
        return s3.end_held(held, Some(At::Final)).await;
    }
    s3.end_held(held, completed.map(|_| At::Temporary)).await
}

/// Drops a file: deleted or replaced.
pub(in super::super) async fn discard(s3: &Arc<S3>, held: &Held) -> Result<()> {
    let Some(_claim) = s3.hold_record(held, "remove_file").await? else {
        return Ok(());
    };
    let record = &held.record;
    s3.abort(&record.path, &record.id).await?;
    s3.abort(&record.target, &record.twin).await?;
    s3.end_held(held, None).await
}

/// Drops what waits at `path` and is older than the file with `nonce`, which has taken its place. Where that
/// one waits too (`waits`), a newer one stays, and drops it in turn: were each of two to drop the other, both
/// would be lost.
pub(super) async fn discard_older(
    s3: &Arc<S3>,
    path: &str,
    nonce: &str,
    waits: bool,
) -> Result<()> {
    if s3.settings.deferred.final_name(split(path).1).is_none() {
        return Ok(());
    }
    let mut found = s3.records_of(path).await?;
    if waits {
        let own = found.iter().position(|(name, _)| name.ends_with(nonce));
        // If it is not there any more, nothing is ours to replace.
        found.truncate(own.unwrap_or_default());
    }
    for (name, since) in found {
        if let Some(held) = s3.read_held(name, since).await?
            && held.record.path == path
            && held.record.nonce != nonce
        {
            discard(s3, &held).await?;
        }
    }
    Ok(())
}

/// Commits what has waited long enough, whichever process received it: by this configuration and by that of
/// who received it, which may be another one while replicas are replaced. How many were committed.
pub(in super::super) async fn commit_due(store: &ObjectStore, s3: &Arc<S3>) -> Result<u64> {
    // Without patterns nothing waits but what another configuration left.
    let age = s3.commits_after().unwrap_or_default();
    let limit = SystemTime::now().checked_sub(age);
    let limit = limit.unwrap_or(SystemTime::UNIX_EPOCH);
    // In this order: a record that is written in between is in the second, and not missed in the first.
    let own = s3.waiting.records();
    let all = s3.records_below(HELD).await?;
    for name in own {
        if !all.iter().any(|(present, _)| *present == name) {
            // Another process renamed or committed it.
            s3.waiting.left(&name);
        }
    }
    let due = all.into_iter().filter(|(_, since)| *since <= limit);
    commit_all(store, s3, due.collect(), Whose::Due).await
}

/// Commits all that this process received: it is about to end.
pub(in super::super) async fn commit_own(store: &ObjectStore, s3: &Arc<S3>) -> Result<u64> {
    let own = s3.waiting.records();
    let own = own.into_iter().map(|name| (name, SystemTime::now()));
    commit_all(store, s3, own.collect(), Whose::Ours).await
}

async fn commit_all(
    store: &ObjectStore,
    s3: &Arc<S3>,
    records: Vec<(String, SystemTime)>,
    whose: Whose,
) -> Result<u64> {
    let work = stream::iter(records).map(async |(name, since)| {
        let Some(held) = s3.read_held(name, since).await? else {
            return Ok(0);
        };
        if whose == Whose::Due && !held.has_waited() {
            return Ok(0);
        }
        match commit(store, s3, &held).await {
            Ok(()) => Ok(1),
            // A session of this process is at it.
            Err(error) if error.kind() == ErrorKind::InUse => Ok(0),
            Err(error) => Err(error),
        }
    });
    let done: Vec<Result<u64>> = work.buffer_unordered(AT_ONCE).collect().await;
    // One that fails must not keep the others waiting.
    done.into_iter().sum()
}

impl S3 {
    /// How long files wait for their rename; `None` if none does.
    pub(in super::super) fn commits_after(&self) -> Option<Duration> {
        let deferred = &self.settings.deferred;
        (!deferred.names.is_empty()).then_some(deferred.commit_after)
    }

    /// Whether somebody would hear of a file that appears.
    pub(in super::super) fn tells(&self) -> bool {
        self.journal.is_some()
    }

    /// Files of this process that wait.
    pub(in super::super) fn waiting(&self) -> Total {
        self.waiting.total()
    }

    /// One session or task of this process at a time; the next one waits for it. `None` if the record went
    /// meanwhile.
    async fn hold_record(&self, held: &Held, operation: &'static str) -> Result<Option<Claim>> {
        if let Some(claim) = self.claims.take(&held.name) {
            return Ok(Some(claim));
        }
        for _ in 0..TURNS {
            tokio::time::sleep(TURN).await;
            if let Some(claim) = self.claims.take(&held.name) {
                let still = self.read_held(held.name.clone(), held.since).await?;
                return Ok(still.map(|_| claim));
            }
        }
        Err(StoreError::new(ErrorKind::InUse, operation))
    }

    /// Records in the order of their names, and when they were written.
    async fn records_below(&self, prefix: &str) -> Result<Vec<(String, SystemTime)>> {
        let mut found = Vec::new();
        self.each_hidden(prefix, |name, time| {
            if let Some(time) = time.filter(|_| found.len() < MOST_RECORDS) {
                found.push((name.to_owned(), time));
            }
        })
        .await?;
        Ok(found)
    }

    /// Records of one file, the newest last: by the store's clock, which is one for all processes, and by
    /// name where that does not tell.
    async fn records_of(&self, path: &str) -> Result<Vec<(String, SystemTime)>> {
        let mut found = self.records_below(&prefix_of(path)).await?;
        found.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
        Ok(found)
    }

    async fn held_below(&self, prefix: &str) -> Result<Vec<Held>> {
        let found = self.records_below(prefix).await?;
        stream::iter(found)
            .map(|(name, since)| self.read_held(name, since))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|held| std::future::ready(Ok(held)))
            .try_collect()
            .await
    }

    async fn read_held(&self, name: String, since: SystemTime) -> Result<Option<Held>> {
        let found = self.read_hidden("held", &name).await?;
        Ok(found.map(|(record, written)| Held {
            name,
            record,
            since: written.unwrap_or(since),
        }))
    }

    /// Completes one of the two uploads; `None` if it is not there and was not completed before. `exclusive`:
    /// over nothing, [`ErrorKind::AlreadyExists`].
    async fn complete_held(
        self: &Arc<Self>,
        store: &ObjectStore,
        held: &Held,
        at: At,
        exclusive: bool,
    ) -> Result<Option<Stat>> {
        let record = &held.record;
        let (path, id) = match at {
            At::Temporary => (&record.path, &record.id),
            At::Final => (&record.target, &record.twin),
        };
        let Some(parts) = self.landed_parts(path, id).await? else {
            let there = self.is_held_at(path, &record.nonce).await?;
            return Ok(there.then(|| held.stat()));
        };
        if parts.iter().map(|part| part.bytes).sum::<u64>() != record.bytes {
            let text = format!("{path}: the parts are not those that were sent");
            return Err(StoreError::with_source(ErrorKind::Internal, "commit", text));
        }
        let file = NewFile {
            exclusive,
            ..NewFile::default()
        };
        let mut upload = S3Upload::new(store, self, path.clone(), &file);
        upload.nonce.clone_from(&record.nonce);
        upload.size = record.bytes;
        upload.digests = None;
        upload.sent = parts.into_iter().map(|landed| landed.part).collect();
        // Whatever becomes of this, the parts stay for the next try.
        upload.state = State::Ended;
        let stat = match upload.complete(id.clone()).await {
            Ok(stat) => stat,
            // Its answer may have been lost.
            Err(error) => match upload.landed().await {
                Some(stat) => stat,
                None if exclusive && error.kind() == ErrorKind::Changed => {
                    let kind = ErrorKind::AlreadyExists;
                    return Err(StoreError::with_source(kind, "rename", error));
                }
                None => return Err(error),
            },
        };
        if let Some(version) = &stat.version {
            let digests = record.digests.iter().cloned();
            self.keep_digests(path, version, digests).await;
        }
        Ok(Some(stat))
    }

    /// Whether the object at `path` is that of the upload with `nonce`.
    async fn is_held_at(&self, path: &str, nonce: &str) -> Result<bool> {
        let head = self.head("held", path).await?;
        Ok(head.is_some_and(|head| carries(&head, nonce)))
    }

    /// Tells where the file appeared, if it did, and takes the record away, last of all.
    async fn end_held(&self, held: &Held, at: Option<At>) -> Result<()> {
        let record = &held.record;
        if let (Some(origin), Some(at)) = (&record.origin, at) {
            let path = match at {
                At::Temporary => &record.path,
                At::Final => &record.target,
            };
            self.announce(Appears {
                origin,
                at,
                name: split(path).1,
                nonce: &record.nonce,
                bytes: record.bytes,
                digests: &record.digests,
            })
            .await?;
        }
        self.delete_hidden(&held.name).await?;
        self.waiting.left(&held.name);
        Ok(())
    }
}

fn carries(head: &HeadObjectOutput, nonce: &str) -> bool {
    let kept = head.metadata().and_then(|metadata| metadata.get(NONCE));
    kept.is_some_and(|kept| kept == nonce)
}

fn modified(head: &HeadObjectOutput) -> Option<SystemTime> {
    SystemTime::try_from(*head.last_modified()?).ok()
}

impl S3Upload {
    /// Lets the file wait for its rename, once all parts are on their way; `None` if it cannot, and must
    /// be committed.
    pub(super) async fn hold(&mut self, id: &str) -> Result<Option<Stat>> {
        while self.join_one().await? {}
        self.require_claim().await?;
        let Some(twin) = self.twin.take() else {
            return Ok(None);
        };
        let (Some(second), true) = (&twin.id, twin.is_whole()) else {
            self.twin = Some(twin);
            return Ok(None);
        };
        let digests = self.digests.take();
        let record = Record {
            path: self.path.clone(),
            id: id.to_owned(),
            target: twin.path.clone(),
            twin: second.clone(),
            nonce: self.nonce.clone(),
            bytes: self.size,
            digests: digests.map_or_else(Vec::new, |digests| digests.into_metadata().collect()),
            origin: twin.origin.clone(),
            commit_after: self.s3.settings.deferred.commit_after.as_secs(),
        };
        let name = record.name();
        if let Err(error) = self.s3.put_json(&name, &record).await {
            tracing::warn!(key = ?self.path, %error, "an upload cannot wait for its rename");
            // It may be there although nobody said so; should it stay, the sweep finds a committed file.
            let _ = self.s3.delete_hidden(&name).await;
            self.twin = Some(twin);
            return Ok(None);
        }
        twin.room.keep(name);
        Ok(Some(Stat {
            waits: true,
            ..self.stat(None)
        }))
    }

    /// Ends the second upload, if there is one. `tries`: a part whose bytes the store has already read may
    /// still land behind the first.
    pub(super) async fn end_twin(&mut self, tries: usize) {
        let Some(twin) = self.twin.take() else { return };
        let Some(id) = &twin.id else { return };
        for _ in 0..tries {
            if let Err(error) = self.s3.abort(&twin.path, id).await {
                tracing::error!(key = ?twin.path, %error, "cannot abort an upload; its parts stay until the bucket's life-cycle rule ends them");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_directory_and_of_a_file_have_prefixes_of_their_own() {
        let record = |path: &str| Record {
            path: path.to_owned(),
            id: String::new(),
            target: String::new(),
            twin: String::new(),
            nonce: "n".to_owned(),
            bytes: 0,
            digests: Vec::new(),
            origin: None,
            commit_after: 0,
        };
        let name = record("t/d/a.tmp").name();
        assert!(name.starts_with(&directory_of("t/d")), "{name}");
        assert!(name.starts_with(&prefix_of("t/d/a.tmp")), "{name}");
        for other in ["t/d/b.tmp", "t/a.tmp", "t/d/e/a.tmp", "a.tmp"] {
            assert!(!name.starts_with(&prefix_of(other)), "{other}");
        }
        assert!(!name.starts_with(&directory_of("t")));
        assert!(record("a.tmp").name().starts_with(&directory_of("")));
    }
}
