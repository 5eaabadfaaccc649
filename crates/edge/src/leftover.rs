//! What is left of a request's body when its answer is known.
//!
//! Invariant: a client that sends all of its body before it reads anything still sees a refusal. So what a refused
//! request goes on sending is read and thrown away, as far as `BYTES_MAX` and `TIME_MAX` allow. Keeps no bytes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use lantern_types::Dur;
use lantern_types::edge::Clock;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most that is thrown away of one request. Whoever sends more is cut.
const BYTES_MAX: usize = 32 << 20;
/// The longest that an answer waits for it.
const TIME_MAX: Dur = Dur::from_secs(5);

/// Throws away what a client goes on sending over a connection that was answered and closed on our side, within the same
/// bounds.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = stream.take(BYTES_MAX as u64);
    let all = async { tokio::io::copy(&mut rest, &mut tokio::io::sink()).await };
    if let Ok(Err(error)) = tokio::time::timeout(TIME_MAX.std(), all).await {
        tracing::debug!(%error, "a connection broke after its refusal");
    }
}

/// A body that can be taken back from whoever was reading it.
#[derive(Clone)]
pub(crate) struct Leftover {
    // Locked for one poll at a time, by the one who reads. `None` once it has ended or was taken back.
    body: Arc<Mutex<Option<Body>>>,
}

impl Leftover {
    /// The body to hand on, and the handle to take it back with.
    pub(crate) fn split(body: Body) -> (Body, Self) {
        let kept = Self { body: Arc::new(Mutex::new(Some(body))) };
        (Body::new(kept.clone()), kept)
    }

    fn with<T>(&self, read: impl FnOnce(&mut Option<Body>) -> T) -> T {
        read(&mut self.body.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Throws away what is left. `false` when that was too much, or took too long.
    pub(crate) async fn discard(&self, clock: &dyn Clock) -> bool {
        let Some(mut body) = self.with(Option::take).filter(|body| !body.is_end_stream()) else {
            return true;
        };
        let all = async {
            let mut left = BYTES_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                left = match left.checked_sub(bytes) {
                    Some(left) => left,
                    None => return false,
                };
            }
            true
        };
        tokio::select! {
            biased;
            ended = all => ended,
            () = clock.sleep(TIME_MAX) => false,
        }
    }
}

impl HttpBody for Leftover {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|slot| {
            let Some(body) = slot else { return Poll::Ready(None) };
            let polled = Pin::new(body).poll_frame(context);
            if let Poll::Ready(None | Some(Err(_))) = polled {
                *slot = None;
            }
            polled
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|slot| slot.as_ref().is_none_or(HttpBody::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|slot| slot.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use lantern_net::RealClock;
    use std::convert::Infallible;

    fn chunks(count: usize) -> Body {
        let chunk = Bytes::from(vec![b'x'; 1 << 20]);
        Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, Infallible>(chunk.clone()))))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_thrown_away_within_reason() {
        let clock = RealClock::new();
        for (count, ended) in [(0, true), (32, true), (33, false)] {
            let (mut body, left) = Leftover::split(chunks(count));
            assert_eq!(left.discard(&clock).await, ended, "{count}");
            // Whoever was reading finds nothing more.
            assert!(body.frame().await.is_none());
        }
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert!(!Leftover::split(never).1.discard(&clock).await);
        let (mut body, left) = Leftover::split(chunks(2));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1 << 20);
        assert!(left.discard(&clock).await);
    }
}
