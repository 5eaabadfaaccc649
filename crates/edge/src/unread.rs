//! What is answered when the HTTP library cannot read a request: our own error, in place of its empty one.
//!
//! Invariant: what goes over a connection are answers of the router. What the library would say by itself, while nobody
//! was asked anything, is held back and looked at once the connection has ended; then the router is asked for the answer.
//! Only behind answers that a client has not taken yet may the library's own words still go out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::code::Code;
use crate::problem::Error;

/// A request's head, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// The headers of a request that the library reads.
const HEADERS_MAX: usize = 100;
/// More than the library says by itself.
const UNSAID_MAX: usize = 1 << 10;

/// Whether what is written to a connection is an answer of ours. Shared by those who answer and the stream they write to,
/// all in one task.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    answers: AtomicUsize,
    ours: AtomicBool,
}

impl Turn {
    /// A request has come. Its answer is under way as long as what this gives is kept.
    pub(crate) fn begin(self: &Arc<Self>) -> Answering {
        self.answers.fetch_add(1, Relaxed);
        self.ours.store(true, Relaxed);
        Answering(self.clone())
    }

    fn is_ours(&self) -> bool {
        self.ours.load(Relaxed)
    }

    /// All that was written is on its way.
    fn flushed(&self) {
        if self.answers.load(Relaxed) == 0 {
            self.ours.store(false, Relaxed);
        }
    }
}

/// An answer that is under way.
#[derive(Debug)]
pub(crate) struct Answering(Arc<Turn>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answers.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer, which is under way until its body is.
pub(crate) struct Answer {
    body: Body,
    _answering: Answering,
}

impl Answer {
    pub(crate) const fn new(body: Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream over which only answers go.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    inner: T,
    turn: Arc<Turn>,
    /// What the library would have said.
    unsaid: Vec<u8>,
    /// Bytes that came since the last answer, and after how many of them a line ended.
    came: usize,
    line: Option<usize>,
}

impl<T> Answers<T> {
    pub(crate) const fn over(inner: T, turn: Arc<Turn>) -> Self {
        Self { inner, turn, unsaid: Vec::new(), came: 0, line: None }
    }

    /// The stream again, and the error to answer with if the library refused a request.
    pub(crate) fn ended(self, why: &hyper::Error) -> (T, Option<Error>) {
        let refused = (!self.unsaid.is_empty()).then(|| {
            let long_line = self.came >= HEAD_BYTES_MAX && self.line.is_none_or(|line| line > HEAD_BYTES_MAX);
            refusal(&self.unsaid, long_line, why)
        });
        (self.inner, refused)
    }

    fn note(&mut self, bytes: &[u8]) {
        if self.turn.is_ours() {
            (self.came, self.line) = (0, None);
            return;
        }
        if self.line.is_none() {
            self.line = bytes.iter().position(|byte| *byte == b'\n').map(|at| self.came + at);
        }
        self.came = self.came.saturating_add(bytes.len());
    }

    /// Whether these words are not ours; then they are kept.
    fn holds(&mut self, words: &[u8]) -> bool {
        if self.turn.is_ours() {
            return false;
        }
        let room = UNSAID_MAX.saturating_sub(self.unsaid.len());
        self.unsaid.extend(words.iter().take(room));
        true
    }
}

/// What the library's own answer comes to.
fn refusal(unsaid: &[u8], long_line: bool, why: &hyper::Error) -> Error {
    let too_long = || {
        let words = format!("the address is too long: with the headers it may have {HEAD_BYTES_MAX} bytes");
        Error::new(Code::AddressTooLong, words)
    };
    match unsaid.get(9..12) {
        Some(b"414") => too_long(),
        Some(b"431") if long_line => too_long(),
        Some(b"431") => {
            let words = format!(
                "the head of the request is too large: address and headers may have {HEAD_BYTES_MAX} bytes \
                 together, and there may be {HEADERS_MAX} headers"
            );
            Error::new(Code::HeadTooLarge, words)
        }
        _ => Error::new(Code::InvalidRequest, format!("the request cannot be read as HTTP/1.1: {why}")),
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Answers<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buf))?;
        this.note(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Answers<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.holds(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut this.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.turn.is_ours() {
            for slice in slices {
                this.holds(slice);
            }
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut this.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.inner).poll_flush(context))?;
        this.turn.flushed();
        Poll::Ready(Ok(()))
    }

    /// With something unsaid the stream stays open: the answer is still to come.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unsaid.is_empty() {
            Pin::new(&mut this.inner).poll_shutdown(context)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
