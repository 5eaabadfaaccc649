//! What the outside looks like to code that must not touch it. Real bodies live in `net`, fakes in `sim`.

use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;

use crate::{At, Dur};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The one way to learn the time and to let it pass.
pub trait Clock: Send + Sync + 'static {
    /// The time now. Never earlier than an earlier answer of the same clock.
    fn now(&self) -> At;
    /// Completes once `dur` has passed.
    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()>;
}

/// The one place where new ids and other randomness come from.
pub trait IdGen: Send + Sync + 'static {
    /// A new UUIDv7; wrap it with the id type's `from_uuid`.
    fn uuid(&self) -> Uuid;
    /// Fills `bytes` with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Where background work runs: named, counted, and drained at shutdown.
pub trait Tasks: Send + Sync + 'static {
    /// Starts `work`. It is cancelled or drained when the process stops.
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>);
}
