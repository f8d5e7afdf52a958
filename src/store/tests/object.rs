//! Object-store only.
