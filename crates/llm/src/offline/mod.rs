//! The built-in model: deterministic, extractive, no network, no language model. It digests repository histories,
//! does sums, reads pages and summarises, through the tools that it is offered.
//!
//! Invariant: the same call gives the same reply, and every final text says what it is. All state is in the
//! transcript: each strategy lists the tool calls it needs and asks for the first ones whose results are not there yet.

mod arithmetic;
mod history;
mod pages;
mod patch;
mod schema;
mod summary;
mod transcript;

use lantern_types::Dur;
use lantern_types::llm::{Finish, LlmCall, LlmReply, ToolUse, Usage};
use serde_json::Value;

use crate::Deltas;
use transcript::Transcript;

/// How every final text of the offline model begins.
pub const BANNER: &str = "[offline model: extractive, no language model was called]";

const NAME: &str = "offline";
/// The usual rule of thumb; there is no tokenizer to ask.
const BYTES_PER_TOKEN: u64 = 4;

/// How quickly the offline model speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfflinePace {
    /// Tokens a second; `None` for no delay at all.
    pub tokens_per_sec: Option<u32>,
}

/// What the model does next.
enum Plan {
    /// Call this tool, once with each of these arguments.
    Ask { tool: &'static str, calls: Vec<Value> },
    /// Say this and stop.
    Say(String),
}

/// The reply to a call. Pure.
pub(crate) fn reply(call: &LlmCall) -> LlmReply {
    let transcript = Transcript::read(call);
    match plan(&transcript) {
        Plan::Ask { tool, calls } => {
            let asked = (transcript.calls_made() + 1..).zip(calls).map(|(n, arguments)| ToolUse {
                id: format!("{NAME}_{n}"),
                name: tool.to_owned(),
                arguments: arguments.to_string(),
                proof: None,
            });
            finished(call, String::new(), asked.collect(), Finish::ToolCalls)
        }
        Plan::Say(text) => {
            let (content, finish) = bounded(worded(call, text), call.max_tokens);
            finished(call, content, Vec::new(), finish)
        }
    }
}

fn plan(transcript: &Transcript<'_>) -> Plan {
    history::plan(transcript)
        .or_else(|| arithmetic::plan(transcript))
        .or_else(|| pages::plan(transcript))
        .unwrap_or_else(|| Plan::Say(summary::answer(&transcript.question)))
}

/// In structured output the texts say it, where there are any; the model's name in the reply says it always.
fn worded(call: &LlmCall, text: String) -> String {
    match &call.output_schema {
        Some(schema) => schema::fill(schema, &format!("{BANNER} {text}")).to_string(),
        None => format!("{BANNER}\n\n{text}"),
    }
}

/// At most `max_tokens`, cut between characters.
fn bounded(text: String, max_tokens: u32) -> (String, Finish) {
    let bytes = usize::try_from(u64::from(max_tokens) * BYTES_PER_TOKEN).unwrap_or(usize::MAX);
    if text.len() <= bytes {
        return (text, Finish::Stop);
    }
    let end = text.floor_char_boundary(bytes);
    (text.get(..end).unwrap_or_default().to_owned(), Finish::Length)
}

fn finished(call: &LlmCall, content: String, tool_calls: Vec<ToolUse>, finish: Finish) -> LlmReply {
    let said: usize = tool_calls.iter().map(|asked| asked.name.len() + asked.arguments.len()).sum();
    let usage = Usage { tokens_in: tokens(bytes_in(call)), tokens_out: tokens(content.len() + said) };
    LlmReply { content, tool_calls, finish, usage: Some(usage), model: NAME.to_owned() }
}

fn bytes_in(call: &LlmCall) -> usize {
    let messages = call.messages.iter().map(|message| {
        let calls = message.tool_calls.iter().map(|asked| asked.name.len() + asked.arguments.len());
        message.content.len() + calls.sum::<usize>()
    });
    let tools = call
        .tools
        .iter()
        .map(|tool| tool.name.as_str().len() + tool.description.len() + tool.input_schema.to_string().len());
    messages.chain(tools).sum()
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN)
}

/// Speaks a reply word by word at the given pace. A tool call takes its time too, but has no words.
pub(crate) async fn say(reply: &LlmReply, pace: OfflinePace, deltas: Deltas<'_>) {
    for word in reply.content.split_inclusive(char::is_whitespace) {
        pause(pace, word.len()).await;
        deltas(word);
    }
    for asked in &reply.tool_calls {
        pause(pace, asked.name.len() + asked.arguments.len()).await;
    }
}

async fn pause(pace: OfflinePace, bytes: usize) {
    if let Some(rate) = pace.tokens_per_sec {
        let micros = tokens(bytes).saturating_mul(1_000_000) / u64::from(rate.max(1));
        tokio::time::sleep(Dur::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)).std()).await;
    }
}

#[cfg(test)]
mod tests;
