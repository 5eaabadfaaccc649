//! The fake model: answers, asks for tools, goes round in circles, breaks schemas, and counts its own tokens.

use lantern_engine::{Done, LlmAsk};
use lantern_types::AdmissionFacts;
use lantern_types::llm::{Finish, LlmReply, Role, ToolUse, Usage};

use crate::generate::agent::{GARBLED, STUCK};
use crate::rng::Rng;

/// What the wire may add to a request on top of one token a byte.
const FRAMING_TOKENS: u64 = 256;

pub(super) fn reply(rng: &mut Rng, ask: &LlmAsk, offered: &[String], facts: &AdmissionFacts) -> Done {
    let told = |words| ask.messages.iter().any(|said| said.role == Role::System && said.content == words);
    let tool_calls = match ask.offer_tools {
        true if told(STUCK) => vec![call(0, "calc", "{\"n\":1}")],
        true if told(GARBLED) => vec![call(0, "calc", "{\"n\":")],
        // A model may ask for tools that were not on offer.
        offer if rng.chance(if offer { 65 } else { 10 }) => calls(rng, offered),
        _ => Vec::new(),
    };
    let usage = Usage {
        tokens_in: rng.within(1, facts.request_bytes + FRAMING_TOKENS),
        tokens_out: rng.below(u64::from(facts.max_tokens) + 1),
    };
    let finish = match rng.below(40) {
        _ if !tool_calls.is_empty() => Finish::ToolCalls,
        0 => Finish::ContentFilter,
        1..4 => Finish::Length,
        _ => Finish::Stop,
    };
    // It asks for tools, and none were on offer: then what it says is all there is.
    let is_final = tool_calls.is_empty() || !ask.offer_tools;
    let broken = ask.output_schema.is_some() && is_final && rng.chance(40);
    let silent = !tool_calls.is_empty() && (!is_final || ask.output_schema.is_none()) && rng.chance(30);
    let words = match (broken, silent) {
        (true, _) => "no",
        (false, true) => "",
        (false, false) => "{\"a\":1}",
    };
    let reply = LlmReply {
        content: words.to_owned(),
        tool_calls,
        finish,
        usage: rng.chance(90).then_some(usage),
        model: "model-1".to_owned(),
    };
    let violations = if broken { vec!["not an object".to_owned()] } else { Vec::new() };
    Done::Reply { reply, violations }
}

/// The dearest reply that was admitted.
pub(crate) fn dearest(reply: &mut LlmReply, facts: &AdmissionFacts) {
    let tokens_in = facts.request_bytes + FRAMING_TOKENS;
    reply.usage = Some(Usage { tokens_in, tokens_out: u64::from(facts.max_tokens) });
}

fn calls(rng: &mut Rng, offered: &[String]) -> Vec<ToolUse> {
    let one = |n: u64, rng: &mut Rng| {
        let name = rng.pick(offered).map_or("ghost", String::as_str);
        match rng.below(30) {
            0 => call(n, "No Such Tool", "{}"),
            1 => call(n, name, "{\"n\":"),
            2 => call(n, name, ""),
            _ => call(n, name, &format!("{{\"n\":{}}}", rng.below(3))),
        }
    };
    (0..rng.within(1, 3)).map(|n| one(n, rng)).collect()
}

fn call(n: u64, name: &str, arguments: &str) -> ToolUse {
    ToolUse { id: format!("call-{n}"), name: name.to_owned(), arguments: arguments.to_owned(), proof: None }
}
