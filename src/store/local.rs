//! A local directory, confined.

/// A local directory as a store.
#[derive(Debug)]
pub struct LocalStore {}
