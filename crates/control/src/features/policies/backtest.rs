//! Policies that are not in force, asked about runs of the past: so many runs a request, the oldest first.
//!
//! Invariant: reads and counts; no run is changed and none is made. A request reads [`EVENTS`] events, and one run more at the most;
//! who asks with the cursor of the last answer goes on behind it, and the sums of all answers are the sums of all runs.

use axum::extract::State;
use lantern_cedar::Otherwise;
use lantern_edge::{Body, Code, Error, Fields, Json, Model, Result};
use lantern_engine::event;
use lantern_policy::Permit;
use lantern_policy::action::TestPolicies;
use lantern_store::policies::{After, past};
use lantern_types::{At, Forbids, MicroUsd, RunId};
use serde::Serialize;
use utoipa::ToSchema;

use super::past::{Block, Run, Sums};
use super::{text, understood};
use crate::App;
use crate::features::agents;

/// Events that one request reads.
const EVENTS: u64 = 100_000;
const AGENT_NAME_BYTES_MAX: usize = 128;
const CURSOR_BYTES_MAX: usize = 128;

/// Which policies, and which runs.
pub(super) struct Asked {
    text: String,
    otherwise: Otherwise,
    agent: Option<String>,
    since: Option<At>,
    until: Option<At>,
    after: Option<After>,
    cap: Option<MicroUsd>,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.refuse_unread();
        let text = text(fields);
        let agent = fields.text("agentName", AGENT_NAME_BYTES_MAX);
        let since = fields.parsed_if_any::<At>("since");
        let until = fields.parsed_if_any::<At>("until");
        let cap = fields.dollars("maxCostUsdPerRun");
        let after = match fields.text("cursor", CURSOR_BYTES_MAX).as_deref().map(cursor) {
            None => None,
            Some(Some(after)) => Some(after),
            Some(None) => {
                fields.issue("cursor", "expected the `cursor` of an earlier answer");
                return None;
            }
        };
        let (text, otherwise) = text?;
        Some(Self { text, otherwise, agent, since, until, after, cap })
    }
}

fn cursor(text: &str) -> Option<After> {
    let (at, run) = text.split_once('.')?;
    Some(After { at: At::from_micros(at.parse().ok()?), run: run.parse::<RunId>().ok()? })
}

/// What policies would have done to runs of the past. Each attempt of a step is asked about by itself, as if the rest of its run had
/// gone as it went.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PolicyTest)]
pub(super) struct Tested {
    /// Names the text and the default.
    digest: String,
    /// Runs that were looked at, and their events.
    runs: u64,
    events: u64,
    /// Attempts of steps that would have been let.
    allowed: u64,
    /// Attempts of steps that would have been forbidden, and in how many runs.
    blocked: u64,
    blocked_runs: u64,
    /// What all of it cost, in micro-dollars.
    spent_micro_usd: i64,
    /// What those cost that would have been forbidden, in micro-dollars.
    saved_micro_usd: i64,
    /// What the runs cost that forbidden calls of agents began, in micro-dollars. They are runs like any other: it is part of what all
    /// of it cost, and what is forbidden within them is part of what was saved.
    children_micro_usd: i64,
    /// Runs that `maxCostUsdPerRun` would have stopped, and what they spent on what they did after that, in micro-dollars.
    stopped_runs: u64,
    stopped_micro_usd: i64,
    /// Steps that policies of that time denied and these do not.
    freed: u64,
    /// Calls of `http.fetch` of which it was not recorded where they went: they were asked about as calls of a tool alone.
    unknown_hosts: u64,
    /// Model calls of programs in boxes, which were not asked about.
    unasked: u64,
    /// What each policy would have forbidden. A step that several forbid is counted for each.
    policies: Vec<TestedPolicy>,
    /// The first attempts that would have been forbidden.
    blocks: Vec<TestedBlock>,
    /// How many more there are.
    unnamed_blocks: u64,
    /// What to ask with for the runs after these; nothing when there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// What one policy would have forbidden.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TestedPolicy {
    id: String,
    blocked: u64,
    saved_micro_usd: i64,
}

/// One attempt of a step that would have been forbidden.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TestedBlock {
    #[schema(format = "uuid")]
    run_id: String,
    step: String,
    attempt: u32,
    at: String,
    forbids: Vec<TestedEffect>,
    cost_micro_usd: i64,
}

/// One effect of it.
#[derive(Serialize, ToSchema)]
struct TestedEffect {
    /// `call_model`, `spend`, `call_tool`, `reach_out` or `call_agent`.
    action: String,
    /// The model, tool, host or agent.
    on: String,
    /// The policies that say so; none where nothing permits it.
    by: Vec<String>,
}

impl Tested {
    fn of(digest: String, sums: Sums, cursor: Option<String>) -> Self {
        let policies = sums.by.into_iter().map(|(id, by)| TestedPolicy {
            id,
            blocked: by.blocked,
            saved_micro_usd: by.saved,
        });
        Self {
            digest,
            runs: sums.runs,
            events: sums.events,
            allowed: sums.asked - sums.blocked,
            blocked: sums.blocked,
            blocked_runs: sums.blocked_runs,
            spent_micro_usd: sums.spent,
            saved_micro_usd: sums.saved,
            children_micro_usd: sums.children,
            stopped_runs: sums.stopped,
            stopped_micro_usd: sums.stopped_cost,
            freed: sums.freed,
            unknown_hosts: sums.unknown_hosts,
            unasked: sums.unasked,
            policies: policies.collect(),
            blocks: sums.blocks.into_iter().map(TestedBlock::of).collect(),
            unnamed_blocks: sums.unnamed,
            cursor,
        }
    }
}

impl TestedBlock {
    fn of(block: Block) -> Self {
        let effect = |Forbids { action, on, by }| TestedEffect { action, on, by };
        Self {
            run_id: block.run,
            step: block.step,
            attempt: block.attempt,
            at: block.at.to_string(),
            forbids: block.forbids.into_iter().map(effect).collect(),
            cost_micro_usd: block.cost,
        }
    }
}

/// Ask policies about runs of the past. Answers for some of the runs, and with a cursor for those after them.
pub(super) async fn test(
    permit: Permit<TestPolicies>,
    State(app): State<App>,
    Body(asked): Body<Asked>,
) -> Result<Json<Tested>> {
    let scope = permit.scope();
    let policies = understood(&asked.text, asked.otherwise)?;
    if let Some(agent) = &asked.agent {
        agents::service::get(&app, scope, agent).await?;
    }
    let from = asked.since.unwrap_or(At::from_micros(0));
    // Runs that begin meanwhile would let a test go on forever.
    let until = asked.until.unwrap_or_else(|| app.clock.now());
    let (mut sums, mut after) = (Sums::default(), asked.after);
    let more = loop {
        let page = past(&app.db, scope, asked.agent.clone(), (from, until), after).await?;
        for run in page.runs {
            let mut past = Run::new(&policies, (&run.agent, run.id.to_string()), asked.cap);
            for append in &run.appends {
                let events = event::decode(append, None).map_err(|error| {
                    tracing::warn!(run = %run.id, %error, "a journal was not read");
                    Error::new(Code::RunUnreadable, format!("run {}: {error}", run.id))
                })?;
                for event in &events {
                    past.take(event, &mut sums);
                }
            }
            past.end(&mut sums);
            after = Some(After { at: run.at, run: run.id });
        }
        if !page.more || sums.events >= EVENTS {
            break page.more;
        }
    };
    let cursor = after.filter(|_| more).map(|After { at, run }| format!("{}.{run}", at.micros()));
    Ok(Json(Tested::of(policies.digest().to_string(), sums, cursor)))
}
