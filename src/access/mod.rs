//! Who may touch what, as pure functions: virtual paths, mounts, grants and store keys.
//!
//! Owns the only constructor of [`StoreKey`]; a key is the proof that [`Tree::authorise`] said yes.
//! Knows nothing of sockets, stores or clocks. Called by [`crate::edge`] (paths) and
//! [`crate::store`] (keys).

mod path;
mod tree;

pub use path::{PathError, VirtualPath};
pub use tree::{Account, Action, Denied, Mount, StoreKey, Tree};
