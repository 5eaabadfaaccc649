//! Who there is: accounts and the people who sign in to them, keys that programs bring, and the tickets that web pages follow runs with.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod cookies;
pub(crate) mod members;
pub(crate) mod session;
pub(crate) mod tickets;
