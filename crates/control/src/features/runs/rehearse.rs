//! Runs of an agent that are worth trying again: those that failed, and those that people did not think well of.
//!
//! Invariant: it lists cases and starts nothing. What a case was asked is answered in full or named as left out, never cut.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use lantern_edge::route::fresh_post_route;
use lantern_edge::{Body, Fields, Json, Model, Refusal, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::RehearseRuns;
use lantern_store::feedback;
use lantern_store::journal::{self, RunFilter, RunRow};
use lantern_types::{Dur, RunId, VersionId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::history;
use super::service::LOOKS_MAX;
use crate::App;
use crate::features::agents;

const AGENT_NAME_BYTES_MAX: usize = 128;
const CASES: u64 = 25;
const CASES_MAX: u64 = 200;
const WINDOW: &str = "7d";
/// The longest window: a year.
const WINDOW_MAX: Dur = Dur::from_secs(366 * 86_400);

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        fresh_post_route("/v1/runs/rehearse", "List runs of an agent that are worth trying again", ask)
            .refuses(&[Refusal::NotFound]),
    ]
}

/// Which runs are meant.
struct Asked {
    agent: String,
    window: String,
    back: Dur,
    failures: bool,
    low_scores: bool,
    limit: u32,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let agent = fields.required_text("agentName", AGENT_NAME_BYTES_MAX);
        let window = fields.text("window", 16).unwrap_or_else(|| WINDOW.to_owned());
        let back = back(&window);
        if back.is_none() {
            fields.issue(
                "window",
                "expected hours, days or weeks such as \"12h\", \"7d\" or \"2w\", up to a year",
            );
        }
        let failures = fields.boolean("includeFailures");
        let low_scores = fields.boolean("includeLowScore");
        let limit = fields.integer("limit", 1..=CASES_MAX).unwrap_or(CASES);
        // Whoever names neither means both.
        let neither = failures != Some(true) && low_scores != Some(true);
        Some(Self {
            agent: agent?,
            window,
            back: back?,
            failures: neither || failures == Some(true),
            low_scores: neither || low_scores == Some(true),
            limit: u32::try_from(limit).ok()?,
        })
    }
}

/// How far back a window reaches.
fn back(text: &str) -> Option<Dur> {
    let split = text.len().checked_sub(1).filter(|split| text.is_char_boundary(*split))?;
    let (count, unit) = text.split_at(split);
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return None,
    };
    let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = if plain { count.parse().ok()? } else { return None };
    let back = Dur::from_secs(count.checked_mul(hours * 3_600)?);
    (back > Dur::ZERO && back <= WINDOW_MAX).then_some(back)
}

/// Runs that are worth trying again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Rehearsal {
    agent_name: String,
    window: String,
    /// The newest first.
    cases: Vec<Case>,
    count: usize,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// One of them, as it was.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RehearsalCase)]
struct Case {
    #[schema(value_type = String, format = "uuid")]
    original_run_id: RunId,
    #[schema(value_type = String, format = "uuid")]
    original_agent_version: VersionId,
    original_status: String,
    /// The lowest score that somebody gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_score: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    /// What it gave, which is not what somebody would have preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_output: Option<Value>,
    /// Which of the two are there and too long for a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted: Vec<&'static str>,
    original_cost_usd: f64,
    original_at: String,
}

async fn ask(
    permit: Permit<RehearseRuns>,
    State(app): State<App>,
    Body(asked): Body<Asked>,
) -> Result<Json<Rehearsal>> {
    let scope = permit.scope();
    let (agent, _) = agents::service::get(&app, scope, &asked.agent).await?;
    let from = app.clock.now() - asked.back;
    let mut found: BTreeMap<RunId, RunRow> = BTreeMap::new();
    if asked.failures {
        let filter = RunFilter {
            agent_name: Some(agent.name.clone()),
            statuses: vec!["failed".to_owned()],
            from: Some(from),
            limit: asked.limit,
            ..RunFilter::default()
        };
        let runs = journal::look(&app.db, scope, filter, LOOKS_MAX).await?.runs;
        found.extend(runs.into_iter().map(|row| (row.id, row)));
    }
    if asked.low_scores {
        for run in feedback::poorly_rated(&app.db, scope, agent.name.clone(), from, asked.limit).await? {
            // Deleted meanwhile, or there already.
            if !found.contains_key(&run)
                && let Some(row) = journal::head(&app.db, scope, run).await?
            {
                found.insert(run, row);
            }
        }
    }
    let mut rows: Vec<RunRow> = found.into_values().collect();
    rows.sort_by_key(|row| Reverse((row.created_at, row.id)));
    rows.truncate(usize::try_from(asked.limit).unwrap_or(usize::MAX));
    let ids: Vec<RunId> = rows.iter().map(|row| row.id).collect();
    let scores = feedback::lowest(&app.db, scope, ids.clone()).await?;
    let said = history::said_of_all(&app, scope, &ids).await?;
    let cases: Vec<Case> = rows
        .into_iter()
        .zip(said)
        .zip(scores)
        .map(|((row, said), original_score)| Case {
            original_run_id: row.id,
            original_agent_version: row.agent_version_id,
            original_status: row.status,
            original_score,
            input: said.input,
            expected_output: said.output,
            omitted: said.omitted,
            original_cost_usd: row.spent.to_wire(),
            original_at: row.created_at.to_string(),
        })
        .collect();
    let reason = cases.is_empty().then_some("no run of this agent in the window failed or has a low score");
    Ok(Json(Rehearsal { agent_name: agent.name, window: asked.window, count: cases.len(), cases, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_hours_days_or_weeks() {
        for (text, want) in [
            ("12h", Some(12)),
            ("7d", Some(168)),
            ("2w", Some(336)),
            ("52w", Some(8_736)),
            ("53w", None),
            ("0d", None),
            ("d", None),
            ("7", None),
            ("7m", None),
            ("-1d", None),
            ("+1d", None),
            ("7ä", None),
            ("", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(back(text), want.map(|hours: u64| Dur::from_secs(hours * 3_600)), "{text}");
        }
    }
}
