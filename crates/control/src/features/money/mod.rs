//! What calls through the front doors may cost, and what they did.

pub(crate) mod calls;
pub(crate) mod caps;
pub(crate) mod forecast;
