//! A run's event stream: its journal from some event on, then what is added, then the end.
//!
//! Invariant: every stored event is sent once and in order, whichever process drives the run: hints make it quick, and a
//! look at the rows of all runs that are followed here makes it certain (the store's `watched.rs`). Text of a model call
//! comes in between, best effort and without an id. A run that is over ends its stream with one `end` frame, whatever its
//! status; a client that comes back after that frame gets no stream. What cannot be read is said in an `error` frame, and then no frame has the id of the end: whoever
//! comes back when the journal was restored gets what was missed.

use std::collections::{HashSet, VecDeque};

use futures_util::{Stream, stream};
use lantern_edge::sse::{Frame, Resume};
use lantern_edge::{Code, Error, Result, pass};
use lantern_engine::{Event, Fact, wire};
use lantern_policy::Scope;
use lantern_store::journal::{self, RunRow, Stored};
use lantern_store::notify::{Delta, Heard, RunWatch};
use lantern_store::record;
use lantern_types::{At, RunId};
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::{history, model, service};
use crate::App;

/// The stream of a run's frames; `None` for a client that has seen the last of them. `run_not_found` when it is not
/// there, `too_many_streams` when the process has enough.
pub(super) async fn follow(
    app: &App,
    scope: Scope,
    run: RunId,
    resume: Resume,
) -> Result<Option<impl Stream<Item = Frame> + Send + 'static>> {
    let row = service::head(app, scope, run).await?;
    if row.finished_at.is_some() && resume.from_seq > end_id(&row) {
        return Ok(None);
    }
    let place = app.stream_place()?;
    let tail = Tail {
        watch: app.db.hub().subscribe(scope, run),
        app: app.clone(),
        scope,
        run,
        next: resume.from_seq.max(1),
        live: resume.live,
        unopened: VecDeque::new(),
        ready: VecDeque::new(),
        settled: HashSet::new(),
        over: false,
        _place: place,
    };
    Ok(Some(stream::unfold(tail, |mut tail| async move { tail.frame().await.map(|frame| (frame, tail)) })))
}

struct Tail {
    app: App,
    scope: Scope,
    run: RunId,
    /// The seq of the next event to send.
    next: u64,
    live: bool,
    /// Appends that were read and not opened: one body at a time is in memory, however large they are.
    unopened: VecDeque<Stored>,
    ready: VecDeque<Frame>,
    /// Steps whose outcome was sent: text that comes late for them is dropped.
    settled: HashSet<String>,
    watch: RunWatch,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.read_on().await {
                tracing::warn!(run = %self.run, %error, "an event stream broke off");
                // From anything else the client resumes where it was; nothing is lost by ending here.
                if !history::is_spoilt(&error) || self.spoilt().await.is_err() {
                    return None;
                }
            }
        }
    }

    /// Opens or reads what is there, or waits for something.
    async fn read_on(&mut self) -> Result<()> {
        if let Some(append) = self.unopened.pop_front() {
            return self.open(&append).await;
        }
        let Some(row) = journal::head(&self.app.db, self.scope, self.run).await? else {
            self.over = true;
            return Ok(());
        };
        if u64::try_from(row.version).is_ok_and(|version| version >= self.next) {
            self.unopened = history::page(&self.app, self.scope, self.run, self.next).await?.into();
            return Ok(());
        }
        if row.finished_at.is_some() {
            self.end(&row)?;
        } else if self.live {
            self.wait().await?;
        } else {
            self.over = true;
        }
        Ok(())
    }

    fn end(&mut self, row: &RunRow) -> Result<()> {
        let id = Some(end_id(row));
        self.ready.push_back(Frame { id, ..end(self.run, row, id)? });
        self.over = true;
        Ok(())
    }

    /// Says that the rest cannot be read, and how the run ended if it did: clients follow until they are told.
    async fn spoilt(&mut self) -> Result<()> {
        self.ready.push_back(unreadable(self.run)?);
        self.over = true;
        let row = journal::head(&self.app.db, self.scope, self.run).await.ok().flatten();
        if let Some(row) = row.filter(|row| row.finished_at.is_some()) {
            self.ready.push_back(end(self.run, &row, None)?);
        }
        Ok(())
    }

    async fn open(&mut self, append: &Stored) -> Result<()> {
        for event in history::events(&self.app, self.scope, self.run, append).await? {
            if event.seq < self.next {
                continue;
            }
            if let Fact::StepSettled { step, .. } | Fact::StepFailed { step, .. } = &event.fact {
                self.settled.insert(step.as_str().to_owned());
            }
            self.next = event.seq.saturating_add(1);
            self.ready.push_back(stored(self.run, &event, record::removed_at(append)));
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        match self.watch.next().await {
            Heard::Delta(delta) if !self.settled.contains(&delta.step) => self.ready.push_back(said(&delta)?),
            Heard::Delta(_) | Heard::Changed => {}
        }
        Ok(())
    }
}

fn stored(run: RunId, event: &Event, removed: Option<At>) -> Frame {
    let mut data = wire::frame(run, event);
    if let (Some(at), Some(fields)) = (removed, data.as_object_mut()) {
        fields.insert("contentRemovedAt".to_owned(), json!(at.to_string()));
    }
    Frame { id: Some(event.seq), event: wire::kind(&event.fact).into(), data: data.to_string() }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    kind: &'static str,
    step_id: &'a str,
    run_id: RunId,
    data: Piece<'a>,
    payload: Piece<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct Piece<'a> {
    text: &'a str,
    generation: u32,
    offset: u64,
}

fn said(delta: &Delta) -> Result<Frame> {
    let piece = Piece { text: &delta.text, generation: delta.generation, offset: delta.offset };
    let kind = "llm_delta";
    frame(kind, &Said { kind, step_id: &delta.step, run_id: delta.run, data: piece, payload: piece })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct End<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    run_id: RunId,
    status: &'a str,
    data: Status<'a>,
    payload: Status<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct Status<'a> {
    status: &'a str,
}

/// The last frame; `seq` is its id, for clients that resume by what the data says.
fn end(run: RunId, row: &RunRow, seq: Option<u64>) -> Result<Frame> {
    let status = Status { status: &row.status };
    let kind = "end";
    frame(kind, &End { kind, seq, run_id: run, status: &row.status, data: status, payload: status })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Broken {
    kind: &'static str,
    run_id: RunId,
    code: &'static str,
    error: &'static str,
    data: Reason,
    payload: Reason,
}

#[derive(Clone, Copy, Serialize)]
struct Reason {
    code: &'static str,
    error: &'static str,
}

fn unreadable(run: RunId) -> Result<Frame> {
    broken(run, Code::RunUnreadable, model::UNREADABLE)
}

/// The last frame for a client who may no longer follow the run.
pub(super) fn no_longer(run: RunId) -> Result<Frame> {
    broken(run, Code::Unauthorized, pass::NO_LONGER)
}

fn broken(run: RunId, code: Code, error: &'static str) -> Result<Frame> {
    let (kind, code) = ("error", code.as_str());
    let reason = Reason { code, error };
    frame(kind, &Broken { kind, run_id: run, code, error, data: reason, payload: reason })
}

/// The id of the last frame of a run that is over: that of an event that will never be. A client that comes back with
/// it has seen the end, and one that lost the connection just before has not.
fn end_id(row: &RunRow) -> u64 {
    u64::try_from(row.version).unwrap_or_default().saturating_add(1)
}

fn frame(kind: &'static str, data: &impl Serialize) -> Result<Frame> {
    let data = serde_json::to_string(data).map_err(Error::internal)?;
    Ok(Frame { id: None, event: kind.into(), data })
}
