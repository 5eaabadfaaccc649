//! The audit log over HTTP: in pages, as a file, and checked.
//!
//! Invariant: reads only; what is in the log is written at the edge. A file has every entry as it is hashed, so that whoever has it needs
//! nobody to check it. Names are looked up when a page is shown, and are no part of an entry.

mod export;
mod show;

use axum::extract::State;
use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::route::get_route;
use lantern_edge::{Json, Page, Paging, Params, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::ReadAudit;
use lantern_store::audit::{self, Filter};
use lantern_types::At;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::App;

pub(crate) use show::STATEMENTS;

const OUTCOMES: [&str; 6] = ["succeeded", "replayed", "denied", "refused", "failed", "abandoned"];
const TIME: &str = "a time such as 2026-01-31T12:00:00Z";

const FILTERS: &[Param] = &[
    Param { name: "action", about: "Only of these actions.", kind: Kind::Texts },
    Param { name: "outcome", about: "Only with these outcomes.", kind: Kind::Words(&OUTCOMES) },
    Param { name: "principalId", about: "Only of this person or key.", kind: Kind::Id },
    Param { name: "resource", about: "Only about this path.", kind: Kind::Text },
    Param { name: "requestId", about: "Only of this request.", kind: Kind::Id },
    Param { name: "since", about: "Only from this time on.", kind: Kind::Time },
    Param { name: "until", about: "Only before this time.", kind: Kind::Time },
    Param { name: "before", about: "Only entries with a smaller `id`.", kind: Kind::From(1) },
];

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/audit", "List who did what, and what was denied to whom", list)
            .takes(&PAGING)
            .takes(FILTERS),
        get_route(
            "/v1/audit/export",
            "The whole audit log as a file, the oldest entry first",
            export::export,
        )
        .takes(export::PARAMS)
        .sends("application/x-ndjson", "An entry on each line, with its hash and that of the one before.")
        .sends("text/csv", "The same as a table."),
        get_route("/v1/audit/verify", "Check that no entry of the audit log was changed", verify),
    ]
}

/// What checking a log came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditVerification)]
struct Verification {
    valid: bool,
    /// How many entries are as they were written.
    entries: i64,
    /// The hash of the last of them.
    head: String,
    /// The first entry that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_broken: Option<Broken>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = BrokenAuditEntry)]
struct Broken {
    id: i64,
    reason: &'static str,
}

async fn list(
    permit: Permit<ReadAudit>,
    State(app): State<App>,
    params: Params,
) -> Result<Page<show::Entry>> {
    let paging = Paging::of(&params)?;
    let asked = params.parsed::<i64>("before", "a whole number")?;
    let last = paging.before.and_then(|(_, id)| i64::try_from(id.as_u128()).ok());
    let filter = Filter {
        actions: params.all("action").map(str::to_owned).collect(),
        outcomes: words(&params)?,
        principal: params.parsed("principalId", "an id")?,
        resource: params.text("resource").map(str::to_owned),
        request: params.parsed("requestId", "an id")?,
        since: params.parsed::<At>("since", TIME)?,
        until: params.parsed::<At>("until", TIME)?,
        before: last.into_iter().chain(asked).min(),
        limit: paging.fetch(),
    };
    let kept = audit::list(&app.db, permit.scope(), filter).await?;
    // A page ends with an entry's number, which stands where other lists have an id.
    let place = |kept: &audit::Kept| (kept.entry.at, Uuid::from_u128(u128::from(kept.id.unsigned_abs())));
    let (kept, page) = Page::cut(kept, &paging, &params, place).split();
    let names = show::names(&app.db, permit.scope(), &kept).await?;
    Ok(page.with(kept.into_iter().map(|kept| show::entry(kept, &names)).collect()))
}

/// The outcomes that are asked for: given several times, or with commas between them.
fn words(params: &Params) -> Result<Vec<String>> {
    let asked: Vec<String> =
        params.all("outcome").flat_map(|text| text.split(',')).map(|word| word.trim().to_owned()).collect();
    match asked.iter().find(|word| !OUTCOMES.contains(&word.as_str())) {
        None => Ok(asked),
        Some(_) => {
            let words = format!("outcome: expected some of {}", OUTCOMES.join(", "));
            Err(lantern_edge::Error::new(lantern_edge::Code::InvalidQuery, words)
                .with_field("outcome", "is none of them"))
        }
    }
}

/// Follows the chain from the first entry to the head that this server has marked. Reads the whole log.
async fn verify(permit: Permit<ReadAudit>, State(app): State<App>) -> Result<Json<Verification>> {
    let verified = audit::verify(&app.db, permit.scope(), app.inner.audit.marks()).await?;
    if let Some(broken) = &verified.broken {
        tracing::error!(tenant = %permit.scope().tenant(), id = broken.id, why = broken.why, "the audit log is broken");
    }
    Ok(Json(Verification {
        valid: verified.broken.is_none(),
        entries: verified.entries,
        head: verified.head.to_string(),
        first_broken: verified.broken.map(|broken| Broken { id: broken.id, reason: broken.why }),
    }))
}
