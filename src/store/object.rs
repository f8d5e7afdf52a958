//! Object stores through OpenDAL.

/// A bucket as a store.
#[derive(Debug)]
pub struct ObjectStore {}
