//! What a run would probably cost.
//!
//! Invariant: what is called learned was learned from this agent's runs, with how often the intervals before it held; anything
//! else says `prior` and is not much believed. A forecast holds no money and starts nothing.

use axum::extract::State;
use lantern_edge::route::fresh_post_route;
use lantern_edge::{Body, Either, Fields, Json, Model, OverBudget, Refusal, Result, Route};
use lantern_engine::Manifest;
use lantern_policy::action::ForecastRun;
use lantern_policy::forecast::{self, Forecast, LEVEL_PERCENT, Past};
use lantern_policy::route::{Choices, route};
use lantern_policy::{Permit, Scope};
use lantern_store::{past, versions};
use lantern_types::{Dur, MicroUsd, Route as ModelRoute, Tokens, money};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::App;
use crate::features::{agents, settings};

/// Runs are learned from that began within this time.
const WINDOW: Dur = Dur::from_secs(30 * 86_400);
/// The most runs that are learned from.
const RUNS_MAX: u32 = 500;
/// What sealing and framing add to a run's input as it is stored.
const STORED_BYTES: u64 = 64;
/// Text has about so many bytes for each token.
const BYTES_PER_TOKEN: u64 = 4;
/// A model writes about this part of what it may.
const WRITTEN_PART: u64 = 8;
const AGENT_NAME_BYTES_MAX: usize = 128;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        fresh_post_route("/v1/runs/forecast", "Say what a run would probably cost", ask)
            .refuses(&[Refusal::NotFound, Refusal::Conflict]),
    ]
}

/// The run that is asked about.
struct Asked {
    agent: String,
    input: Value,
    model: Option<String>,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let agent = fields.required_text("agentName", AGENT_NAME_BYTES_MAX);
        fields.describe(
            "input",
            || json!({ "description": "What the run would be asked: text, or an object." }),
        );
        let input = fields.value("input").cloned().unwrap_or(Value::Null);
        let model = fields.text("model", 256);
        Some(Self { agent: agent?, input, model })
    }
}

/// What a run would probably cost.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Forecast)]
struct Shown {
    agent_name: String,
    /// The model that would be asked; what was asked for, when nobody serves that now.
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_tokens_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_tokens_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_cost_usd: Option<f64>,
    /// How much the estimate is worth, from 0 to 0.95; at most 0.3 when it was not learned.
    confidence: f64,
    /// It was learned from runs of this agent.
    calibrated: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_historical_data: bool,
    /// `history`, or `prior`: from prices alone.
    basis: &'static str,
    /// Where the cost will probably lie.
    interval: Interval,
    /// The costs of this agent's runs changed within its last fifty.
    drift: bool,
    reasoning: Reasoning,
    /// The most that the run may cost.
    max_cost_usd: f64,
    /// The upper end of the interval passes what the run may cost.
    would_exceed_budget: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_reason: Option<String>,
}

/// Where a cost will probably lie.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ForecastInterval)]
struct Interval {
    low_usd: f64,
    high_usd: f64,
    /// The part of runs that it is to hold.
    level: f64,
    /// The part that intervals held which were made before their run was known; absent before there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<f64>,
    /// Runs that this was measured on.
    tried: u32,
    /// How wide those intervals were, on average.
    mean_width_usd: f64,
}

/// What it was made from. These names are the contract's.
#[derive(Serialize, ToSchema)]
#[schema(as = ForecastReasoning)]
struct Reasoning {
    historical_runs: usize,
    historical_avg_cost_usd: f64,
    historical_avg_tokens_in: f64,
    historical_avg_tokens_out: f64,
    input_chars: usize,
    input_token_estimate: u64,
    pricing_model: String,
    pricing_provider: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_historical_data: bool,
}

async fn ask(
    permit: Permit<ForecastRun>,
    State(app): State<App>,
    Body(asked): Body<Asked>,
) -> Result<Either<Json<Shown>, OverBudget<Shown>>> {
    let shown = shown(&app, permit.scope(), asked).await?;
    Ok(if shown.would_exceed_budget { Either::B(OverBudget(shown)) } else { Either::A(Json(shown)) })
}

/// What is known before a run.
struct Known {
    bytes: u64,
    route: Option<ModelRoute>,
    cap: MicroUsd,
    past: Vec<Past>,
}

/// An estimate and how it came about.
struct Estimate {
    tokens: Option<(u64, u64)>,
    cost: Option<MicroUsd>,
    interval: (MicroUsd, MicroUsd),
    confidence: f64,
    learned: Option<Forecast>,
}

async fn shown(app: &App, scope: Scope, Asked { agent, input, model }: Asked) -> Result<Shown> {
    let (manifest, run_cap) = manifest(app, scope, &agent).await?;
    let past = past::of_agent(&app.db, scope, agent.clone(), app.clock.now() - WINDOW, RUNS_MAX).await?;
    let asked_for = model.unwrap_or_else(|| manifest.model.clone());
    let choices = settings::providers::choices(app, scope).await?;
    let strategy = manifest.strategy.unwrap_or(choices.strategy);
    let choices = Choices { strategy, ..choices };
    let route = route(&asked_for, &choices, &app.catalogue).ok();
    let text = if input.is_null() { String::new() } else { input.to_string() };
    let bytes = text.len() as u64;
    let limits = app.limits.of(scope.tenant());
    let cap = run_cap.unwrap_or(limits.run_cost_default).min(limits.run_cost_max);
    let known = Known { bytes, route, cap, past };
    let estimate = learned(&known)
        .unwrap_or_else(|| prior(&known, &manifest, u64::from(limits.completion_tokens_default)));
    Ok(told(agent, asked_for, known, text.chars().count(), estimate))
}

/// What the agent's current version says, and the most that a run of it may spend where that or a budget says so.
async fn manifest(app: &App, scope: Scope, agent: &str) -> Result<(Manifest, Option<MicroUsd>)> {
    let (found, _) = agents::service::get(app, scope, agent).await?;
    if found.archived_at.is_some() {
        return Err(agents::service::archived(agent));
    }
    let version = app
        .db
        .glance(scope, move |tx| Box::pin(async move { versions::current(tx, &found.name).await }))
        .await?;
    let version = version.ok_or_else(|| agents::service::not_found(agent))?;
    let manifest: Manifest =
        serde_json::from_str(&version.manifest).map_err(lantern_edge::Error::internal)?;
    let cap = version.run_cap(manifest.max_cost);
    Ok((manifest, cap))
}

/// From the agent's runs, when there are enough.
fn learned(known: &Known) -> Option<Estimate> {
    let learned = forecast::forecast(&known.past, known.bytes + STORED_BYTES)?;
    Some(Estimate {
        tokens: Some((learned.tokens_in, learned.tokens_out)),
        cost: Some(learned.cost),
        interval: (learned.low, learned.high),
        confidence: confidence(known.past.len()),
        learned: Some(learned),
    })
}

/// The contract's formula: more runs, more confidence, less and less quickly.
fn confidence(runs: usize) -> f64 {
    let runs = u32::try_from(runs).unwrap_or(u32::MAX);
    0.03f64.mul_add(f64::from(runs).sqrt(), 0.3).min(0.95)
}

/// From prices: one turn that reads the instructions and the input, and writes a part of what it may. The run may cost up to
/// its cap, and as little as nothing.
fn prior(known: &Known, manifest: &Manifest, default_tokens: u64) -> Estimate {
    let instructions = manifest.system_prompt.as_ref().map_or(0, String::len) as u64;
    let tokens_in = (known.bytes + instructions).div_ceil(BYTES_PER_TOKEN);
    let tokens_out = manifest.max_tokens.map_or(default_tokens, u64::from) / WRITTEN_PART;
    let price = known.route.as_ref().map(|route| route.price);
    let cost = price.and_then(|price| money::cost(price, Tokens(tokens_in), Tokens(tokens_out)).ok());
    let free = price.is_some_and(|price| price == lantern_types::Price::default());
    Estimate {
        tokens: price.map(|_| (tokens_in, tokens_out)),
        cost: cost.map(|cost| cost.min(known.cap)),
        interval: (MicroUsd::ZERO, if free { MicroUsd::ZERO } else { known.cap }),
        confidence: if price.is_some() { 0.1 } else { 0.0 },
        learned: None,
    }
}

fn told(agent_name: String, asked_for: String, known: Known, chars: usize, estimate: Estimate) -> Shown {
    let Estimate { tokens, cost, interval: (low, high), confidence, learned } = estimate;
    let record = learned.map(|learned| learned.record).unwrap_or_default();
    let runs = known.past.len();
    let mean = |of: fn(&Past) -> f64| {
        let runs = u32::try_from(runs).unwrap_or(u32::MAX).max(1);
        known.past.iter().map(of).sum::<f64>() / f64::from(runs)
    };
    let over = high > known.cap;
    let reason = format!(
        "nine of ten such runs cost up to {high}, and this one may cost {}; raise maxCostUsd, or ask for less",
        known.cap
    );
    let (provider, model) = match known.route {
        Some(route) => (Some(route.provider), route.model),
        None => (None, asked_for),
    };
    Shown {
        agent_name,
        estimated_tokens_in: tokens.map(|(tokens_in, _)| tokens_in),
        estimated_tokens_out: tokens.map(|(_, tokens_out)| tokens_out),
        estimated_cost_usd: cost.map(MicroUsd::to_wire),
        confidence,
        calibrated: learned.is_some(),
        no_historical_data: runs == 0,
        basis: if learned.is_some() { "history" } else { "prior" },
        interval: Interval {
            low_usd: low.to_wire(),
            high_usd: high.to_wire(),
            level: f64::from(LEVEL_PERCENT) / 100.0,
            coverage: record.coverage(),
            tried: record.tried,
            mean_width_usd: record.mean_width().to_wire(),
        },
        drift: learned.is_some_and(|learned| learned.drifts),
        reasoning: Reasoning {
            historical_runs: runs,
            historical_avg_cost_usd: mean(|run| run.cost.to_wire()),
            historical_avg_tokens_in: mean(|run| tokens_of(run.tokens_in)),
            historical_avg_tokens_out: mean(|run| tokens_of(run.tokens_out)),
            input_chars: chars,
            input_token_estimate: known.bytes.div_ceil(BYTES_PER_TOKEN),
            pricing_model: model.clone(),
            pricing_provider: provider.clone().unwrap_or_default(),
            no_historical_data: runs == 0,
        },
        model,
        provider,
        max_cost_usd: known.cap.to_wire(),
        would_exceed_budget: over,
        block_reason: over.then_some(reason),
    }
}

/// For a mean; beyond four billion it does not matter.
fn tokens_of(tokens: u64) -> f64 {
    f64::from(u32::try_from(tokens).unwrap_or(u32::MAX))
}
