//! Who there is: people who sign in, and keys that programs bring.

pub(crate) mod api_keys;
pub(crate) mod session;
