//! What a client asks, read on its wire and written on the provider's. Pure.

use serde_json::Value;

use super::family;
use crate::neutral::{Content, Message, Part, Request, Tool};
use crate::vendor::Dialect;
use crate::wire::{Written, read_request, write_request};
use crate::{Door, Endpoint, Family};

/// Fields that ask for something which the provider of that wire remembers, fetches or performs itself: nobody else can do it,
/// and nobody can say beforehand what it costs.
pub const OWN: &[&str] = &[
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "web_search_options",
    "audio",
    "container",
    "mcp_servers",
];
/// Fields of old that no other wire has.
const OLD: &[&str] = &["functions", "function_call"];

/// What cannot be said on the provider's wire, or makes no sense on the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsayable {
    /// The field.
    pub at: String,
    /// Why.
    pub message: String,
}

/// A request on its way to another wire.
#[derive(Debug)]
pub struct Question {
    request: Request,
    dialect: Dialect,
    client: Family,
}

impl Question {
    /// Reads a request of a front door that is to go to this provider. `None` for a door that is no conversation.
    pub fn read(door: Door, body: &[u8], endpoint: &Endpoint) -> Option<Result<Self, Unsayable>> {
        let client = family(door)?;
        let dialect = endpoint.vendor().dialect;
        let read = read_request(client, body).map_err(|malformed| Unsayable {
            at: malformed.at.unwrap_or_default(),
            message: malformed.message,
        });
        Some(read.and_then(|request| {
            sayable(&request)?;
            let question = Self { request, dialect, client };
            let Written { ignored, .. } = question.written("", None);
            match ignored.iter().find(|name| matters(name)) {
                Some(name) => Err(unsayable(name, &endpoint.provider)),
                None => Ok(question),
            }
        }))
    }

    /// The body for this model, and what was left out of it. Its answer has at most so many tokens, where that is bounded.
    pub fn written(&self, model: &str, most: Option<u64>) -> Written {
        let request = Request {
            model: model.to_owned(),
            max_tokens: most.or(self.request.max_tokens),
            stream_usage: true,
            ..self.request.clone()
        };
        write_request(&request, &self.dialect)
    }

    /// The wire of who asks.
    pub const fn client(&self) -> Family {
        self.client
    }

    /// The wire of who answers.
    pub const fn provider(&self) -> Family {
        self.dialect.family
    }

    /// Whether the client wants a stream to tell what was used, where that must be asked for.
    pub const fn wants_usage(&self) -> bool {
        self.request.stream_usage
    }
}

/// Whether a body asks for a prefix to be cached, on whichever wire it was written.
pub fn caches(body: &[u8]) -> bool {
    [&b"cache_control"[..], b"cachePoint", b"prompt_cache_breakpoint"]
        .iter()
        .any(|mark| body.windows(mark.len()).any(|window| window == *mark))
}

/// Nothing in it is of the client's wire alone and matters.
fn sayable(request: &Request) -> Result<(), Unsayable> {
    let there = |name: &&&str| {
        request.extra.get(**name).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
    };
    if let Some(name) = OWN.iter().chain(OLD).find(there) {
        return Err(unsayable(name, "the provider of this model"));
    }
    if request.extra.get("n").and_then(Value::as_u64).is_some_and(|n| n > 1) {
        return Err(unsayable("n", "the provider of this model"));
    }
    if request.tools.iter().any(|tool| matches!(tool, Tool::Other(_))) {
        return Err(unsayable("tools", "the provider of this model"));
    }
    let foreign = |message: &Message| message.parts.iter().any(is_other);
    if request.messages.iter().any(foreign) {
        return Err(unsayable("messages", "the provider of this model"));
    }
    Ok(())
}

fn is_other(part: &Part) -> bool {
    match &part.content {
        Content::Other(_) => true,
        Content::Outcome(outcome) => outcome.parts.iter().any(is_other),
        _ => false,
    }
}

/// Of what a writer leaves out, what the model was meant to see. The rest tunes.
fn matters(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(name, "image" | "file" | "audio" | "content" | "document")
        || (name.contains('.') && matches!(last, "url" | "file_id"))
}

fn unsayable(name: &str, who: &str) -> Unsayable {
    let message = format!(
        "{name}: {who} speaks another wire than this route, on which this cannot be said; call a model of a provider that speaks it"
    );
    Unsayable { at: name.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_policy::egress::Reach;
    use serde_json::json;

    fn endpoint(provider: &str) -> Endpoint {
        Endpoint {
            provider: provider.to_owned(),
            base_url: "https://a/v1".to_owned(),
            api_key: None,
            reach: Reach::Public,
        }
    }

    fn read(door: Door, provider: &str, body: &Value) -> Result<Question, Unsayable> {
        Question::read(door, body.to_string().as_bytes(), &endpoint(provider)).unwrap()
    }

    #[test]
    fn what_matters_and_cannot_be_said_is_refused() {
        let ask = json!([{"role": "user", "content": "hi"}]);
        let with = |name: &str, value: Value| {
            let mut body = json!({"model": "m", "messages": ask, "input": "hi", "max_tokens": 9});
            body[name] = value;
            body
        };
        let picture = |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
        for (door, provider, body, want) in [
            (
                Door::Responses,
                "anthropic",
                with("previous_response_id", json!("resp_1")),
                Some("previous_response_id"),
            ),
            (Door::Responses, "anthropic", with("previous_response_id", Value::Null), None),
            (Door::Responses, "anthropic", with("conversation", json!("c")), Some("conversation")),
            (Door::Responses, "anthropic", with("background", json!(false)), None),
            (Door::Responses, "gemini", with("tools", json!([{"type": "web_search"}])), Some("tools")),
            (
                Door::Responses,
                "anthropic",
                with("input", json!([{"type": "item_reference", "id": "i"}])),
                Some("messages"),
            ),
            (Door::Chat, "anthropic", with("n", json!(2)), Some("n")),
            (Door::Chat, "anthropic", with("n", json!(1)), None),
            (Door::Chat, "anthropic", with("logprobs", json!(true)), None),
            (Door::Chat, "bedrock", with("messages", picture("https://a/b.png")), Some("image.url")),
            (Door::Chat, "bedrock", with("messages", picture("data:image/png;base64,AAAA")), None),
            (Door::Chat, "anthropic", with("messages", json!([{"role": "odd"}])), Some("messages[0].role")),
            (Door::Messages, "openai", with("mcp_servers", json!([{"url": "u"}])), Some("mcp_servers")),
        ] {
            let got = read(door, provider, &body).err().map(|unsayable| unsayable.at);
            assert_eq!(got.as_deref(), want, "{provider} {body}");
        }
    }

    #[test]
    fn what_only_tunes_is_left_out_and_named() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 7, "logprobs": true, "stream": true});
        let written = read(Door::Chat, "anthropic", &body).unwrap().written("claude", Some(5));
        assert_eq!(written.ignored, ["logprobs", "seed"]);
        let sent: Value = serde_json::from_slice(&written.body).unwrap();
        assert_eq!(
            (&sent["model"], &sent["max_tokens"], &sent["stream"]),
            (&json!("claude"), &json!(5), &json!(true))
        );
    }

    #[test]
    fn embeddings_are_no_conversation() {
        assert!(Question::read(Door::Embeddings, b"{}", &endpoint("anthropic")).is_none());
    }
}
