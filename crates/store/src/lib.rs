//! Everything that lasts: the facade over SQLite and PostgreSQL, the journal, leases, inbox and outbox, sealed
//! bodies and blobs.
//!
//! Invariant: a tenant's rows are reached only through a [`Scope`](lantern_policy::Scope), and a run's state changes
//! only by [`journal::append`]. Events are bytes here: this crate never parses one, and decides nothing. It reads no
//! clock and mints no id; callers bring both.

#![warn(missing_docs)]

pub mod allowances;
pub mod approvals;
pub mod audit;
pub mod backup;
mod bell;
pub mod blob;
pub mod db;
mod dialect;
pub mod error;
pub mod escrow;
pub mod feedback;
pub mod identities;
pub mod inbox;
pub mod journal;
pub mod keys;
pub mod labels;
pub mod lease;
pub mod limits;
mod loose;
pub mod metered;
pub mod notify;
pub mod outbox;
mod partial;
pub mod past;
pub mod policies;
pub mod receipts;
pub mod record;
pub mod relay;
pub mod retention;
pub mod routing;
mod runs;
pub mod seal;
pub mod secrets;
pub mod sessions;
pub mod share;
pub mod sign_ins;
pub mod sso;
pub mod stops;
pub mod system;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tickets;
pub mod traces;
pub mod usage;
pub mod value;
pub mod vault;
pub mod versions;
pub mod watched;
pub mod workloads;

pub use blob::{Blobs, BucketOptions, Credentials};
pub use db::{
    Batch, Db, Expect, Moment, Pace, PostgresOptions, SqliteOptions, SystemTx, TenantTx, Where, create_roles,
    migrate_postgres,
};
pub use error::{Error, Result};
pub use keys::Keys;
pub use limits::InForce;
pub use notify::{Hint, Hub};
pub use policies::Standing;
pub use receipts::Notary;
pub use relay::Relay;
pub use seal::Sealer;
pub use value::{Row, Value};
pub use vault::{Sealed, Vault};
