//! Drives libunftp.
