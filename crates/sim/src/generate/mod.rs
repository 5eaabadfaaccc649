//! Random material for a world: limits, tools, and agents of both programs. Knows nothing of what is promised of them.

pub(crate) mod agent;
mod steps;

use std::sync::Arc;

use lantern_engine::{Context, Manifest};
use lantern_policy::Catalogue;
use lantern_policy::catalogue::Invalid;
use lantern_policy::route::{Choices, Provider};
use lantern_types::tool::InvalidToolName;
use lantern_types::{At, EffectClass, Limits, MicroUsd, ToolDef, ToolName};
use serde_json::{Value, json};

use crate::rng::Rng;

/// The tools of every world, one for each effect class, and `flaky` for a second repeatable one.
const TOOLS: [(&str, EffectClass); 6] = [
    ("calc", EffectClass::Pure),
    ("web.look", EffectClass::Idempotent),
    ("flaky", EffectClass::Idempotent),
    ("desk.post", EffectClass::Keyed),
    ("desk.book", EffectClass::Reconcilable),
    ("bank.pay", EffectClass::Irreversible),
];

/// The names of signals that programs wait for and people send.
pub(crate) const SIGNALS: [&str; 2] = ["go", "stop"];

/// An agent that runs may be made of.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) manifest: Arc<Manifest>,
    /// What its runs are asked.
    pub(crate) input: Value,
}

/// What a world's runs have in common.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) limits: Limits,
    pub(crate) tools: Vec<ToolDef>,
    pub(crate) catalogue: Catalogue,
    pub(crate) choices: Choices,
    /// Each may start only those after it, so that no family is endless.
    pub(crate) agents: Vec<Agent>,
}

impl Setting {
    /// What decisions are made on at this time.
    pub(crate) fn context(&self, at: At) -> Context<'_> {
        Context { at, limits: &self.limits, tools: &self.tools, violations: |_, _| Vec::new() }
    }
}

/// The setting of a seed. An `Err` is a mistake in the generators.
pub(crate) fn setting(rng: &mut Rng) -> Result<Setting, String> {
    let catalogue = Catalogue::builtin().map_err(|Invalid(text)| text)?;
    let provider = |name: &str, self_hosted, models: &[&str]| Provider {
        name: name.to_owned(),
        self_hosted,
        models: models.iter().map(ToString::to_string).collect(),
        keys: 1,
    };
    let vendor = catalogue.models().first().map(|model| model.provider.clone()).unwrap_or_default();
    let choices = Choices {
        providers: vec![provider(&vendor, false, &[]), provider("lab", true, &["llama"])],
        ..Choices::default()
    };
    let tools: Result<Vec<ToolDef>, InvalidToolName> =
        TOOLS.iter().map(|(name, effect)| Ok(tool(ToolName::parse(name)?, *effect))).collect();
    let tools = tools.map_err(|error| error.to_string())?;
    let limits = limits(rng);
    let mut agents: Vec<Agent> = Vec::new();
    for n in (0..rng.within(2, 5)).rev() {
        let agent = agent(rng, &format!("agent-{n}"), &agents)?;
        agents.insert(0, agent);
    }
    Ok(Setting { limits, tools, catalogue, choices, agents })
}

fn tool(name: ToolName, effect: EffectClass) -> ToolDef {
    ToolDef { name, description: "A tool.".to_owned(), input_schema: json!({"type": "object"}), effect }
}

/// Mostly roomy; now and then one limit is so tight that runs meet it.
fn limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits {
        attempts_per_step_max: rng.within_u32(2, 8),
        identical_calls_max: rng.within_u32(2, 4),
        child_depth_max: rng.within_u32(1, 2),
        completion_tokens_default: rng.within_u32(16, 200),
        concurrency_max: rng.within_u32(1, 4),
        ..Limits::default()
    };
    match rng.below(30) {
        0 => limits.steps_per_run_max = rng.within_u32(2, 20),
        1 => limits.events_per_run_max = rng.within_u32(10, 120),
        2 => limits.turns_per_run_max = rng.within_u32(1, 3),
        3 => limits.output_bytes_max = 40,
        4 => limits.prompt_bytes_max = 60,
        5 => limits.map_items_max = 2,
        6 => limits.wait_max = lantern_types::Dur::from_secs(2),
        _ => {}
    }
    limits
}

fn agent(rng: &mut Rng, name: &str, others: &[Agent]) -> Result<Agent, String> {
    let (manifest, input) = match rng.below(10) {
        0..4 => (agent::manifest(rng), json!({ "prompt": "go", "n": rng.below(9) })),
        4..8 => (
            steps::manifest(rng, others),
            json!({ "n": rng.below(9), "list": steps::items(rng), "ghost": "ghost" }),
        ),
        // The program comes with the input, in the contract's shape. Only here may a run continue as new: a manifest
        // that always does would never end.
        _ => (json!({}), json!({ "steps": steps::list(rng, others, true), "n": 1, "ghost": "ghost" })),
    };
    let read = Manifest::parse(&manifest).map_err(|invalid| format!("{manifest}: {invalid}"))?;
    Ok(Agent { name: name.to_owned(), manifest: Arc::new(read), input })
}

/// What one run may cost: nothing, a few calls, or plenty.
pub(crate) fn cap(rng: &mut Rng) -> MicroUsd {
    let micros = match rng.below(20) {
        0 => 0,
        1..8 => rng.within(100, 3_000),
        8..14 => rng.within(3_000, 40_000),
        _ => rng.within(100_000, 5_000_000),
    };
    MicroUsd::from_micros(micros.cast_signed())
}

/// A retry policy, or none. A few wait for hours and days, which an earlier limit may have allowed.
fn retry(rng: &mut Rng) -> Option<Value> {
    rng.chance(50).then(|| {
        let (attempts, first, most) = (rng.within(1, 6), rng.within(1, 5_000), rng.within(1_000, 60_000));
        let times = if most > 55_000 { 3_600 } else { 1 };
        json!({
            "maxAttempts": attempts,
            "initialIntervalMs": first * times,
            "maxIntervalMs": most * times,
            "backoff": rng.within(1, 4),
            "nonRetryable": if rng.chance(20) { vec!["busy"] } else { vec![] },
        })
    })
}

/// A model: priced, cheap, free, a capability, or one that nobody serves.
fn model(rng: &mut Rng) -> &'static str {
    let table = [(12, "chat-small"), (6, "chat-large"), (6, "lab/llama"), (4, "auto"), (1, "unheard-of")];
    rng.weighted(&table, "auto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads() {
        for seed in 0..2_000 {
            let setting = setting(&mut Rng::new(seed)).unwrap();
            assert!(setting.agents.len() >= 2);
        }
    }
}
