//! Calls that came through the front doors: what each cost, and what was charged for processes that died.
//!
//! Invariant: what is shown is what the records say. None holds a word of what was asked or answered.

use std::collections::HashSet;

use axum::extract::State;
use lantern_edge::openapi::{Kind, Param};
use lantern_edge::route::get_route;
use lantern_edge::{Error, Json, Params, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::ListCalls;
use lantern_store::escrow;
use lantern_types::call::{CallEvent, CallRecord, CrashCharge};
use lantern_types::{At, MicroUsd};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;
/// Commits that are looked at for one answer.
const COMMITS_MAX: u32 = 20_000;

const FILTERS: &[Param] = &[
    Param {
        name: "limit",
        about: "At most so many, 50 without it; more than 500 asks for 500.",
        kind: Kind::From(1),
    },
    Param { name: "until", about: "Only what was written down by this time.", kind: Kind::Time },
];

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![get_route("/v1/calls", "List calls through the front doors, the newest first", list).takes(FILTERS)]
}

/// A call, or what was charged for a process that died.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Call)]
struct Shown {
    /// `call` or `crash_charge`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// When it was over.
    at: String,
    /// `chat`, `messages`, `responses` or `embeddings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_id: Option<String>,
    /// Which attempt of the call it is: a later one follows an earlier one of the same id that came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Why this provider and model, where others would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// How it ended: `complete`, `refused`, `stopped`, `client_gone` or `broken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    end: Option<lantern_types::call::CallEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<i64>,
    tokens_in: u64,
    tokens_out: u64,
    cost_usd: f64,
    /// What was held for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_usd: Option<f64>,
    /// The most completion tokens it was let have, when a cap lowered them.
    #[serde(skip_serializing_if = "Option::is_none")]
    lowered_to: Option<u64>,
    /// Settled after its process had been taken for dead: the crash charge covers it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
}

fn of_call(record: CallRecord) -> Shown {
    let used = record.reported.unwrap_or_default();
    Shown {
        kind: "call",
        id: Some(record.id.to_string()),
        at: record.at.to_string(),
        door: Some(record.door),
        provider: Some(record.provider),
        model: Some(record.model),
        api_key_id: record.key.map(|key| key.to_string()),
        attempt: Some(record.attempt),
        why: record.why,
        end: Some(record.end),
        took_ms: Some(record.took_ms),
        tokens_in: used.prompt(),
        tokens_out: used.output.max(record.counted),
        cost_usd: record.cost.to_wire(),
        held_usd: Some(record.hold.to_wire()),
        lowered_to: record.lowered_to,
        late: record.late,
    }
}

/// The dearest of its charges: a call counts in several accounts, and a crash in as many.
fn of_crash(charge: &CrashCharge) -> Shown {
    let cost = charge.charges.iter().map(|charged| charged.amount).max().unwrap_or(MicroUsd::ZERO);
    Shown {
        kind: "crash_charge",
        id: None,
        at: charge.at.to_string(),
        door: None,
        provider: None,
        model: None,
        api_key_id: None,
        attempt: None,
        why: None,
        end: None,
        took_ms: None,
        tokens_in: 0,
        tokens_out: 0,
        cost_usd: cost.to_wire(),
        held_usd: None,
        lowered_to: None,
        late: false,
    }
}

async fn list(permit: Permit<ListCalls>, State(app): State<App>, params: Params) -> Result<Json<Vec<Shown>>> {
    let limit = params.at_most("limit", LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
    let until =
        params.parsed("until", "a time such as 2026-01-31T12:00:00Z")?.unwrap_or(At::from_micros(i64::MAX));
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let (at_once, mut skipped) = (limit.max(LIMIT_DEFAULT), 0);
    let mut shown: Vec<(At, Shown)> = Vec::new();
    let mut seen = HashSet::new();
    // Most commits hold a call. Some of an earlier build's hold records of runs and nothing else.
    while shown.len() < most && skipped < COMMITS_MAX {
        let written = escrow::recent(&app.db, permit.scope(), until, at_once, skipped).await?;
        // What is written meanwhile moves the others on.
        let new = written.iter().filter(|written| seen.insert((written.process, written.first_seq)));
        for line in new.flat_map(|written| written.bytes.split(|byte| *byte == b'\n')) {
            if !line.is_empty() {
                shown.extend(of_event(serde_json::from_slice(line).map_err(Error::internal)?));
            }
        }
        let found = u32::try_from(written.len()).unwrap_or(u32::MAX);
        if found < at_once {
            break;
        }
        skipped = skipped.saturating_add(found);
    }
    shown.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    shown.truncate(most);
    Ok(Json(shown.into_iter().map(|(_, shown)| shown).collect()))
}

fn of_event(event: CallEvent) -> Option<(At, Shown)> {
    match event {
        CallEvent::Call(record) => Some((record.at, of_call(*record))),
        CallEvent::CrashCharge(charge) => Some((charge.at, of_crash(&charge))),
        // Those stand in the journals of their runs.
        CallEvent::Runs(_) => None,
    }
}
