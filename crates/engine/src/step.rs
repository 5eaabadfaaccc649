//! What the kinds of step have in common when they end: outputs, digests, and what an ending costs.

use lantern_types::llm::LlmReply;
use lantern_types::{Acted, Digest, Grant, MicroUsd, Tokens, money};
use serde_json::Value;

use crate::event::StepKind;
use crate::run::{Step, StepState, Work};

/// A model call's output as `{{steps.<id>.text}}` and the event stream see it.
pub(crate) fn reply_output(reply: &LlmReply, tokens_in: u64, tokens_out: u64, cost: MicroUsd) -> Value {
    serde_json::json!({
        "text": reply.content,
        "model_used": reply.model,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": cost.to_wire(),
    })
}

/// What an attempt cost and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) cost: MicroUsd,
    /// What may have been billed besides.
    pub(crate) unconfirmed: MicroUsd,
    pub(crate) tokens_in: u64,
    pub(crate) tokens_out: u64,
    /// What the provider claims, when that is more than was reserved.
    pub(crate) claimed: Option<MicroUsd>,
}

/// No call uses more tokens than this; a larger count is a provider's mistake.
const TOKENS_MAX: u64 = 1_000_000_000;

/// The usage at the granted price; the whole hold when the provider did not say, and never more than the hold, which
/// covers the dearest reply there could be.
pub(crate) fn bill(grant: Option<&Grant>, reply: &LlmReply) -> Bill {
    let Some(grant) = grant else { return Bill::default() };
    let Some(usage) = reply.usage else {
        return Bill { cost: grant.hold, ..Bill::default() };
    };
    let price = grant.route.as_ref().map(|route| route.price).unwrap_or_default();
    let claim = money::cost(price, Tokens(usage.tokens_in), Tokens(usage.tokens_out));
    let claim = claim.unwrap_or(MicroUsd::from_micros(i64::MAX));
    Bill {
        cost: claim.min(grant.hold),
        unconfirmed: MicroUsd::ZERO,
        tokens_in: usage.tokens_in.min(TOKENS_MAX),
        tokens_out: usage.tokens_out.min(TOKENS_MAX),
        claimed: (claim > grant.hold).then_some(claim),
    }
}

/// What an attempt may have cost that ended without settling: its hold, if something that costs money may have happened.
pub(crate) fn unconfirmed(step: &Step, acted: Acted) -> MicroUsd {
    match (&step.grant, acted) {
        (Some(grant), Acted::Unknown) => grant.hold,
        _ => MicroUsd::ZERO,
    }
}

/// Whether its attempts cost money. A hold covers one of them: the other side may bill each, whatever its key says.
pub(crate) fn holds_money(step: &Step) -> bool {
    step.grant.as_ref().is_some_and(|grant| grant.hold > MicroUsd::ZERO)
}

/// Whether a step that is dropped keeps its hold for now: a child that may have spent some of it tells how much when it
/// has stopped.
pub(crate) fn owing(step: &Step) -> bool {
    step.kind == StepKind::Child && holds_money(step)
}

/// Whether an effect of this step is, or may have been, outside.
pub(crate) fn may_have_acted(step: &Step) -> Acted {
    match step.state {
        StepState::Performing | StepState::InDoubt | StepState::Backoff { readmit: false, .. } => {
            Acted::Unknown
        }
        StepState::Waiting { .. } if step.kind == StepKind::Child => Acted::Unknown,
        _ => Acted::No,
    }
}

/// A value as JSON, in the form whose bytes are counted and named.
pub(crate) fn json(value: &Value) -> Vec<u8> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    assert!(!text.is_empty(), "a value is always JSON");
    text
}

/// What a value has as JSON.
pub(crate) fn json_bytes(value: &Value) -> u64 {
    json(value).len() as u64
}

/// What a step names: its tool, signal or agent.
pub(crate) fn name_of(work: Option<&Work>) -> Option<String> {
    match work? {
        Work::Tool { name, .. } => Some(name.as_str().to_owned()),
        Work::Signal { name } => Some(name.clone()),
        Work::Child { agent, .. } => Some(agent.clone()),
        _ => None,
    }
}

/// Names a JSON value. Object keys are sorted by `serde_json`'s map, so equal values have equal digests.
pub(crate) fn digest_of(value: &Value) -> Digest {
    Digest::of(&json(value))
}

/// Names what a step is asked.
pub(crate) fn request_digest(work: &Work) -> Digest {
    match work {
        Work::Tool { name, arguments, .. } => Digest::of_parts(&[name.as_str().as_bytes(), &json(arguments)]),
        other => {
            let text = serde_json::to_string(other).unwrap_or_default();
            assert!(!text.is_empty(), "work is always JSON");
            Digest::of(text.as_bytes())
        }
    }
}
