//! Who a user is: the users file and its password hashes, behind libunftp's authenticator traits.

mod users;

pub use users::{Users, UsersError};
