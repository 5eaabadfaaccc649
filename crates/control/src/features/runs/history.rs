//! Runs as their journals tell them: events for streams and logs, ends for lists, folds for decisions.
//!
//! Invariant: bodies are opened only where contents are needed. A journal that cannot be read keeps its run from being
//! told, and nothing else: see [`readable`]. Reads only.

use std::error::Error as _;
use std::sync::Arc;

use lantern_edge::{Code, Error, Result};
use lantern_engine::event::{self, Unreadable};
use lantern_engine::{Content, Event, Fact, Manifest, Recall, Run};
use lantern_policy::Scope;
use lantern_store::journal::{self, RunRow, Stored};
use lantern_store::{record, versions};
use lantern_types::{ChainHead, MicroUsd, RunId};
use serde_json::Value;

use super::model::{self, Ending, Said, StepLog};
use crate::App;
use crate::features::settings::retention;

/// Appends read at once.
const PAGE: u32 = 64;
/// Events of a run whose journal is read along with its row.
const SHORT: u8 = 64;
/// Events from the end of a run that its step log is made of.
const LOGGED_MAX: i64 = 300;
/// Appends from the end of a run that its step log in a list is made of.
const LISTED_MAX: u32 = 20;
/// The longest input or output that a list shows, in bytes of JSON. Of a longer one it says that there is one.
const CONTENT_MAX: usize = 32 << 10;

/// The events of one append, with what was said.
pub(crate) async fn events(app: &App, scope: Scope, run: RunId, stored: &Stored) -> Result<Vec<Event>> {
    let body = record::open(&app.vault, scope, run, stored).await?;
    event::decode(&stored.bytes, body.as_deref()).map_err(unreadable)
}

/// The next appends that hold the event `from_seq` or later ones, unopened; none when there are none yet.
pub(crate) async fn page(app: &App, scope: Scope, run: RunId, from_seq: u64) -> Result<Vec<Stored>> {
    let from = i64::try_from(from_seq).unwrap_or(i64::MAX);
    Ok(journal::read(&app.db, scope, run, from, PAGE).await?)
}

/// A run's row with what of its journal was read along.
pub(super) struct Glanced {
    pub(super) row: RunRow,
    /// The whole journal, of a run that is short.
    all: Option<Vec<Stored>>,
}

/// A run's row; of a short run the journal too, for all that is told of it is in there. `None` when there is no such run.
pub(super) async fn glance(app: &App, scope: Scope, run: RunId) -> Result<Option<Glanced>> {
    Ok(journal::glance(&app.db, scope, run, SHORT).await?.map(|(row, all)| Glanced { row, all }))
}

/// What a run was asked, what came of it, and what happened to its steps lately.
pub(super) async fn whole(
    app: &App,
    scope: Scope,
    Glanced { row, all }: &Glanced,
) -> Result<(Said, Vec<StepLog>)> {
    match all {
        Some(all) => short(app, scope, row.id, all).await,
        None => Ok((said(app, scope, row.id).await?, log(app, scope, row).await?)),
    }
}

/// The same from a whole journal, each append of which is decoded once.
async fn short(app: &App, scope: Scope, run: RunId, all: &[Stored]) -> Result<(Said, Vec<StepLog>)> {
    let mut decoded = Vec::with_capacity(all.len());
    for (n, stored) in all.iter().enumerate() {
        decoded.push(if n == 0 || n + 1 == all.len() {
            events(app, scope, run, stored).await?
        } else {
            event::decode(&stored.bytes, None).map_err(unreadable)?
        });
    }
    let Some((opening, closing)) = decoded.first().zip(decoded.last()) else {
        return Ok((Said::default(), Vec::new()));
    };
    Ok((told(opening, closing), decoded.iter().flatten().filter_map(model::logged).collect()))
}

/// What happened to a run's steps lately.
async fn log(app: &App, scope: Scope, row: &RunRow) -> Result<Vec<StepLog>> {
    let from = row.version.saturating_sub(LOGGED_MAX).max(1);
    let limit = u32::try_from(LOGGED_MAX).unwrap_or(u32::MAX);
    let mut lines = Vec::new();
    for stored in journal::read(&app.db, scope, row.id, from, limit).await? {
        let events = event::decode(&stored.bytes, None).map_err(unreadable)?;
        lines.extend(events.iter().filter_map(model::logged));
    }
    Ok(lines)
}

/// The same for a page of runs, from the last few appends of each. One that cannot be read has no log.
pub(super) async fn logs(app: &App, scope: Scope, runs: &[RunId]) -> Result<Vec<Vec<StepLog>>> {
    let mut logs = Vec::with_capacity(runs.len());
    for (run, envelopes) in runs.iter().zip(journal::latest(&app.db, scope, runs.to_vec(), LISTED_MAX).await?)
    {
        let read = envelopes.iter().map(|bytes| event::decode(bytes, None).map_err(unreadable));
        let events: Result<Vec<Vec<Event>>> = read.collect();
        let events = readable(*run, events)?.unwrap_or_default();
        logs.push(events.iter().flatten().filter_map(model::logged).collect());
    }
    Ok(logs)
}

/// What a run began with.
#[derive(Default)]
pub(super) struct Opening {
    pub(super) input: Option<Value>,
    pub(super) cap: Option<MicroUsd>,
    /// What was said before it, of a message in a session.
    pub(super) recall: Option<Arc<Recall>>,
}

/// What a run began with, from its first event.
pub(super) async fn opening(app: &App, scope: Scope, run: RunId) -> Result<Opening> {
    let Some(first) = journal::read(&app.db, scope, run, 1, 1).await?.into_iter().next() else {
        return Ok(Opening::default());
    };
    let events = events(app, scope, run, &first).await?;
    let cap = events.first().and_then(|event| match event.fact {
        Fact::RunStarted { cap, .. } => Some(cap),
        _ => None,
    });
    let recall = events.first().and_then(|event| match &event.content {
        Some(Content::Recalled { recall, .. }) => Some(recall.clone()),
        _ => None,
    });
    Ok(Opening { input: events.first().and_then(model::asked), cap, recall })
}

/// What a run was asked and what came of it.
pub(crate) async fn said(app: &App, scope: Scope, run: RunId) -> Result<Said> {
    let ends = journal::ends(&app.db, scope, vec![run]).await?;
    match ends.into_iter().next().flatten() {
        Some(ends) => said_by(app, scope, run, &ends).await,
        None => Ok(Said::default()),
    }
}

/// The same for a page of runs, where what is long is named and left out.
pub(crate) async fn said_of_all(app: &App, scope: Scope, runs: &[RunId]) -> Result<Vec<Said>> {
    let mut all = Vec::with_capacity(runs.len());
    for (run, ends) in runs.iter().zip(journal::ends(&app.db, scope, runs.to_vec()).await?) {
        let said = match ends {
            Some(ends) => said_by(app, scope, *run, &ends).await,
            None => Ok(Said::default()),
        };
        all.push(readable(*run, said)?.unwrap_or_default().cut(CONTENT_MAX));
    }
    Ok(all)
}

/// The run that a run went on as, if it did. One that cannot be read is not known to have gone on.
pub(crate) async fn went_on_as(app: &App, scope: Scope, run: RunId) -> Result<Option<RunId>> {
    let ends = journal::ends(&app.db, scope, vec![run]).await?;
    let Some((_, last)) = ends.into_iter().flatten().next() else { return Ok(None) };
    let events = readable(run, event::decode(&last.bytes, None).map_err(unreadable))?;
    Ok(events.as_deref().and_then(continuation))
}

/// How a run will end that only waits to hear what its children spent, if it is such a run. One that cannot be read is not
/// known to be.
pub(super) async fn ending(app: &App, scope: Scope, row: &RunRow) -> Result<Option<Ending>> {
    // What it waits to hear about it holds until then.
    if row.finished_at.is_some() || row.held.is_zero() {
        return Ok(None);
    }
    Ok(readable(row.id, last_word(app, scope, row).await)?.flatten())
}

/// Nothing but charges of children follows the event that says how a run will end, so it is looked for from the end.
async fn last_word(app: &App, scope: Scope, row: &RunRow) -> Result<Option<Ending>> {
    let mut span: u32 = PAGE;
    loop {
        let from = row.version.saturating_sub(i64::from(span)).saturating_add(1).max(1);
        let tail = journal::read(&app.db, scope, row.id, from, span).await?;
        for stored in tail.iter().rev() {
            for event in event::decode(&stored.bytes, None).map_err(unreadable)?.iter().rev() {
                match &event.fact {
                    Fact::StepCharged { .. } => {}
                    Fact::RunEnding { outcome, due, .. } => return Ok(Some(Ending::of(*outcome, *due))),
                    _ => return Ok(None),
                }
            }
        }
        if from == 1 {
            return Ok(None);
        }
        span = span.saturating_mul(8);
    }
}

fn continuation(events: &[Event]) -> Option<RunId> {
    events.iter().find_map(|event| match event.fact {
        Fact::ContinuedAsNew { run } => Some(run),
        _ => None,
    })
}

async fn said_by(app: &App, scope: Scope, run: RunId, (first, last): &(Stored, Stored)) -> Result<Said> {
    let opening = events(app, scope, run, first).await?;
    if last.first_seq == first.first_seq {
        return Ok(told(&opening, &opening));
    }
    Ok(told(&opening, &events(app, scope, run, last).await?))
}

/// What the first and the last append of a run tell of it.
fn told(opening: &[Event], closing: &[Event]) -> Said {
    let (output, error) = closing.last().map(model::outcome).unwrap_or_default();
    Said {
        input: opening.first().and_then(model::asked),
        output,
        error,
        continued_as: continuation(closing),
        forked_from: opening.first().and_then(model::forked_from),
        omitted: Vec::new(),
    }
}

/// What was read of a run, or `None` when its journal cannot be read, which is logged here. That the database is away
/// stays an error.
pub(crate) fn readable<T>(run: RunId, read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_spoilt(&error) => {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%run, cause, "the journal of a run cannot be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether an error of reading a journal means that it cannot be read, now or later.
pub(crate) fn is_spoilt(error: &Error) -> bool {
    matches!(error.code(), Code::Internal | Code::StorageDamaged)
}

/// The run, folded from its whole journal. `run_unreadable` when that cannot be read.
pub(crate) async fn fold(app: &App, scope: Scope, row: &RunRow) -> Result<Run> {
    let spoilt = || Error::new(Code::RunUnreadable, model::UNREADABLE);
    readable(row.id, folded(app, scope, row).await)?.ok_or_else(spoilt)
}

async fn folded(app: &App, scope: Scope, row: &RunRow) -> Result<Run> {
    if let Some(at) = row.content_removed_at {
        return Err(retention::removed(at));
    }
    let version = versions::by_id(&app.db, scope, row.agent_version_id).await?;
    let version = version.ok_or_else(|| unreadable(Unreadable("its version is gone".to_owned())))?;
    let manifest: Manifest = serde_json::from_str(&version.manifest).map_err(Error::internal)?;
    let (mut all, mut head) = (Vec::<Event>::new(), ChainHead::genesis());
    loop {
        let next = all.last().map_or(1, |event| event.seq.saturating_add(1));
        let more = page(app, scope, row.id, next).await?;
        if more.is_empty() {
            return Ok(Run::fold(row.id, Arc::new(manifest), &all));
        }
        for stored in more {
            head = record::verify(head, &stored)?;
            if let Some(at) = record::removed_at(&stored) {
                return Err(retention::removed(at));
            }
            all.extend(events(app, scope, row.id, &stored).await?);
        }
    }
}

fn unreadable(error: Unreadable) -> Error {
    Error::internal(error)
}
