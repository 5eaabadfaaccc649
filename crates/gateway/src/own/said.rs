//! An answer, in the words of our own API and in the frames of its streams.
//!
//! Pure.

use lantern_llm::neutral::{Finish, Reply, Usage};
use lantern_types::MicroUsd;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// What a model said, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Completion)]
pub(super) struct Said {
    /// The model that answered, as its provider names it.
    pub(super) model: String,
    /// Its words.
    pub(super) content: String,
    /// Tokens of the question.
    pub(super) tokens_in: u64,
    /// Tokens of the answer.
    pub(super) tokens_out: u64,
    /// What it cost, in US dollars.
    pub(super) cost_usd: f64,
    /// Who served it.
    pub(super) provider: String,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub(super) finish_reason: &'static str,
    /// Of the answer, tokens of thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_tokens: Option<u64>,
    /// Of the question, tokens that the provider had in its cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_read_tokens: Option<u64>,
    /// Of the question, tokens that it put there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_write_tokens: Option<u64>,
}

impl Said {
    pub(super) fn of(reply: &Reply, provider: String, cost: MicroUsd) -> Self {
        let Usage { input, output, cache_read, cache_write, thoughts, .. } = reply.usage.unwrap_or_default();
        let any = |count: u64| (count > 0).then_some(count);
        Self {
            model: reply.model.clone(),
            content: reply.text(),
            tokens_in: input,
            tokens_out: output,
            cost_usd: cost.to_wire(),
            provider,
            finish_reason: reason(reply.finish),
            reasoning_tokens: any(thoughts),
            cache_read_tokens: any(cache_read),
            cache_write_tokens: any(cache_write),
        }
    }
}

/// Why it stopped, in the words that clients know.
const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopText | Finish::Pause => "stop",
        Finish::Calls => "tool_calls",
        Finish::Length => "length",
        Finish::Filter => "content_filter",
    }
}

/// One thing that a stream says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Say {
    /// More words.
    Words(String),
    /// It is over.
    Done { model: String, provider: String, usage: Usage, cost: MicroUsd },
    /// It broke off.
    Failed(String),
}

/// How a stream says it.
pub(super) type Wording = fn(&Say) -> String;

/// Every frame an object that names its kind.
pub(super) fn objects(say: &Say) -> String {
    let frame = match say {
        Say::Words(words) => json!({"type": "delta", "content": words}),
        Say::Done { model, provider, usage, cost } => json!({
            "type": "done", "model": model, "provider": provider, "tokensIn": usage.input,
            "tokensOut": usage.output, "costUsd": cost.to_wire(),
        }),
        Say::Failed(words) => json!({"type": "error", "message": words}),
    };
    format!("data: {frame}\n\n")
}

/// The words alone, line by line; an empty line of words is an empty line of data.
pub(super) fn words(say: &Say) -> String {
    match say {
        Say::Words(words) => {
            let lines = words.split('\n').map(|line| format!("data: {}\n", line.trim_end_matches('\r')));
            lines.chain(["\n".to_owned()]).collect()
        }
        Say::Done { .. } => "data: [DONE]\n\n".to_owned(),
        Say::Failed(_) => "event: error\ndata: agent temporarily unavailable\n\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_both_streams() {
        let done = Say::Done {
            model: "m".to_owned(),
            provider: "p".to_owned(),
            usage: Usage { input: 3, output: 2, ..Usage::default() },
            cost: MicroUsd::from_micros(1_500),
        };
        for (say, object, plain) in [
            (
                Say::Words("a\nb".to_owned()),
                "data: {\"content\":\"a\\nb\",\"type\":\"delta\"}\n\n",
                "data: a\ndata: b\n\n",
            ),
            (Say::Words(String::new()), "data: {\"content\":\"\",\"type\":\"delta\"}\n\n", "data: \n\n"),
            (
                done,
                "data: {\"costUsd\":0.0015,\"model\":\"m\",\"provider\":\"p\",\"tokensIn\":3,\"tokensOut\":2,\"type\":\"done\"}\n\n",
                "data: [DONE]\n\n",
            ),
            (
                Say::Failed("gone".to_owned()),
                "data: {\"message\":\"gone\",\"type\":\"error\"}\n\n",
                "event: error\ndata: agent temporarily unavailable\n\n",
            ),
        ] {
            assert_eq!((objects(&say).as_str(), words(&say).as_str()), (object, plain));
        }
    }
}
