//! Fresh ids and other randomness, from the operating system.
//!
//! Invariant: every byte handed out is unpredictable. There is no weaker source to fall back on: when the operating
//! system gives none, the process stops, because ids would collide and keys could be guessed.

use std::sync::Arc;

use lantern_types::edge::{Clock, IdGen};
use lantern_types::id::uuid7;
use uuid::Uuid;

/// Mints UUIDv7 ids from a clock and the operating system's random bytes.
#[derive(Clone)]
pub struct RealIds {
    clock: Arc<dyn Clock>,
}

impl RealIds {
    /// Ids whose time part comes from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl IdGen for RealIds {
    fn uuid(&self) -> Uuid {
        let mut random = [0_u8; 16];
        self.fill(&mut random);
        uuid7(self.clock.now(), u128::from_be_bytes(random))
    }

    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            tracing::error!(%error, "the operating system gives no random bytes; stopping");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealClock;

    #[test]
    fn ids_are_version_7_and_distinct() {
        let ids = RealIds::new(Arc::new(RealClock::new()));
        let (one, two) = (ids.uuid(), ids.uuid());
        assert_ne!(one, two);
        assert_eq!(one.get_version_num(), 7);
        let millis = |id: Uuid| id.as_u128() >> 80;
        assert!(millis(one) <= millis(two));
    }
}
