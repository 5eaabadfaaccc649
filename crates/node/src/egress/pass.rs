//! Bytes from one side to the other, counted and no faster than they may.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lantern_types::edge::Clock;
use lantern_types::{At, Dur};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A connection over which nothing came for so long is over.
const IDLE_MAX: Dur = Dur::from_secs(300);
const BUFFER: usize = 16 << 10;
/// How much may be sent at once by whoever was quiet.
const BURST: Dur = Dur::from_secs(1);

/// How fast bytes of a rule may pass, all its connections together.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    // A section under this lock is one sum.
    free_at: Mutex<At>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::default() }
    }

    /// How long whoever passed so many bytes at `now` has to wait before the next.
    fn after(&self, bytes: usize, now: At) -> Dur {
        let Some(rate) = self.bytes_per_second else { return Dur::ZERO };
        let micros = (bytes as u64).saturating_mul(1_000_000) / rate.max(1);
        let took = Dur::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now) + took;
        (*free_at - BURST).since(now)
    }
}

/// Passes bytes on until there are no more, or `most` were passed. `false` when it broke off before that.
pub(crate) async fn pass(
    (mut from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    most: Option<u64>,
    (pace, clock): (&Pace, &dyn Clock),
    counted: &AtomicU64,
) -> bool {
    let (mut left, mut buffer) = (most, vec![0; BUFFER]);
    loop {
        let room = left.map_or(BUFFER, |left| usize::try_from(left).unwrap_or(BUFFER).min(BUFFER));
        let Some(room) = buffer.get_mut(..room).filter(|room| !room.is_empty()) else { return true };
        let read = tokio::select! {
            biased;
            read = from.read(room) => read,
            () = clock.sleep(IDLE_MAX) => return false,
        };
        let length = match read {
            Ok(0) => return left.is_none() && to.shutdown().await.is_ok(),
            Ok(length) => length,
            Err(_) => return false,
        };
        let Some(piece) = buffer.get(..length) else { return false };
        let written = tokio::select! {
            biased;
            written = to.write_all(piece) => written,
            () = clock.sleep(IDLE_MAX) => return false,
        };
        if written.is_err() {
            return false;
        }
        counted.fetch_add(length as u64, Ordering::Relaxed);
        left = left.map(|left| left.saturating_sub(length as u64));
        let wait = pace.after(length, clock.now());
        if wait > Dur::ZERO {
            clock.sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_one_pace_after_a_burst_of_a_second() {
        let (pace, at) = (Pace::new(Some(1_000)), |seconds: i64| At::from_micros(seconds * 1_000_000));
        assert_eq!(pace.after(1_000, at(10)), Dur::ZERO);
        assert_eq!(pace.after(500, at(10)), Dur::from_millis(500));
        assert_eq!(pace.after(1_000, at(10)), Dur::from_millis(1_500));
        assert_eq!(pace.after(1_000, at(20)), Dur::ZERO, "what was not used is not kept");
        assert_eq!(pace.after(1_000, at(20)), Dur::from_secs(1));
        assert_eq!(Pace::new(None).after(usize::MAX, at(1)), Dur::ZERO);
    }
}
