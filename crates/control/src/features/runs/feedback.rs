//! What people think of runs: scores, what they say beside them, and what both come to for an agent.
//!
//! Invariant: what is said is sealed, and goes with the content of its run. A score changes nothing of the run.

use axum::extract::State;
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Body, Code, Created, Error, Fields, Json, Model, Path, Refusal, Result, Route};
use lantern_policy::action::{RateRun, ReadAgent, ReadRun};
use lantern_policy::{Permit, Scope};
use lantern_store::feedback::{self, Feedback};
use lantern_store::journal;
use lantern_store::seal::Place;
use lantern_types::{Dur, FeedbackId, RunId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::not_found;
use super::service;
use crate::App;
use crate::features::agents;

const TEXT_BYTES_MAX: usize = 16 << 10;
const SOURCE_BYTES_MAX: usize = 64;
/// Where it was said, when nobody says.
const DASHBOARD: &str = "dashboard";
const WEEK: Dur = Dur::from_secs(7 * 86_400);

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/runs/{id}/feedback", "List what was thought of a run, the newest first", list),
        post_route("/v1/runs/{id}/feedback", "Say what you think of a run", add)
            .refuses(&[Refusal::Conflict]),
        get_route("/v1/agents/{name}/feedback", "Read what was thought of an agent's runs", of_agent),
    ]
}

/// What somebody thinks of a run.
struct Thought {
    score: u8,
    source: String,
    said: Said,
}

/// What is sealed of it.
#[derive(Default, Serialize, Deserialize)]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    preferred: Option<String>,
}

impl Model for Thought {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.value("score").is_none() {
            fields.issue("score", "is required: a whole number from 1 to 5");
        }
        let score = fields.integer("score", 1..=5).and_then(|score| u8::try_from(score).ok());
        let comment = fields.text("comment", TEXT_BYTES_MAX);
        let preferred = fields.text("preferredOutput", TEXT_BYTES_MAX);
        let source = fields.text("source", SOURCE_BYTES_MAX);
        Some(Self {
            score: score?,
            source: source.unwrap_or_else(|| DASHBOARD.to_owned()),
            said: Said { comment, preferred },
        })
    }
}

/// Something that somebody thought of a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RunFeedback)]
struct Shown {
    #[schema(value_type = String, format = "uuid")]
    id: FeedbackId,
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    agent_name: String,
    /// From 1 to 5.
    score: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// What would have been better.
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_output: Option<String>,
    source: String,
    created_at: String,
}

/// It is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = FeedbackRecorded)]
struct Recorded {
    status: &'static str,
    #[schema(value_type = String, format = "uuid")]
    id: FeedbackId,
}

/// What was thought of an agent's runs, summed up.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentFeedback)]
struct Summary {
    agent_name: String,
    total_feedback: i64,
    /// Absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_score: Option<f64>,
    /// Scores of 4 and 5.
    thumbs_up: i64,
    /// Scores of 1 and 2.
    thumbs_down: i64,
    runs_with_preferred_output: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last7_days_avg_score: Option<f64>,
}

const fn place(id: &FeedbackId) -> Place<'_> {
    Place { purpose: "feedback", row: id.bytes() }
}

async fn add(
    permit: Permit<RateRun>,
    State(app): State<App>,
    Path(run): Path<String>,
    Body(thought): Body<Thought>,
) -> Result<Created<Recorded>> {
    let (scope, run) = (permit.scope(), named(&run)?);
    service::head(&app, scope, run).await?;
    let id = FeedbackId::from_uuid(app.ids.uuid());
    let Thought { score, source, said } = thought;
    let preferred = said.preferred.is_some();
    let body = if said.comment.is_some() || preferred {
        let plain = serde_json::to_vec(&said).map_err(Error::internal)?;
        Some(app.vault.sealer().seal(scope, place(&id), &plain).await?)
    } else {
        None
    };
    let new = Feedback { id, run, score, preferred, source, body, at: app.clock.now() };
    if !app.db.write(scope, move |tx| Box::pin(feedback::add(tx, new))).await? {
        service::head(&app, scope, run).await?;
        let words = format!("{} are kept of one run, and this one has as many", feedback::PER_RUN_MAX);
        return Err(Error::new(Code::Conflict, words));
    }
    // The run may have lost its content, or have been deleted, in between: then this goes the same way.
    app.db
        .write(scope, move |tx| {
            Box::pin(async move {
                match journal::head_in(tx, run).await? {
                    None => feedback::remove(tx, run).await,
                    Some(row) if row.content_removed_at.is_some() => feedback::forget(tx, run).await,
                    Some(_) => Ok(()),
                }
            })
        })
        .await?;
    let location = format!("/v1/runs/{run}/feedback");
    Ok(Created { body: Recorded { status: "recorded", id }, location })
}

async fn list(
    permit: Permit<ReadRun>,
    State(app): State<App>,
    Path(run): Path<String>,
) -> Result<Json<Vec<Shown>>> {
    let (scope, run) = (permit.scope(), named(&run)?);
    let agent_name = service::head(&app, scope, run).await?.agent_name;
    let mut all = Vec::new();
    for found in feedback::of_run(&app.db, scope, run).await? {
        let Said { comment, preferred } = opened(&app, scope, &found).await?;
        all.push(Shown {
            id: found.id,
            run_id: run,
            agent_name: agent_name.clone(),
            score: found.score,
            comment,
            preferred_output: preferred,
            source: found.source,
            created_at: found.at.to_string(),
        });
    }
    Ok(Json(all))
}

async fn opened(app: &App, scope: Scope, found: &Feedback) -> Result<Said> {
    let Some(body) = &found.body else { return Ok(Said::default()) };
    let plain = app.vault.sealer().open(scope, place(&found.id), body).await?;
    serde_json::from_slice(&plain).map_err(Error::internal)
}

async fn of_agent(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Summary>> {
    let (agent, _) = agents::service::get(&app, permit.scope(), &name).await?;
    let found = feedback::of_agent(&app.db, permit.scope(), agent.id, app.clock.now() - WEEK).await?;
    Ok(Json(Summary {
        agent_name: agent.name,
        total_feedback: found.total,
        avg_score: average(found.sum, found.total),
        thumbs_up: found.up,
        thumbs_down: found.down,
        runs_with_preferred_output: found.preferred_runs,
        last7_days_avg_score: average(found.recent_sum, found.recent),
    }))
}

/// To two places.
fn average(sum: i64, count: i64) -> Option<f64> {
    let hundredths = sum.saturating_mul(100).saturating_add(count / 2).checked_div(count)?;
    i32::try_from(hundredths).ok().map(|hundredths| f64::from(hundredths) / 100.0)
}

/// What is no id names no run.
fn named(id: &str) -> Result<RunId> {
    id.parse().map_err(|_| not_found())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_has_two_places_and_none_has_none() {
        for (sum, count, want) in [(0, 0, None), (5, 1, Some(5.0)), (8, 3, Some(2.67)), (7, 3, Some(2.33))] {
            assert_eq!(average(sum, count), want, "{sum}/{count}");
        }
    }
}
