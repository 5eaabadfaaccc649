//! A bell: rung by one, heard by all who listen, in the order in which they began to wait.
//!
//! Rings between two waits count as one. The standard watch channel would do the same, but it wakes its listeners in
//! a random order, and a simulation must be the same story every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// What is rung.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: AtomicU64,
    waiting: Notify,
}

impl Bell {
    /// Rings.
    pub(crate) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Release);
        self.waiting.notify_waiters();
    }

    /// An ear that hears every ring from now on.
    pub(crate) fn ear(self: &Arc<Self>) -> Ear {
        Ear { heard: self.rings.load(Ordering::Acquire), bell: Arc::clone(self) }
    }
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Ear {
    bell: Arc<Bell>,
    heard: u64,
}

impl Ear {
    /// Completes at the next ring, or at once when there was one since the last call.
    pub(crate) async fn next(&mut self) {
        loop {
            // Listening begins before the count is read, so a ring in between is not missed.
            let mut ring = std::pin::pin!(self.bell.waiting.notified());
            ring.as_mut().enable();
            let rings = self.bell.rings.load(Ordering::Acquire);
            if rings != self.heard {
                self.heard = rings;
                return;
            }
            ring.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn rings_are_heard_once_by_everybody() {
        let bell = Arc::new(Bell::default());
        let (mut first, mut second) = (bell.ear(), bell.ear());
        assert!(first.next().now_or_never().is_none());
        bell.ring();
        bell.ring();
        assert!(first.next().now_or_never().is_some());
        assert!(first.next().now_or_never().is_none(), "two rings between two waits are one");
        assert!(second.next().now_or_never().is_some());
        assert!(bell.ear().next().now_or_never().is_none(), "an ear hears nothing from before it was there");
    }
}
