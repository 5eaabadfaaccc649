//! Beginning, reading, stopping and deleting sessions, and sending messages to them.
//!
//! Invariant: a message is answered for when its run is durable. Stopping commits before it cancels what is going on, so that
//! nothing begins after it, and no late reply takes it back. A session is removed after its runs.

use lantern_edge::{Code, Error, Page, Paging, Params, Result};
use lantern_policy::action::{CreateSession, DeleteSession, SendMessage, StopSession};
use lantern_policy::{Permit, Principal, Scope};
use lantern_store::sessions::{self, SessionRow};
use lantern_types::{RunId, SessionId, TraceParent};
use serde_json::{Map, Value};

use super::attachments;
use super::frames::Teller;
use super::model::{self, NewMessage, NewSession, Session};
use super::transcript::{Message, Script};
use crate::App;
use crate::features::agents;
use crate::features::runs::service::exchange;
use crate::features::runs::{history, service as runs, steer};

/// Exchanges that one answer shows.
const SHOWN_MAX: u32 = 100;
/// Bytes of messages that one answer shows, but for its last exchange.
const SHOWN_BYTES_MAX: usize = 8 << 20;
/// Runs that are deleted in one go.
const GO: u32 = 100;

/// A session of the tenant. `session_not_found` when there is none, or it is another tenant's.
pub(super) async fn find(app: &App, scope: Scope, session: SessionId) -> Result<SessionRow> {
    sessions::find(&app.db, scope, session).await?.ok_or_else(exchange::not_found)
}

/// Begins a session with an agent, which must be there.
pub(super) async fn create(app: &App, permit: &Permit<CreateSession>, new: NewSession) -> Result<SessionId> {
    let scope = permit.scope();
    let (agent, _) = agents::service::get(app, scope, &new.agent_name).await?;
    if agent.archived_at.is_some() {
        return Err(agents::service::archived(&agent.name));
    }
    let created_by = match &permit.actor().principal {
        Principal::User { id, .. } => *id.bytes(),
        Principal::Key { id, .. } => *id.bytes(),
    };
    let id = SessionId::from_uuid(app.ids.uuid());
    let new = sessions::NewSession {
        id,
        agent_id: agent.id,
        agent_name: agent.name,
        created_by,
        cost_max: new.max_cost,
        at: app.clock.now(),
    };
    app.db.write(scope, move |tx| Box::pin(sessions::create(tx, new))).await?;
    tracing::info!(tenant = %scope.tenant(), session = %id, "a session was made");
    Ok(id)
}

/// Takes a message: answers the run that it started, or that its key had started.
pub(super) async fn send(
    app: &App,
    permit: &Permit<SendMessage>,
    session: SessionId,
    message: NewMessage,
    (key, trace): (Option<String>, Option<TraceParent>),
) -> Result<RunId> {
    let row = find(app, permit.scope(), session).await?;
    let NewMessage { content, attachments, system, tools, labels, max_cost } = message;
    let mut input = Map::from_iter([("message".to_owned(), Value::String(content))]);
    let attachments = attachments::shown(attachments, &app.limits(permit.scope()))?;
    if !attachments.is_empty() {
        input.insert("attachments".to_owned(), Value::Array(attachments));
    }
    let input = Value::Object(input);
    let message = exchange::Message { input, labels, max_cost, key, system, tools, trace };
    let started = exchange::start_exchange(app, (permit.scope(), permit.actor()), row, message).await?;
    Ok(started.run)
}

/// A page of the sessions, the one that was updated last first.
pub(super) async fn list(app: &App, scope: Scope, params: &Params) -> Result<Page<Session>> {
    let paging = Paging::of(params)?;
    let before = paging.before.map(|(at, id)| (at, SessionId::from_uuid(id)));
    let rows = sessions::list(&app.db, scope, before, paging.fetch()).await?;
    let (rows, page) = Page::cut(rows, &paging, params, |row| (row.updated_at, row.id.uuid())).split();
    let last: Vec<RunId> = rows.iter().filter_map(|row| row.last_run).collect();
    let mut said = history::said_of_all(app, scope, &last).await?.into_iter();
    let shown = |row: SessionRow| {
        let said = row.last_run.and_then(|_| said.next());
        let messages = said.map(|said| model::last_exchange(&row, &said)).unwrap_or_default();
        model::shown(scope.tenant(), &row, messages, None)
    };
    Ok(page.with(rows.into_iter().map(shown).collect()))
}

/// A session with what was said in it lately, or before the exchange of this number.
pub(super) async fn get(
    app: &App,
    scope: Scope,
    session: SessionId,
    (before, limit): (Option<u32>, Option<u32>),
) -> Result<Session> {
    let row = find(app, scope, session).await?;
    let upto = before.map_or(row.exchanges, |before| before.saturating_sub(1));
    let limit = limit.unwrap_or(SHOWN_MAX).min(SHOWN_MAX);
    let (mut newest_first, mut bytes): (Vec<Vec<Message>>, usize) = (Vec::new(), 0);
    let mut earlier = None;
    for (n, run) in sessions::exchanges(&app.db, scope, session, upto, limit).await? {
        let script = script(app, scope, session, run).await?;
        bytes = bytes.saturating_add(script.bytes());
        if bytes > SHOWN_BYTES_MAX && !newest_first.is_empty() {
            break;
        }
        newest_first.push(script.messages);
        earlier = Some(n).filter(|n| *n > 1);
    }
    let messages = newest_first.into_iter().rev().flatten().collect();
    Ok(model::shown(scope.tenant(), &row, messages, earlier))
}

/// What was said in an exchange. Of a run that is gone there is nothing, and of one that cannot be read what can be.
async fn script(app: &App, scope: Scope, session: SessionId, first: RunId) -> Result<Script> {
    let mut script = Script::default();
    let (mut teller, mut next) = (Teller::new(session, first), Some(first));
    for _ in 0..=app.limits(scope).continuations_max {
        let Some(run) = next else { break };
        let read = leg(app, scope, run, &mut teller, &mut script).await;
        if history::readable(run, read)?.is_none() {
            let at = app.clock.now();
            script.take(&teller.ended(at, "failed", Some(Code::RunUnreadable.as_str())));
            break;
        }
        next = teller.next.take();
    }
    Ok(script)
}

async fn leg(app: &App, scope: Scope, run: RunId, teller: &mut Teller, script: &mut Script) -> Result<()> {
    let mut from = 1;
    loop {
        let page = history::page(app, scope, run, from).await?;
        if page.is_empty() {
            return Ok(());
        }
        for append in page {
            for event in history::events(app, scope, run, &append).await? {
                from = event.seq.saturating_add(1);
                teller.take(&event).iter().for_each(|told| script.take(told));
            }
        }
    }
}

/// Stops a session for good, and cancels what is going on in it.
pub(super) async fn stop(app: &App, permit: &Permit<StopSession>, session: SessionId) -> Result<()> {
    let scope = permit.scope();
    find(app, scope, session).await?;
    halt(app, scope, session, steer::by(permit.actor())).await
}

async fn halt(app: &App, scope: Scope, session: SessionId, by: String) -> Result<()> {
    let now = app.clock.now();
    app.db.write(scope, move |tx| Box::pin(sessions::stop(tx, session, now))).await?;
    let Some(row) = sessions::find(&app.db, scope, session).await? else { return Ok(()) };
    if let (true, Some(run)) = (row.busy, row.last_run) {
        let reason = Some("the session was stopped".to_owned());
        match steer::cancel(app, scope, run, by, reason).await {
            Ok(_) => {}
            // Over by itself meanwhile, or deleted.
            Err(error) if matches!(error.code(), Code::RunFinished | Code::RunNotFound) => {}
            Err(error) => return Err(error),
        }
        tracing::info!(tenant = %scope.tenant(), %session, "a session was stopped");
    }
    Ok(())
}

/// Removes a session and all that was said in it, after cancelling what is going on.
pub(super) async fn delete(app: &App, permit: &Permit<DeleteSession>, session: SessionId) -> Result<()> {
    let scope = permit.scope();
    find(app, scope, session).await?;
    halt(app, scope, session, steer::by(permit.actor())).await?;
    loop {
        let some = sessions::runs(&app.db, scope, session, GO).await?;
        if some.is_empty() {
            break;
        }
        for run in some {
            match runs::remove(app, scope, run).await {
                Ok(()) => {}
                Err(error) if error.code() == Code::RunNotFound => {}
                Err(error) if error.code() == Code::RunNotFinished => return Err(exchange::busy(Some(run))),
                Err(error) => return Err(error),
            }
        }
    }
    // A run that went on as a new one may not have begun it yet.
    if sessions::find(&app.db, scope, session).await?.is_some_and(|row| row.busy) {
        return Err(exchange::busy(None));
    }
    app.db.write(scope, move |tx| Box::pin(sessions::remove(tx, session))).await?;
    tracing::info!(tenant = %scope.tenant(), %session, "a session was deleted");
    Ok(())
}

/// What names no session.
pub(super) fn id(text: &str) -> Result<SessionId> {
    text.parse().map_err(|_| -> Error { exchange::not_found() })
}
