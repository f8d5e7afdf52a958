//! Who may touch what, as pure functions: virtual paths, mounts, grants and store keys.
//!
//! Owns the only constructor of [`StoreKey`]; a key is the proof that [`Tree::authorise`] said yes.
//! Knows nothing of sockets, stores or clocks. Called by [`crate::edge`] (paths) and
//! [`crate::store`] (keys).

mod account;
mod action;
mod explain;
mod path;
mod rule;
mod template;
mod tree;

pub use account::{
    Account, AccountLimits, Circumstances, Conditions, FileNames, Hours, Known, NotAdmitted, Quota,
    Window,
};
pub use action::{Action, Actions};
pub use explain::{Question, Step, explain};
pub use path::{PathError, VirtualPath};
pub use rule::{Pattern, Rule};
pub use template::{check as check_template, check_home};
pub use tree::{Denied, Grounds, Mount, StoreKey, Tree};
