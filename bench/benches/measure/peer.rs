//! The bare server that ours is compared with: axum with nothing above it, in a process of its own, which is this program
//! again.

use std::convert::Infallible;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use axum::routing::get;
use futures_util::{Stream, StreamExt as _, stream};
use http::header;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// What this program is called with to be the peer.
pub(crate) const PEER: &str = "peer";

/// A running peer. It ends with this value.
pub(crate) struct Peer {
    process: Child,
    /// Its base URL. `/run` answers bytes, `/events` is a stream that says one thing and then stays open.
    pub(crate) url: String,
}

impl Peer {
    /// Starts one whose answers have so many bytes.
    pub(crate) async fn start(bytes: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([PEER, &bytes.to_string()]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("start the bare server")?;
        let output = process.stdout.take().context("the bare server's output")?;
        let url = BufReader::new(output).lines().next_line().await?.context("the bare server ended")?;
        Ok(Self { process, url })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.id().context("the bare server has ended")
    }
}

/// Serves until it is killed.
pub(crate) async fn serve(bytes: &str) -> Result<()> {
    let body = Bytes::from(vec![b'x'; bytes.parse()?]);
    let run = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], body.clone()));
    let router = Router::new().route("/run", get(run)).route("/events", get(events));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&format!("http://{}", listener.local_addr()?));
    Ok(axum::serve(listener, router).await?)
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = stream::iter([Ok(Event::default().event("step_started").data("{}"))]);
    Sse::new(first.chain(stream::pending())).keep_alive(KeepAlive::default())
}
