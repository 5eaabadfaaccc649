//! Hearing what is said in a session, over as many connections as it takes.
//!
//! Invariant: every frame that has an id is given once and in order: each new connection asks for what comes after the last.
//! Gives up only when the server stays away, or refuses. Waiting for a frame may be broken off and taken up again.

use std::collections::VecDeque;

use lantern_net::http::{Response, StatusCode};
use lantern_net::sse;
use lantern_types::SessionId;
use lantern_types::edge::Clock;
use serde_json::Value;

use crate::cli::api::{Api, Auth};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::backoff::Backoff;
use crate::cli::format::text;

/// The longest frame that is read.
const FRAME_BYTES_MAX: usize = 32 << 20;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// `user.message`, `agent.delta`, ….
    pub(crate) kind: String,
    /// What it says.
    pub(crate) data: Value,
    /// The frame's JSON on one line.
    pub(crate) raw: String,
    id: Option<u64>,
}

impl Frame {
    fn read(event: sse::Event) -> Self {
        let whole: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let kind = text(&whole, "type").to_owned();
        // A frame that names no id comes with that of the one before it.
        let numbered = !matches!(kind.as_str(), "connected" | "agent.delta" | "error");
        let id = event.id.and_then(|id| id.parse().ok()).filter(|_| numbered);
        let data = whole.get("data").cloned().unwrap_or_default();
        Self { kind, data, raw: event.data.replace('\n', " "), id }
    }
}

/// Somebody who listens to a session.
pub(crate) struct Listener<'a> {
    api: &'a Api,
    clock: &'a dyn Clock,
    session: SessionId,
    after: u64,
    live: bool,
    connection: Option<(Response, sse::Parser)>,
    frames: VecDeque<Frame>,
    backoff: Backoff,
    /// The server has answered before, so when it does not now, it is worth waiting for.
    reached: bool,
    renewed: bool,
    over: bool,
}

impl<'a> Listener<'a> {
    /// Listens from after the frame `after` on; with `live` until the session is stopped.
    pub(crate) fn new(
        api: &'a Api,
        clock: &'a dyn Clock,
        session: SessionId,
        after: u64,
        live: bool,
    ) -> Self {
        Self {
            api,
            clock,
            session,
            after,
            live,
            connection: None,
            frames: VecDeque::new(),
            backoff: Backoff::default(),
            reached: false,
            renewed: false,
            over: false,
        }
    }

    /// The id of the last frame that was given.
    pub(crate) const fn after(&self) -> u64 {
        self.after
    }

    /// The next frame; `None` when nothing more will come.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            while let Some(frame) = self.frames.pop_front() {
                match frame.id {
                    Some(id) if id <= self.after => continue,
                    Some(id) => self.after = id,
                    None => {}
                }
                if frame.kind == "error" {
                    self.refused(&frame).await?;
                    break;
                }
                self.over |= frame.kind == "session.stopped";
                if frame.kind != "connected" {
                    return Ok(Some(frame));
                }
            }
            if self.over {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// Opens a connection if there is none, and reads a piece of it.
    async fn read(&mut self) -> Result<(), Failure> {
        if self.connection.is_none() {
            match self.api.conversation(self.session, self.after, self.live).await {
                Ok(response) if response.status() == StatusCode::NO_CONTENT => {
                    self.over = true;
                    return Ok(());
                }
                Ok(response) => self.connection = Some((response, sse::Parser::new(FRAME_BYTES_MAX))),
                Err(failure) if failure.passing && self.reached => return self.wait(failure).await,
                Err(failure) => return Err(failure),
            }
            self.reached = true;
        }
        let Some((response, parser)) = &mut self.connection else { return Ok(()) };
        let lost = match response.chunk().await {
            Ok(Some(chunk)) => {
                // Only a byte proves that the server is back: one that accepts and closes is still away.
                self.backoff.reset();
                let events =
                    parser.push(&chunk).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
                self.frames.extend(events.into_iter().map(Frame::read));
                return Ok(());
            }
            Ok(None) if !self.live => {
                self.over = true;
                return Ok(());
            }
            Ok(None) => Failure::new(Exit::Unreachable, "the server closed the event stream"),
            Err(error) => self.api.unreached(&error),
        };
        self.connection = None;
        self.wait(lost).await
    }

    async fn wait(&mut self, lost: Failure) -> Result<(), Failure> {
        let Some(wait) = self.backoff.next() else {
            let hint =
                format!("nothing is lost: `lantern chat --session {}` goes on from here", self.session);
            return Err(lost.hint(hint));
        };
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// The login is over, perhaps: then it is renewed, once, and the stream opened again.
    async fn refused(&mut self, frame: &Frame) -> Result<(), Failure> {
        self.connection = None;
        self.frames.clear();
        let broken = self.api.broke_off(text(&frame.data, "code"), text(&frame.data, "error"));
        if broken.exit == Exit::Forbidden
            && !self.renewed
            && let Auth::Login(token) = self.api.auth()
            && self.api.renew(&token).await?.is_some()
        {
            self.renewed = true;
            return Ok(());
        }
        Err(broken)
    }
}
