//! [`Quotas`]: how much lies in the writable mounts of each account with a quota.
//!
//! The truth is the store: what lies there is counted when an account first uploads, and again every
//! while, so that what others put and removed is seen. In between, this process keeps the numbers by
//! its own uploads, deletions and renames. A running upload reserves what it adds, so that ten uploads
//! at once cannot each take the last free bytes. Several replicas that serve one account see each other
//! only at the next count.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    ErrorKind, PartSizes, Result, Stat, StoreError, Stores, Upload, length, transfer::Progress,
};
use crate::{
    access::{Quota, StoreKey, Tree},
    shutdown::Drain,
};

/// How long the first upload of an account waits for the count; it goes on behind a 451.
const FIRST_COUNT: Duration = Duration::from_secs(20);
/// Accounts whose numbers are kept although nobody uses them.
const ACCOUNTS: usize = 10_000;

/// The numbers of every account with a quota.
#[derive(Debug)]
pub struct Quotas {
    recount: Duration,
    drain: Drain,
    accounts: Mutex<HashMap<Scope, Arc<Usage>>>,
}

/// Whose files, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    user: String,
    roots: Vec<StoreKey>,
}

/// The numbers of one account.
#[derive(Debug)]
pub(super) struct Usage {
    roots: Vec<StoreKey>,
    stores: Arc<Stores>,
    state: Mutex<State>,
    /// Changes with every end of a count.
    phase: watch::Sender<Phase>,
}

#[derive(Debug, Default)]
struct State {
    total: Total,
    /// What running uploads may still add.
    reserved: Total,
    counted: Option<Instant>,
    counting: bool,
    /// What uploads added since the count began; it may or may not have seen them.
    meanwhile: Total,
}

/// Bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Sum of the sizes.
    pub bytes: u64,
    /// How many.
    pub files: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unknown,
    Known,
    Failed,
}

impl Quotas {
    /// Quotas that are counted anew after `recount`; a count ends when `drain` has
    /// settled: until then uploads may begin.
    pub fn new(recount: Duration, drain: Drain) -> Self {
        Self {
            recount,
            drain,
            accounts: Mutex::default(),
        }
    }

    /// After how long they are counted anew.
    pub fn recount(&self) -> Duration {
        self.recount
    }

    /// The numbers of the account of `tree`; `None` if it has no quota.
    pub(super) fn of(&self, tree: &Tree, stores: &Arc<Stores>) -> Option<Arc<Usage>> {
        if tree.account().quota.is_unlimited() {
            return None;
        }
        let scope = Scope {
            user: tree.account().name.clone(),
            roots: distinct(tree.writable_roots()),
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= ACCOUNTS {
            // Those that no session holds are counted again when they come back.
            accounts.retain(|_, usage| Arc::strong_count(usage) > 1);
        }
        let usage = accounts.entry(scope).or_insert_with_key(|scope| {
            Arc::new(Usage {
                roots: scope.roots.clone(),
                stores: Arc::clone(stores),
                state: Mutex::default(),
                phase: watch::Sender::new(Phase::Unknown),
            })
        });
        Some(Arc::clone(usage))
    }

    /// Waits until the numbers are known, and has them counted again where they are old.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if the first count takes longer than a client waits, or what the store says.
    pub(super) async fn ready(&self, usage: &Arc<Usage>) -> Result<()> {
        self.count_if_old(usage);
        let mut phase = usage.phase.subscribe();
        let known = phase.wait_for(|phase| *phase != Phase::Unknown);
        // The sender lives in `usage`.
        let ended = timeout(FIRST_COUNT, known)
            .await
            .ok()
            .and_then(|ended| ended.ok().map(|phase| *phase));
        match ended {
            Some(Phase::Known) => Ok(()),
            Some(_) => Err(StoreError::new(ErrorKind::Unavailable, "count")),
            None => Err(StoreError::new(ErrorKind::Busy, "count")),
        }
    }

    fn count_if_old(&self, usage: &Arc<Usage>) {
        let mut state = usage.state();
        let fresh = state.counted.is_some_and(|at| at.elapsed() < self.recount);
        if fresh || state.counting || self.drain.has_settled() {
            return;
        }
        state.counting = true;
        state.meanwhile = Total::default();
        drop(state);
        // A failure of the last time is forgotten; known numbers serve until the new ones come.
        usage.phase.send_if_modified(|phase| {
            let failed = *phase == Phase::Failed;
            if failed {
                *phase = Phase::Unknown;
            }
            failed
        });
        let (usage, drain) = (Arc::clone(usage), self.drain.clone());
        // Ends with the count, or when nobody begins an upload any more.
        self.drain.tasks().spawn(async move {
            let counted = tokio::select! {
                () = drain.settled() => None,
                counted = usage.count() => Some(counted),
            };
            usage.counted(counted);
        });
    }
}

impl Usage {
    async fn count(&self) -> Result<Total> {
        let mut total = Total::default();
        for root in &self.roots {
            let Some(store) = self.stores.get(root.backend()) else {
                continue;
            };
            let found = store.total(root).await?;
            total.bytes = total.bytes.saturating_add(found.bytes);
            total.files = total.files.saturating_add(found.files);
        }
        Ok(total)
    }

    /// The count has ended; `None` for one that was given up.
    fn counted(&self, counted: Option<Result<Total>>) {
        let mut state = self.state();
        state.counting = false;
        let phase = match counted {
            Some(Ok(total)) => {
                // Rather too much until the next count than more than the quota.
                state.total = Total {
                    bytes: total.bytes.saturating_add(state.meanwhile.bytes),
                    files: total.files.saturating_add(state.meanwhile.files),
                };
                state.counted = Some(Instant::now());
                Phase::Known
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "what a quota is about cannot be counted");
                // Known numbers stay, and the next upload tries again.
                if state.counted.is_some() {
                    Phase::Known
                } else {
                    Phase::Failed
                }
            }
            None => Phase::Failed,
        };
        drop(state);
        self.phase.send_replace(phase);
    }

    /// What is free of `quota`: bytes; `None` if only files are counted.
    pub(super) fn free(&self, quota: Quota) -> Option<u64> {
        let state = self.state();
        let used = state.total.bytes.saturating_add(state.reserved.bytes);
        quota.bytes.map(|bytes| bytes.saturating_sub(used))
    }

    /// A file of this size is gone.
    pub(super) fn removed(&self, bytes: u64) {
        let mut state = self.state();
        state.total.bytes = state.total.bytes.saturating_sub(bytes);
        state.total.files = state.total.files.saturating_sub(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Held for sums, never over an await.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Roots that lie in no other: a mount within another is counted once.
fn distinct(mut roots: Vec<StoreKey>) -> Vec<StoreKey> {
    roots.sort_by(|one, other| {
        (one.backend(), one.as_str()).cmp(&(other.backend(), other.as_str()))
    });
    let mut kept: Vec<StoreKey> = Vec::new();
    for root in roots {
        if !kept.iter().any(|outer| root.is_within(outer)) {
            kept.push(root);
        }
    }
    kept
}

/// What one upload may grow to, and what it has taken of the quota.
#[derive(Debug)]
pub(super) struct Allowance {
    usage: Option<Arc<Usage>>,
    quota: Quota,
    /// Most bytes of the file.
    file_bytes: Option<u64>,
    /// Size of the file that is replaced, if there is one.
    replaced: Option<u64>,
    /// Bytes of the new file so far.
    size: u64,
    reserved: Total,
}

impl Allowance {
    /// For an upload that begins with `kept` bytes in the place of a file of `replaced` bytes.
    ///
    /// # Errors
    /// The quota leaves no room, or the file is too large already.
    pub(super) fn new(
        usage: Option<Arc<Usage>>,
        quota: Quota,
        file_bytes: Option<u64>,
        replaced: Option<u64>,
        kept: u64,
    ) -> Result<Self> {
        let mut allowance = Self {
            usage,
            quota,
            file_bytes,
            replaced,
            size: 0,
            reserved: Total::default(),
        };
        allowance.reserve_file()?;
        allowance.grow(kept)?;
        // An upload into a full quota can only fail: better before its first byte.
        if replaced.is_none_or(|bytes| bytes == 0) && allowance.free() == Some(0) {
            return Err(full());
        }
        Ok(allowance)
    }

    fn free(&self) -> Option<u64> {
        self.usage.as_ref()?.free(self.quota)
    }

    fn reserve_file(&mut self) -> Result<()> {
        let (Some(usage), None) = (&self.usage, self.replaced) else {
            return Ok(());
        };
        let mut state = usage.state();
        let files = state.total.files.saturating_add(state.reserved.files);
        if self.quota.files.is_some_and(|most| files >= most) {
            return Err(full());
        }
        state.reserved.files += 1;
        self.reserved.files = 1;
        Ok(())
    }

    /// `bytes` more.
    ///
    /// # Errors
    /// The file is too large, or the quota is used up.
    fn grow(&mut self, bytes: u64) -> Result<()> {
        let size = self.size.saturating_add(bytes);
        if self.file_bytes.is_some_and(|most| size > most) {
            return Err(StoreError::new(ErrorKind::FileTooLarge, "write"));
        }
        if let Some(usage) = &self.usage {
            // What the new file has more than the old one, which it will replace.
            let wanted = size.saturating_sub(self.replaced.unwrap_or(0));
            let more = wanted.saturating_sub(self.reserved.bytes);
            let mut state = usage.state();
            let used = state.total.bytes.saturating_add(state.reserved.bytes);
            let after = used.saturating_add(more);
            if more > 0 && self.quota.bytes.is_some_and(|most| after > most) {
                return Err(full());
            }
            state.reserved.bytes = state.reserved.bytes.saturating_add(more);
            self.reserved.bytes += more;
        }
        self.size = size;
        Ok(())
    }

    /// The file is there.
    fn settle(mut self, size: u64) {
        let Some(usage) = self.usage.clone() else {
            return;
        };
        // In one step with what follows: in between, others would take these bytes for free.
        let mut state = usage.state();
        self.release_in(&mut state);
        let replaced = self.replaced.unwrap_or(0);
        let files = u64::from(self.replaced.is_none());
        let grown = size.saturating_sub(replaced);
        state.total.bytes = state.total.bytes.saturating_add(grown);
        state.total.bytes = state
            .total
            .bytes
            .saturating_sub(replaced.saturating_sub(size));
        state.total.files = state.total.files.saturating_add(files);
        if state.counting {
            state.meanwhile.bytes = state.meanwhile.bytes.saturating_add(grown);
            state.meanwhile.files = state.meanwhile.files.saturating_add(files);
        }
    }

    fn release_in(&mut self, state: &mut State) {
        let reserved = std::mem::take(&mut self.reserved);
        state.reserved.bytes = state.reserved.bytes.saturating_sub(reserved.bytes);
        state.reserved.files = state.reserved.files.saturating_sub(reserved.files);
    }
}

/// An upload that ended without its file gives back what it had reserved.
impl Drop for Allowance {
    fn drop(&mut self) {
        if let Some(usage) = self.usage.clone() {
            self.release_in(&mut usage.state());
        }
    }
}

fn full() -> StoreError {
    StoreError::new(ErrorKind::QuotaExceeded, "write")
}

/// An upload that stops where its allowance ends.
pub(super) struct Metered {
    upload: Box<dyn Upload>,
    allowance: Allowance,
    /// A part was refused: going on would only meet the same bound.
    stopped: bool,
}

impl Metered {
    pub(super) fn new(upload: Box<dyn Upload>, allowance: Allowance) -> Self {
        Self {
            upload,
            allowance,
            stopped: false,
        }
    }
}

#[async_trait]
impl Upload for Metered {
    fn part_sizes(&self) -> PartSizes {
        self.upload.part_sizes()
    }

    fn keeps_part_back(&self) -> bool {
        self.upload.keeps_part_back()
    }

    fn hashed_by(&mut self, progress: Arc<Progress>) {
        self.upload.hashed_by(progress);
    }

    /// Refused before the store sees the part; the caller then aborts.
    async fn write(&mut self, part: Vec<Bytes>) -> Result<()> {
        if let Err(full) = self.allowance.grow(length(&part)) {
            self.stopped = true;
            return Err(full);
        }
        self.upload.write(part).await
    }

    async fn commit(self: Box<Self>, last: Vec<Bytes>) -> Result<Stat> {
        let Self {
            upload,
            mut allowance,
            ..
        } = *self;
        if let Err(full) = allowance.grow(length(&last)) {
            upload.abort().await;
            return Err(full);
        }
        let stat = upload.commit(last).await?;
        allowance.settle(stat.size);
        Ok(stat)
    }

    async fn abort(self: Box<Self>) {
        self.upload.abort().await;
    }

    /// What an interruption leaves counts when it is gone on with; what a bound stopped is not left.
    async fn keep(self: Box<Self>, rest: Vec<Bytes>) -> bool {
        if self.stopped {
            self.upload.abort().await;
            return false;
        }
        self.upload.keep(rest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64, files: u64) -> Arc<Usage> {
        Arc::new(Usage {
            roots: Vec::new(),
            stores: Arc::default(),
            state: Mutex::new(State {
                total: Total { bytes, files },
                ..State::default()
            }),
            phase: watch::Sender::new(Phase::Known),
        })
    }

    fn total(usage: &Usage) -> (u64, u64, u64, u64) {
        let state = usage.state();
        let (total, reserved) = (state.total, state.reserved);
        (total.bytes, total.files, reserved.bytes, reserved.files)
    }

    const QUOTA: Quota = Quota {
        bytes: Some(100),
        files: Some(3),
    };

    #[test]
    fn uploads_share_what_is_free_and_give_back_what_they_do_not_use() {
        let usage = usage(40, 1);
        let begin =
            |replaced, kept| Allowance::new(Some(Arc::clone(&usage)), QUOTA, None, replaced, kept);
        let mut one = begin(None, 0).unwrap();
        one.grow(30).unwrap();
        let mut other = begin(None, 0).unwrap();
        assert_eq!(other.grow(31).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        other.grow(30).unwrap();
        assert_eq!(total(&usage), (40, 1, 60, 2));
        // A third file is one too many, and there is no byte left.
        assert_eq!(begin(None, 0).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        drop(other);
        assert_eq!(total(&usage), (40, 1, 30, 1));
        one.settle(30);
        assert_eq!(total(&usage), (70, 2, 0, 0));
        // A file of 40 bytes becomes one of 60, then one of 10.
        let mut larger = begin(Some(40), 0).unwrap();
        larger.grow(60).unwrap();
        assert_eq!(total(&usage), (70, 2, 20, 0));
        larger.settle(60);
        begin(Some(60), 0).unwrap().settle(10);
        assert_eq!(total(&usage), (40, 2, 0, 0));
        // Appending counts what is added; replacing works in a full quota.
        begin(Some(10), 10).unwrap().settle(70);
        assert_eq!(total(&usage), (100, 2, 0, 0));
        assert!(begin(None, 0).is_err());
        let mut same = begin(Some(70), 0).unwrap();
        same.grow(70).unwrap();
        assert!(same.grow(1).is_err());
        drop(same);
        usage.removed(70);
        assert_eq!(total(&usage), (30, 1, 0, 0));
        assert_eq!(usage.free(QUOTA), Some(70));
    }

    /// What one upload has taken is never free, not even while it turns from reserved to stored.
    #[test]
    fn uploads_that_end_together_stay_within_the_quota() {
        let usage = usage(0, 0);
        let upload = || {
            for _ in 0..100_000 {
                let allowance = Allowance::new(Some(Arc::clone(&usage)), QUOTA, None, None, 0);
                if let Ok(mut allowance) = allowance
                    && allowance.grow(60).is_ok()
                {
                    allowance.settle(60);
                    let stored = total(&usage).0;
                    assert!(stored <= 100, "{stored} bytes");
                    usage.removed(60);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(upload);
            }
        });
        assert_eq!(total(&usage), (0, 0, 0, 0));
    }

    #[test]
    fn file_may_be_too_large_without_a_quota() {
        let begin = |kept| Allowance::new(None, Quota::default(), Some(10), None, kept);
        assert_eq!(begin(11).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let mut allowance = begin(4).unwrap();
        allowance.grow(6).unwrap();
        assert_eq!(
            allowance.grow(1).unwrap_err().kind(),
            ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn mounts_within_each_other_are_counted_once() {
        let key = |backend: &str, key: &str| StoreKey::for_test(backend, key);
        let roots = distinct(vec![
            key("a", "home/bob/in"),
            key("a", "home/bob"),
            key("a", "home/bob2"),
            key("b", ""),
            key("b", "x"),
        ]);
        assert_eq!(
            roots,
            [key("a", "home/bob"), key("a", "home/bob2"), key("b", "")]
        );
    }

    #[test]
    fn count_adds_what_came_meanwhile() {
        let usage = usage(0, 0);
        usage.state().counting = true;
        Allowance::new(Some(Arc::clone(&usage)), QUOTA, None, None, 0)
            .unwrap()
            .settle(7);
        usage.counted(Some(Ok(Total {
            bytes: 50,
            files: 1,
        })));
        assert_eq!(total(&usage), (57, 2, 0, 0));
        usage.counted(Some(Err(full())));
        assert_eq!((total(&usage).0, *usage.phase.borrow()), (57, Phase::Known));
    }
}
