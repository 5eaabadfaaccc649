//! What each vendor does in its own way: addresses, headers, errors, and the dialect of the wire that it speaks.

mod dialect;
pub(crate) mod door;
pub(crate) mod errors;
pub(crate) mod request;
mod table;

pub(crate) use dialect::thinks;
pub use dialect::{CHAT, Dialect, EffortField, LimitField, Schemas, ThoughtField};
pub use table::{Auth, Paths, VENDORS, Vendor, of_provider, vendor};
