//! Composition root: bind, run, drain.
