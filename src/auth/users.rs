//! The users file.

use std::{path::Path, sync::Arc};

use crate::access::Account;

/// The table of users, with argon2id hashes (PHC strings).
#[derive(Debug)]
pub struct Users {
    _todo: (),
}

/// Mistakes in a users file, all at once.
pub type UsersError = crate::config::ConfigErrors;

impl Users {
    /// Reads and checks a users file.
    pub fn load(_file: &Path) -> Result<Self, UsersError> {
        todo!()
    }

    /// Checks a text; `file` names it in errors.
    pub fn parse(_text: &str, _file: &Path) -> Result<Self, UsersError> {
        todo!()
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Checks a password: the account, or `None` for an unknown user and for a wrong password alike,
    /// after the same work. Blocks for the time of one hash: call it off the async workers.
    pub fn verify(&self, _name: &str, _password: &str) -> Option<Arc<Account>> {
        todo!()
    }

    /// The argon2id PHC string of `password`, with a new salt.
    pub fn hash(_password: &str) -> Result<String, argon2::password_hash::Error> {
        todo!()
    }
}
