//! The command parser.
