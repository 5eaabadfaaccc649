//! Who there is: accounts and the people who sign in to them, how they come, go and come back in, keys that programs bring, and the tickets that web pages follow runs with.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod cookies;
pub(crate) mod factors;
pub(crate) mod identities;
pub(crate) mod invitations;
pub(crate) mod members;
pub(crate) mod passwords;
pub(crate) mod people;
pub(crate) mod session;
pub(crate) mod sign_ins;
mod slips;
pub(crate) mod sso;
pub(crate) mod tickets;
