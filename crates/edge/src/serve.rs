//! The listening side: connections in, requests to the router, and an orderly end.
//!
//! Invariant: every connection belongs to `serve`, which ends only when none is left or the grace is over. A client
//! that sends its head too slowly, or takes nothing of an answer for a while, is cut; so neither can hold a place. What
//! cannot be read as a request is answered like any other (`unread.rs`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
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

use crate::leftover;
use crate::problem::Error;
use crate::request::{Peer, Unread};
use crate::unread::{Answer, Answers, HEAD_BYTES_MAX, Turn};

/// How long a client may take to send a request's head, waiting between two requests included.
const HEAD_MAX: Dur = Dur::from_secs(30);
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
    let turn = Arc::new(Turn::default());
    let mut stream = Answers::over(Unstalled::new(stream), turn.clone());
    let Err(error) = requests(&mut stream, peer, &router, stop, turn).await else { return };
    tracing::debug!(%error, %peer, "a connection broke");
    if let (stream, Some(refusal)) = stream.ended(&error) {
        refuse(stream, peer, router, refusal).await;
    }
}

/// Answers the requests of a connection, until it ends or one cannot be read.
async fn requests<T: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Answers<T>,
    peer: SocketAddr,
    router: &Router,
    stop: Shutdown,
    turn: Arc<Turn>,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = turn.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await.map_err(|never: Infallible| never)?;
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, answering)))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX.std())
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = stop.requested() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

/// Ends a connection with this error. The router gives the answer, so that it is counted, logged and formed like any
/// other; it is asked about nothing, for what the client asked is not known.
async fn refuse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    router: Router,
    refusal: Error,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(Unread(refusal.clone()));
        router.clone().oneshot(request)
    });
    let asked = &b"GET * HTTP/1.1\r\nconnection: close\r\n\r\n"[..];
    let answered = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(tokio::io::join(asked, &mut stream)), service)
        .await;
    if let Err(error) = answered {
        tracing::debug!(%error, %peer, "a refusal was not taken");
        return;
    }
    // What is left unread when a socket closes makes the client's side drop the answer.
    leftover::drain(&mut stream).await;
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
        let read = post(|crate::Body(()): crate::Body<()>| async { "read" });
        let router = wrapped(Router::new().route("/read", read));
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

    /// What a client reads until the connection ends, having sent all of this.
    async fn said(address: SocketAddr, sent: &[u8]) -> String {
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let mut answer = String::new();
        let (wrote, got) = tokio::join!(write.write_all(sent), read.read_to_string(&mut answer));
        wrote.unwrap();
        got.unwrap();
        answer
    }

    fn wrapped(router: Router) -> Router {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let ids = Arc::new(RealIds::new(clock.clone()));
        let around = Around { ids, clock, cors: Cors::default(), trusted: Arc::default(), audit: None };
        request::wrap(router, around, &Limits::default())
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_answered_like_any_other_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = wrapped(Router::new().route("/x", get(|| async { "fine" })));
        let stop = Shutdown::new();
        let long = |bytes: usize| "a".repeat(bytes);
        let many = |count: usize| "a: b\r\n".repeat(count);
        let rest = "HTTP/1.1\r\nconnection: close\r\n";
        let client = async {
            for (sent, status, code) in [
                (format!("GET /{} {rest}\r\n", long(60_000)), "404 Not Found", "route_not_found"),
                (format!("GET /{} {rest}\r\n", long(66_000)), "414 URI Too Long", "address_too_long"),
                (format!("GET /{} {rest}\r\n", long(8 << 20)), "414 URI Too Long", "address_too_long"),
                (format!("GET /y {rest}b: {}\r\n\r\n", long(60_000)), "404 Not Found", "route_not_found"),
                (format!("GET /x {rest}b: {}\r\n\r\n", long(66_000)), "431 ", "head_too_large"),
                (format!("GET /x {rest}b: {}\r\n\r\n", long(8 << 20)), "431 ", "head_too_large"),
                (format!("GET /y {rest}{}\r\n", many(99)), "404 Not Found", "route_not_found"),
                (format!("GET /x {rest}{}\r\n", many(100)), "431 ", "head_too_large"),
                ("NONSENSE\r\n\r\n".to_owned(), "400 Bad Request", "invalid_request"),
                (format!("G(T /x {rest}\r\n"), "400 Bad Request", "invalid_request"),
                ("GET /x HTTP/7.0\r\n\r\n".to_owned(), "400 Bad Request", "invalid_request"),
                (format!("GET /x {rest}a b: c\r\n\r\n"), "400 Bad Request", "invalid_request"),
                (format!("GET /\u{1} {rest}\r\n"), "400 Bad Request", "invalid_request"),
                (format!("POST /x {rest}transfer-encoding: gzip\r\n\r\n"), "400 ", "invalid_request"),
            ] {
                let shown: String = sent.chars().take(60).collect();
                let answer = said(address, sent.as_bytes()).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!(body["code"], code, "{shown}");
                let has = |line: String| head.lines().any(|found| found == line);
                let id = body["requestId"].as_str().unwrap();
                assert!(has(format!("x-request-id: {id}")) && has("connection: close".to_owned()), "{head}");
                assert!(has("content-type: application/json".to_owned()) && head.contains("\r\ndate: "));
            }
            // After answers that were given, on the same connection.
            let fine = "GET /x HTTP/1.1\r\n\r\n";
            let answer = said(address, format!("{fine}{fine}NONSENSE\r\n\r\n").as_bytes()).await;
            assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");
            assert!(answer.contains("\"invalid_request\""), "{answer}");
            stop.request();
        };
        tokio::join!(serve(listener, router, stop.clone()), client);
    }

    /// What was made of an answer, and whether it is still being made.
    #[derive(Clone, Default)]
    struct Made(Arc<std::sync::atomic::AtomicUsize>);

    impl Made {
        fn bytes(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
        fn piece(&self) -> bytes::Bytes {
            const PIECE: &[u8] = &[b'x'; 16 << 10];
            self.0.fetch_add(PIECE.len(), std::sync::atomic::Ordering::Relaxed);
            bytes::Bytes::from_static(PIECE)
        }
        /// Whether somebody makes more of it: the route itself has one, and the test.
        fn goes_on(&self) -> bool {
            Arc::strong_count(&self.0) > 2
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_a_second_is_given_little_and_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (made, clock) = (Made::default(), RealClock::new());
        let giving = made.clone();
        let endless = get(move || async move {
            Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(giving.piece())))
        });
        let router = wrapped(Router::new().route("/endless", endless));
        let stop = Shutdown::new();
        let client = async {
            for reads in [false, true] {
                let before = made.bytes();
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                while made.bytes() == before {
                    tokio::task::yield_now().await;
                }
                let mut seconds = 0;
                while made.goes_on() {
                    if reads {
                        stream.read_exact(&mut [0]).await.unwrap();
                    }
                    clock.sleep(Dur::from_secs(1)).await;
                    seconds += 1;
                    assert!(seconds < 600, "it was never cut");
                }
                assert!(seconds >= 30, "cut after {seconds} s");
                // The rest of it lies in the buffers of two sockets.
                let given = made.bytes() - before;
                assert!(given < 16 << 20, "{given} bytes were made for a client that took {seconds} of them");
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
