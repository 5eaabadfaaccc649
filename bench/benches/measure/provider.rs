//! A model provider on loopback: answers at once, or holds calls back until it is told to let them go, and remembers
//! every call by its idempotency key.
//!
//! Invariant: a key counts as answered only when its whole reply was handed to the connection. It speaks just enough
//! of the chat-completions wire: one streamed choice with usage.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, header};
use lantern_net::TaskSet;
use lantern_types::At;
use lantern_types::edge::{Clock, Tasks as _};
use tokio::net::TcpListener;

/// What a call says when it must be held back.
pub(crate) const HOLD: &str = "hold";

const REPLY: &str = concat!(
    r#"data: {"id":"c","object":"chat.completion.chunk","model":"bench","choices":[{"index":0,"#,
    r#""delta":{"role":"assistant","content":"ok"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"c","object":"chat.completion.chunk","model":"bench","choices":[{"index":0,"delta":{},"#,
    r#""finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"c","object":"chat.completion.chunk","model":"bench","choices":[],"#,
    r#""usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}"#,
    "\n\ndata: [DONE]\n\n"
);

/// What is known of the calls under one key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    /// Calls that came.
    pub(crate) came: u32,
    /// Calls that were answered.
    pub(crate) answered: u32,
    /// When the last one came.
    pub(crate) last: Option<At>,
}

struct Book {
    clock: Arc<dyn Clock>,
    holding: AtomicBool,
    count: AtomicUsize,
    // Sections under this lock are one update or one copy.
    calls: Mutex<HashMap<String, Calls>>,
}

impl Book {
    fn note(&self, key: &str, note: impl FnOnce(&mut Calls)) {
        note(self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default());
    }
}

/// A provider that listens.
pub(crate) struct Provider {
    book: Arc<Book>,
    /// The base URL.
    pub(crate) url: String,
}

impl Provider {
    /// Starts one among `tasks`.
    pub(crate) async fn start(tasks: &TaskSet, clock: Arc<dyn Clock>) -> Result<Self> {
        let book = Arc::new(Book {
            clock,
            holding: AtomicBool::new(true),
            count: AtomicUsize::new(0),
            calls: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(book.clone());
        tasks.spawn("provider", Box::pin(async move { drop(axum::serve(listener, router).await) }));
        Ok(Self { book, url })
    }

    /// From now on nothing is held back.
    pub(crate) fn let_go(&self) {
        self.book.holding.store(false, Ordering::Relaxed);
    }

    /// Calls so far, and those that were made again.
    pub(crate) fn count(&self) -> usize {
        self.book.count.load(Ordering::Relaxed)
    }

    /// Every key so far, with its calls.
    pub(crate) fn calls(&self) -> HashMap<String, Calls> {
        self.book.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn complete(
    State(book): State<Arc<Book>>,
    headers: HeaderMap,
    body: Bytes,
) -> ([(header::HeaderName, &'static str); 1], &'static str) {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let now = book.clock.now();
    book.note(key, |calls| {
        calls.came += 1;
        calls.last = Some(now);
    });
    book.count.fetch_add(1, Ordering::Relaxed);
    let held = body.windows(HOLD.len()).any(|window| window == HOLD.as_bytes());
    if held && book.holding.load(Ordering::Relaxed) {
        // Until the caller goes away, which drops this future.
        std::future::pending::<()>().await;
    }
    book.note(key, |calls| calls.answered += 1);
    ([(header::CONTENT_TYPE, "text/event-stream")], REPLY)
}
