//! Policies over HTTP: what a tenant says may not be, in the Cedar language.
//!
//! Invariant: what is saved was understood whole; each saving is a version of its own, and none is changed. This process goes by a
//! new version before it answers, and others within two seconds.

mod backtest;
mod past;

use axum::extract::State;
use http::HeaderMap;
use lantern_cedar::{BYTES_MAX, Fault, Otherwise, Policies};
use lantern_edge::etag::{Versioned, Wished};
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, fresh_post_route, get_route, put_route};
use lantern_edge::{
    Body, Code, Error, Fields, Json, Model, NoContent, Page, Paging, Params, Path, Refusal, Result, Route,
};
use lantern_policy::action::{ReadPolicies, SavePolicies};
use lantern_policy::{Permit, Principal, Scope};
use lantern_store::policies::{self, Mode, Version};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::App;

/// Versions of one tenant.
const VERSIONS_MAX: i64 = 10_000;
/// Names the version in force.
const CURRENT: &str = "current";

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/policies", "List the versions of the tenant's policies", list).takes(&PAGING),
        put_route("/v1/policies", "Say what agents may not do", put)
            .conditional()
            .refuses(&[Refusal::Conflict]),
        delete_route("/v1/policies", "Ask no policies any more", delete)
            .conditional()
            .refuses(&[Refusal::NotFound]),
        fresh_post_route("/v1/policies/test", "Ask policies about runs of the past", backtest::test)
            .refuses(&[Refusal::NotFound]),
        get_route("/v1/policies/{version}", "Read a version of the policies, or the `current` one", get)
            .refuses(&[Refusal::NotFound]),
    ]
}

// Model

/// What is to hold from now on.
struct Wanted {
    text: String,
    otherwise: Otherwise,
    mode: Mode,
}

/// Reads a text of policies and what holds without one that speaks of an effect.
fn text(fields: &mut Fields<'_>) -> Option<(String, Otherwise)> {
    let text = fields.required_text("text", BYTES_MAX);
    let otherwise = match fields.text("default", 16).as_deref().map(Otherwise::parse) {
        None => Otherwise::Allow,
        Some(Some(otherwise)) => otherwise,
        Some(None) => {
            fields.issue("default", "expected `allow` or `deny`");
            return None;
        }
    };
    Some((text?, otherwise))
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        let text = text(fields);
        let mode = match fields.text("mode", 16).as_deref() {
            None | Some("enforce") => Mode::Enforce,
            Some("observe") => Mode::Observe,
            Some(_) => {
                fields.issue("mode", "expected `enforce` or `observe`; deleting the policies ends them");
                return None;
            }
        };
        let (text, otherwise) = text?;
        Some(Self { text, otherwise, mode })
    }
}

/// A version of a tenant's policies.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Policies)]
struct Shown {
    /// From 1; the newest is in force.
    version: i64,
    /// Names the text and the default, in journals and receipts.
    digest: String,
    /// `enforce`, `observe` (what they forbid is recorded, and happens), or `off`.
    mode: &'static str,
    /// What holds for what no policy speaks of: `allow` or `deny`.
    default: &'static str,
    /// The ids of its policies.
    policies: Vec<String>,
    /// Whether this is the version in force.
    in_force: bool,
    /// Whether this build cannot read it. While it is in force everything is forbidden.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
    /// Of one version: its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    created_by: String,
    created_at: String,
    #[serde(skip)]
    at: lantern_types::At,
}

impl Shown {
    fn of(version: Version, newest: i64, whole: bool) -> Self {
        let read = version.otherwise.and_then(|otherwise| Policies::read(&version.text, otherwise).ok());
        Self {
            version: version.version,
            digest: version.digest.to_string(),
            mode: version.mode.map_or("unknown", Mode::as_str),
            default: version.otherwise.map_or("unknown", Otherwise::as_str),
            policies: read.iter().flat_map(|read| read.ids().map(str::to_owned)).collect(),
            in_force: version.version == newest && version.mode != Some(Mode::Off),
            unreadable: read.is_none() || version.mode.is_none(),
            text: whole.then_some(version.text),
            created_by: version.made_by,
            created_at: version.made_at.to_string(),
            at: version.made_at,
        }
    }
}

// Service

/// Policies that are understood; else every fault with its line and column.
fn understood(text: &str, otherwise: Otherwise) -> Result<Policies> {
    Policies::read(text, otherwise).map_err(|faults| {
        let first = faults.first().map(Fault::to_string).unwrap_or_default();
        let error = Error::new(Code::InvalidBody, format!("text: {first}"));
        faults.into_iter().fold(error, |error, fault| {
            error.with_field(format!("text:{}:{}", fault.line, fault.column), fault.words)
        })
    })
}

fn not_found(words: &str) -> Error {
    Error::new(Code::PolicyNotFound, words.to_owned())
}

fn who(principal: &Principal) -> String {
    match principal {
        Principal::User { email, .. } => email.clone(),
        Principal::Key { id, .. } => format!("key {id}"),
    }
}

/// Adds a version, and goes by it.
async fn add(
    app: &App,
    scope: Scope,
    wished: Wished,
    make: impl FnOnce(Option<&Version>) -> Result<Version> + Send + 'static,
) -> Result<Version> {
    let made = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let newest = policies::newest_in(tx).await?;
            let checked = wished.check(newest.as_ref().map(|newest| newest.version));
            match checked.and_then(|()| make(newest.as_ref())) {
                Ok(version) => policies::add(tx, &version).await.map(|()| Ok(version)),
                Err(refused) => Ok(Err(refused)),
            }
        })
    });
    let version = made.await??;
    app.standing.refresh(&app.db).await?;
    let (tenant, mode) = (scope.tenant(), version.mode.map_or("", Mode::as_str));
    tracing::info!(%tenant, version = version.version, mode, digest = %version.digest, "policies were saved");
    Ok(version)
}

// Routes

async fn list(permit: Permit<ReadPolicies>, State(app): State<App>, params: Params) -> Result<Page<Shown>> {
    let (paging, scope) = (Paging::of(&params)?, permit.scope());
    let newest = policies::newest(&app.db, scope).await?.map_or(0, |newest| newest.version);
    // A cursor carries the version where other lists have an id.
    let below = paging.before.map_or(i64::MAX, |(_, id)| i64::try_from(id.as_u128()).unwrap_or(0));
    let versions = policies::list(&app.db, scope, below, paging.fetch()).await?;
    let shown = versions.into_iter().map(|version| Shown::of(version, newest, false)).collect();
    Ok(Page::cut(shown, &paging, &params, |shown: &Shown| {
        (shown.at, Uuid::from_u128(u128::from(shown.version.unsigned_abs())))
    }))
}

async fn get(
    permit: Permit<ReadPolicies>,
    State(app): State<App>,
    Path(named): Path<String>,
) -> Result<Versioned<Json<Shown>>> {
    let scope = permit.scope();
    let newest = policies::newest(&app.db, scope).await?;
    let number = newest.as_ref().map_or(0, |newest| newest.version);
    let found = if named == CURRENT {
        newest.filter(|newest| newest.mode != Some(Mode::Off))
    } else {
        match named.parse() {
            Ok(version) => policies::get(&app.db, scope, version).await?,
            Err(_) => None,
        }
    };
    let found = found.ok_or_else(|| {
        not_found(if named == CURRENT { "no policies are in force" } else { "there is no such version" })
    })?;
    Ok(Versioned { revision: number, body: Json(Shown::of(found, number, true)) })
}

/// Say what agents may not do: the whole text, as one new version. The same text, default and mode as those in force is no new
/// version.
async fn put(
    permit: Permit<SavePolicies>,
    State(app): State<App>,
    headers: HeaderMap,
    Body(Wanted { text, otherwise, mode }): Body<Wanted>,
) -> Result<Versioned<Json<Shown>>> {
    let read = understood(&text, otherwise)?;
    let (scope, wished, now) = (permit.scope(), Wished::of(&headers)?, app.clock.now());
    let by = who(&permit.actor().principal);
    let newest = policies::newest(&app.db, scope).await?;
    if let Some(same) = newest.filter(|newest| newest.digest == read.digest() && newest.mode == Some(mode)) {
        wished.check(Some(same.version))?;
        let revision = same.version;
        return Ok(Versioned { body: Json(Shown::of(same, revision, true)), revision });
    }
    let made = add(&app, scope, wished, move |newest| {
        if newest.is_some_and(|newest| newest.version >= VERSIONS_MAX) {
            let words =
                format!("there are {VERSIONS_MAX} versions of the policies, and there may be no more");
            return Err(Error::new(Code::InvalidBody, words));
        }
        Ok(Version::after(newest, (text, otherwise), mode, by, now))
    });
    let made = made.await?;
    let revision = made.version;
    Ok(Versioned { body: Json(Shown::of(made, revision, true)), revision })
}

/// Ask no policies any more. The versions stay, and the one that says so is one more.
async fn delete(
    permit: Permit<SavePolicies>,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<NoContent> {
    let (scope, wished, now) = (permit.scope(), Wished::of(&headers)?, app.clock.now());
    let by = who(&permit.actor().principal);
    let ended = add(&app, scope, wished, move |newest| match newest {
        Some(last) if last.mode != Some(Mode::Off) => {
            // Of a text that cannot be read it is known that it is no longer asked, and nothing else matters.
            let otherwise = last.otherwise.unwrap_or(Otherwise::Deny);
            Ok(Version::after(newest, (last.text.clone(), otherwise), Mode::Off, by, now))
        }
        _ => Err(not_found("no policies are in force")),
    });
    ended.await.map(|_| NoContent)
}
