//! What one run says, over as many connections as it takes.
//!
//! Invariant: every stored event is told once and in order. Shows nothing.

use std::collections::VecDeque;

use futures_util::stream::Stream;
use lantern_net::RealClock;
use lantern_net::http::Response;
use lantern_net::sse::Parser;
use lantern_types::edge::Clock as _;
use lantern_types::{Dur, RunId};

use super::state::Input;
use crate::cli::api::{Api, Call};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::FRAME_BYTES_MAX;
use crate::cli::follow::approvers::Approvers;
use crate::cli::follow::backoff::Backoff;
use crate::cli::follow::frame::Frame;

/// How long to wait for a server that has been away for long.
const LONGEST: Dur = Dur::from_secs(10);

struct Feed<'a> {
    api: &'a Api,
    clock: &'a RealClock,
    run: RunId,
    /// The number of the last event that was told.
    after: u64,
    response: Option<Response>,
    parser: Parser,
    ready: VecDeque<Frame>,
    approvers: Approvers,
    backoff: Backoff,
    over: bool,
}

/// The run's events from the first, and at its end the run.
pub(super) fn follow<'a>(api: &'a Api, clock: &'a RealClock, run: RunId) -> impl Stream<Item = Input> + 'a {
    let feed = Feed {
        api,
        clock,
        run,
        after: 0,
        response: None,
        parser: Parser::new(FRAME_BYTES_MAX),
        ready: VecDeque::new(),
        approvers: Approvers::default(),
        backoff: Backoff::default(),
        over: false,
    };
    futures_util::stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) })
}

impl Feed<'_> {
    async fn next(&mut self) -> Option<Input> {
        while !self.over {
            if let Some(frame) = self.ready.pop_front() {
                if let Some(told) = self.tell(frame).await {
                    return Some(told);
                }
                continue;
            }
            match self.read().await {
                Ok(()) => {}
                Err(failure) if failure.passing => self.wait().await,
                Err(failure) => return Some(self.broken(failure.message)),
            }
        }
        None
    }

    async fn tell(&mut self, mut frame: Frame) -> Option<Input> {
        if let Some(seq) = frame.seq {
            if seq <= self.after {
                return None;
            }
            self.after = seq;
        }
        if let Some((code, words)) = frame.error() {
            // A login that is over is renewed by the next connection, or refused there.
            if code != "unauthorized" {
                return Some(self.broken(words.to_owned()));
            }
            self.wait().await;
            return None;
        }
        if frame.end_status().is_some() {
            self.over = true;
            let run = self.api.fetch(Call::get(format!("/v1/runs/{}", self.run))).await;
            return Some(match run {
                Ok(run) => Input::Over(self.run, run),
                Err(failure) => self.broken(failure.message),
            });
        }
        self.approvers.mark(self.api, &mut frame).await;
        Some(Input::Frame(self.run, frame))
    }

    /// The next bytes, from a new connection if need be.
    async fn read(&mut self) -> Result<(), Failure> {
        let response = match &mut self.response {
            Some(response) => response,
            None => {
                self.parser = Parser::new(FRAME_BYTES_MAX);
                self.response.insert(self.api.events(self.run, self.after, true).await?)
            }
        };
        let chunk = response.chunk().await.map_err(|error| self.api.unreached(&error))?;
        let Some(chunk) = chunk else {
            let closed = Failure::new(Exit::Unreachable, "the server closed the event stream");
            return Err(Failure { passing: true, ..closed });
        };
        self.backoff.reset();
        let events = self.parser.push(&chunk);
        let events = events.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        self.ready.extend(events.into_iter().map(Frame::read));
        Ok(())
    }

    async fn wait(&mut self) {
        self.response = None;
        self.ready.clear();
        let wait = self.backoff.next().unwrap_or(LONGEST);
        self.clock.sleep(wait).await;
    }

    fn broken(&mut self, words: String) -> Input {
        self.over = true;
        Input::Broken(self.run, words)
    }
}
