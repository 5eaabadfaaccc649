//! The listening side: connections in, requests to the router, and an orderly end.
//!
//! Invariant: every connection belongs to `serve`, which ends only when none is left or the grace is over. A client
//! that sends its head too slowly, or takes nothing of an answer for a while, is cut; so neither can hold a place.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lantern_net::Shutdown;
use lantern_types::Dur;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower::ServiceExt as _;

use crate::request::Peer;

/// How long a client may take to send a request's head, waiting between two requests included.
const HEAD_MAX: Dur = Dur::from_secs(30);
/// A request's head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a client may take nothing of an answer.
const STALL_MAX: Dur = Dur::from_secs(30);
/// How long requests under way may take to end once the server stops.
const GRACE: Dur = Dur::from_secs(10);
/// Connections at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// After a failed accept (no file descriptors left, say): time for connections to end.
const ACCEPT_PAUSE: Dur = Dur::from_millis(100);

/// Serves until `stop` is requested, then lets requests under way end for at most ten seconds.
pub async fn serve(listener: TcpListener, router: Router, stop: Shutdown) {
    let mut connections = JoinSet::new();
    while !stop.is_requested() {
        tokio::select! {
            biased;
            () = stop.requested() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE.std()).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE.std(), drained).await.is_err() {
        tracing::warn!(left = connections.len(), "requests that did not end in time are cut");
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: Shutdown) {
    // Small frames of an event stream must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a socket keeps its delay");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().oneshot(request);
        async move { answer.await.map_err(|never: Infallible| never) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX.std())
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Unstalled::new(stream)), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.requested() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection broke");
    }
}

/// A stream whose writes fail once its peer has taken nothing for a while.
struct Unstalled<T> {
    inner: T,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Unstalled<T> {
    const fn new(inner: T) -> Self {
        Self { inner, waiting: None }
    }

    /// What a write came to: while it is pending, the peer's time is running.
    fn judge<R>(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if wrote.is_ready() {
            self.waiting = None;
            return wrote;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_MAX.std())));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Unstalled<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Unstalled<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.judge(context, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.judge(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.judge(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use axum::routing::{get, post};
    use lantern_net::{RealClock, RealIds};
    use lantern_types::Limits;
    use lantern_types::edge::Clock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use crate::Cors;
    use crate::request::{self, Around};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut ours = Unstalled::new(ours);
        ours.write_all(b"12345678").await.unwrap();
        assert_eq!(ours.write_all(b"9").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 8];
        theirs.read_exact(&mut taken).await.unwrap();
        ours.write_all(b"9").await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_all_before_it_reads_sees_its_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let around = Around { ids: Arc::new(RealIds::new(clock.clone())), clock, cors: Cors::default() };
        let read = post(|crate::Body(()): crate::Body<()>| async { "read" });
        let router = request::wrap(Router::new().route("/read", read), around, &Limits::default());
        let stop = Shutdown::new();
        let client = async {
            for (path, status) in [("/read", "413"), ("/nothing", "404")] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 24 << 20);
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&vec![b' '; 24 << 20]).await.unwrap();
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
            }
            stop.request();
        };
        tokio::join!(serve(listener, router, stop.clone()), client);
    }

    #[tokio::test]
    async fn a_request_under_way_is_finished_after_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, entered) = (Shutdown::new(), Shutdown::new());
        let (stopping, reached) = (stop.clone(), entered.clone());
        let slow = get(move |peer: axum::Extension<Peer>| async move {
            reached.request();
            stopping.requested().await;
            format!("{}", peer.0.0.ip())
        });
        let router = Router::new().route("/slow", slow);
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            entered.requested().await;
            stop.request();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(serve(listener, router, stop.clone()), client);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
