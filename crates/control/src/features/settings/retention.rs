//! For how long what was said in runs is kept: the tenant's own time, or the server's.
//!
//! Invariant: a preview counts what the worker would remove, and changes nothing. What is removed, and how, is the store's
//! business; when, the worker's.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::etag::{IfMatch, Live, Versioned};
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Body, Change, Code, Error, Fields, Json, Model, Result, Route};
use lantern_policy::action::{ReadRetention, SaveRetention};
use lantern_policy::{Permit, Scope};
use lantern_store::retention::{self, Kept, Preview};
use lantern_types::{At, Dur};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

const BYTES_MAX: usize = 32;
/// The word for no time at all.
const NEVER: &str = "never";

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/settings/retention", "Read for how long content is kept", read),
        post_route("/v1/settings/retention", "Say for how long content is kept", save).conditional(),
        post_route("/v1/retention/preview", "Count what would be removed, and remove nothing", preview),
    ]
}

// Model

/// For how long; `null` leaves it to the server.
struct Wanted {
    content: Change<Kept>,
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        let content = match fields.change_text("content", BYTES_MAX) {
            Change::Keep => Change::Keep,
            Change::Clear => Change::Clear,
            Change::Set(text) if text == NEVER => Change::Set(None),
            Change::Set(text) => match retention::parse(&text) {
                Some(kept) => Change::Set(Some(kept)),
                None => {
                    fields.issue("content", format!("{}; or \"{NEVER}\"", retention::EXPECTED));
                    return None;
                }
            },
        };
        Some(Self { content })
    }
}

/// For how long content is kept after a run has ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Retention)]
struct Shown {
    /// A time such as `90d`; for ever without it.
    content: Option<String>,
    /// Who says so: `tenant` or `server`.
    source: &'static str,
    /// What it is where the tenant does not say.
    server_content: Option<String>,
}

/// What is older than content is kept for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RetentionPreview)]
struct Previewed {
    /// The time that was counted with; nothing would be removed without it.
    content: Option<String>,
    /// Runs that would lose their content.
    runs: i64,
    /// When the first of them ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    /// When the last of them ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    /// Of how many of them, the oldest, the next three tell.
    measured_runs: i64,
    /// Pieces of content, one for each append that has any.
    bodies: i64,
    /// Bytes of these in the database.
    bytes: i64,
    /// How many of these are over 64 KiB and lie beside it; their bytes are not counted.
    large_bodies: i64,
}

impl Previewed {
    fn of(kept: Kept, found: Preview) -> Self {
        Self {
            content: kept.map(retention::text),
            runs: found.runs,
            oldest: found.oldest.map(|at| at.to_string()),
            newest: found.newest.map(|at| at.to_string()),
            measured_runs: found.measured,
            bodies: found.bodies,
            bytes: found.bytes,
            large_bodies: found.large,
        }
    }
}

// Service

/// What holds; the tag is of what the tenant says, and not of what the server does.
type Answer = Live<Json<Shown>>;

async fn shown(app: &App, scope: Scope) -> Result<Answer> {
    let ((own, revision), server) = (retention::revised(&app.db, scope).await?, app.content_kept);
    let shown = Shown {
        content: own.unwrap_or(server).map(retention::text),
        source: if own.is_some() { "tenant" } else { "server" },
        server_content: server.map(retention::text),
    };
    Ok(Live(Versioned { body: Json(shown), revision }))
}

/// What ended before this is older than `kept`.
fn cutoff(now: At, kept: Dur) -> At {
    At::from_micros(now.micros().saturating_sub(kept.micros()))
}

// Routes

async fn read(permit: Permit<ReadRetention>, State(app): State<App>) -> Result<Answer> {
    shown(&app, permit.scope()).await
}

async fn save(
    permit: Permit<SaveRetention>,
    State(app): State<App>,
    headers: HeaderMap,
    Body(wanted): Body<Wanted>,
) -> Result<Answer> {
    let (scope, now) = (permit.scope(), app.clock.now());
    let asked = IfMatch::of(&headers)?;
    let kept = match wanted.content {
        Change::Set(kept) => Some(kept),
        Change::Clear => None,
        Change::Keep => {
            let words = format!("{}; or \"{NEVER}\"; or null to leave it to the server", retention::EXPECTED);
            return Err(Error::new(Code::InvalidBody, "say for how long").with_field("content", words));
        }
    };
    let said = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if let Err(outdated) = asked.check(retention::locked_revision(tx, now).await?) {
                return Ok(Err(outdated));
            }
            retention::set_own(tx, kept, now).await.map(Ok)
        })
    });
    said.await??;
    let shown = shown(&app, scope).await?;
    tracing::info!(tenant = %scope.tenant(), content = shown.0.body.0.content, "said for how long content is kept");
    Ok(shown)
}

async fn preview(
    permit: Permit<ReadRetention>,
    State(app): State<App>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Previewed>> {
    let scope = permit.scope();
    let kept = match wanted.content {
        Change::Set(kept) => kept,
        Change::Clear => app.content_kept,
        Change::Keep => retention::own(&app.db, scope).await?.unwrap_or(app.content_kept),
    };
    let found = match kept {
        Some(kept) => retention::preview(&app.db, scope, cutoff(app.clock.now(), kept)).await?,
        None => Preview::default(),
    };
    Ok(Json(Previewed::of(kept, found)))
}

/// What was said in it is there no more.
pub(crate) fn removed(at: At) -> Error {
    let words = format!("what was said in this run was removed at {at}");
    Error::new(Code::ContentRemoved, words).with_extra("contentRemovedAt", at.to_string())
}
