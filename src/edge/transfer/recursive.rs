//! `LIST -R`: a directory and all below it, in the form of `ls -R` (CONFORMANCE H3, O15).
//!
//! Each directory is listed by itself through the [`View`], so rights, mounts and hidden names are those
//! of LIST. Bounded in rows, depth and time; a listing that meets a bound fails, since a client would
//! take one that merely ends for the whole tree.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, timeout_at};

use super::prepare::PrintLine;
use crate::{
    access::VirtualPath,
    config::RecursiveListing,
    store::{Entry, ErrorKind, Kind, Result as StoreResult, View, transfer::Failure},
};

/// A directory whose turn comes, and what its header says.
struct Place {
    path: VirtualPath,
    shown: String,
    depth: usize,
}

/// The directory at hand.
struct Open {
    place: Place,
    entries: BoxStream<'static, StoreResult<Entry>>,
    /// Its header is still to be printed.
    is_new: bool,
    below: Vec<Place>,
}

/// A walk through a tree, depth first.
struct Walk {
    view: Arc<View>,
    line: PrintLine,
    open: Option<Open>,
    /// The next one is the last.
    waiting: Vec<Place>,
    rows: usize,
    bounds: RecursiveListing,
    end: Instant,
    is_first: bool,
}

/// The lines of `path` and all below it. `entries` are those of `path`; `argument` is what the client
/// called it.
pub(super) fn lines(
    view: Arc<View>,
    path: VirtualPath,
    argument: Option<&str>,
    entries: BoxStream<'static, StoreResult<Entry>>,
    line: PrintLine,
    bounds: RecursiveListing,
) -> BoxStream<'static, Result<String, Failure>> {
    let shown = match argument.unwrap_or(".") {
        "/" => "/",
        name => name.trim_end_matches('/'),
    };
    let place = Place {
        path,
        shown: shown.to_owned(),
        depth: 0,
    };
    let walk = Walk {
        view,
        line,
        open: Some(Open::new(place, entries)),
        waiting: Vec::new(),
        rows: 0,
        bounds,
        end: Instant::now() + bounds.time,
        is_first: true,
    };
    stream::try_unfold(walk, |mut walk| async move {
        Ok(walk.next().await?.map(|line| (line, walk)))
    })
    .boxed()
}

impl Open {
    fn new(place: Place, entries: BoxStream<'static, StoreResult<Entry>>) -> Self {
        Self {
            place,
            entries,
            is_new: true,
            below: Vec::new(),
        }
    }
}

impl Walk {
    async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            let Some(open) = &mut self.open else {
                if !self.enter_next().await? {
                    return Ok(None);
                }
                continue;
            };
            if std::mem::take(&mut open.is_new) {
                let between = if std::mem::take(&mut self.is_first) {
                    ""
                } else {
                    "\r\n"
                };
                return Ok(Some(format!("{between}{}:", open.place.shown)));
            }
            let entry = timeout_at(self.end, open.entries.next())
                .await
                .map_err(|_| too_long(self.bounds.time))?;
            let Some(entry) = entry.transpose()? else {
                let below = self.open.take().map(|open| open.below);
                self.waiting.extend(below.into_iter().flatten().rev());
                continue;
            };
            self.rows += 1;
            if self.rows > self.bounds.rows {
                return Err(Failure::ListingTooLarge("more entries than allowed"));
            }
            if entry.stat.kind == Kind::Directory
                && let Ok(path) = open.place.path.join(&entry.name)
            {
                let depth = open.place.depth + 1;
                if depth > self.bounds.depth {
                    return Err(Failure::ListingTooLarge("deeper than allowed"));
                }
                let slash = if open.place.shown.ends_with('/') {
                    ""
                } else {
                    "/"
                };
                open.below.push(Place {
                    path,
                    shown: format!("{}{slash}{}", open.place.shown, entry.name),
                    depth,
                });
            }
            return Ok(Some((self.line)(&entry, &open.place.path)));
        }
    }

    /// Opens the next directory, if there is one. What vanished meanwhile, or is not the account's to
    /// list, has no section.
    async fn enter_next(&mut self) -> Result<bool, Failure> {
        while let Some(place) = self.waiting.pop() {
            let listed = timeout_at(self.end, self.view.list(&place.path))
                .await
                .map_err(|_| too_long(self.bounds.time))?;
            match listed {
                Ok(entries) => {
                    self.open = Some(Open::new(place, entries));
                    return Ok(true);
                }
                Err(Failure::Denied(_)) => {}
                Err(Failure::Store(error))
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(false)
    }
}

fn too_long(time: Duration) -> Failure {
    tracing::debug!(?time, "a recursive listing took too long");
    Failure::ListingTooLarge("longer than allowed")
}
