//! Chat completions: a neutral call becomes a request; a whole reply or a stream's chunks become a neutral reply.
//!
//! Invariant: the tool calls of a reply come in the order in which they began, each with the arguments exactly as
//! the model wrote them. A reply without a reason for its end is not finished. Knows nothing of HTTP or SSE.

use std::borrow::Cow;

use lantern_types::llm::{Finish, LlmCall, LlmReply, Message, Role, ToolUse, Usage};
use lantern_types::{Failure, ToolDef};
use serde_json::Value;

use crate::failure::{interrupted, invalid};
use crate::types::openai as wire;
use crate::vendor::openai::Quirks;

/// More tool calls in one reply than any agent could want.
const CALLS_MAX: usize = 128;

/// The request for a call. Always streams.
pub(crate) fn request(call: &LlmCall, quirks: Quirks) -> wire::Request<'_> {
    let capped = Some(call.max_tokens);
    wire::Request {
        model: &call.model,
        messages: call.messages.iter().map(message).collect(),
        tools: call.tools.iter().map(tool).collect(),
        max_tokens: capped.filter(|_| !quirks.reasoning),
        max_completion_tokens: capped.filter(|_| quirks.reasoning),
        temperature: call.temperature.as_ref().filter(|_| !quirks.reasoning),
        response_format: call.output_schema.as_ref().map(response_format),
        stream: true,
        stream_options: wire::StreamOptions { include_usage: true },
    }
}

fn message(message: &Message) -> wire::RequestMessage<'_> {
    let silent = message.content.is_empty() && !message.tool_calls.is_empty();
    wire::RequestMessage {
        role: match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        },
        content: (!silent).then(|| content(message)),
        tool_calls: message.tool_calls.iter().map(tool_call).collect(),
        tool_call_id: message.tool_call_id.as_deref(),
    }
}

/// Text as text, because not every server that imitates this wire knows parts.
fn content(message: &Message) -> wire::Content<'_> {
    if message.images.is_empty() {
        return wire::Content::Text(&message.content);
    }
    let text = (!message.content.is_empty()).then_some(wire::Part::Text { text: &message.content });
    let images = message.images.iter().map(|image| {
        let url = format!("data:{};base64,{}", image.media_type, image.data);
        wire::Part::ImageUrl { image_url: wire::ImageUrl { url } }
    });
    wire::Content::Parts(text.into_iter().chain(images).collect())
}

fn tool_call(call: &ToolUse) -> wire::RequestCall<'_> {
    let function = wire::RequestFunction { name: &call.name, arguments: past_arguments(&call.arguments) };
    wire::RequestCall { id: &call.id, kind: "function", function }
}

/// Several servers parse the arguments of past calls and refuse the whole conversation when one is malformed, so a
/// model's slip goes back to it as a string in an object.
fn past_arguments(text: &str) -> Cow<'_, str> {
    if text.trim().is_empty() {
        Cow::Borrowed("{}")
    } else if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() {
        Cow::Borrowed(text)
    } else {
        let quoted = Value::from_iter([("malformed", text)]);
        Cow::Owned(quoted.to_string())
    }
}

fn tool(def: &ToolDef) -> wire::Tool<'_> {
    wire::Tool {
        kind: "function",
        function: wire::ToolFunction {
            name: def.name.wire(),
            description: &def.description,
            parameters: &def.input_schema,
        },
    }
}

/// Not `strict`: that mode takes a subset of JSON Schema only, and the caller checks the reply anyway.
fn response_format(schema: &Value) -> wire::ResponseFormat<'_> {
    wire::ResponseFormat {
        kind: "json_schema",
        json_schema: wire::JsonSchema { name: "reply", schema, strict: false },
    }
}

/// A whole reply. A server that does not stream may leave the reason for the end out: the JSON ended, so it is whole.
pub(crate) fn reply(chunk: wire::Chunk, asked: &str) -> Result<LlmReply, Failure> {
    let mut assembly = Assembly::default();
    assembly.take(chunk)?;
    if assembly.answered {
        assembly.finish.get_or_insert_with(|| "stop".to_owned());
    }
    assembly.finish(asked)
}

/// A reply in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    model: Option<String>,
    content: String,
    refusal: String,
    calls: Vec<Call>,
    finish: Option<String>,
    usage: Option<Usage>,
    answered: bool,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Assembly {
    /// Adds a chunk; answers the text in it. Only the first choice counts: no more are asked for.
    pub(crate) fn take(&mut self, chunk: wire::Chunk) -> Result<String, Failure> {
        if chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(invalid("the reply has no choices"));
        }
        if self.model.is_none() {
            self.model = chunk.model.filter(|name| !name.is_empty());
        }
        self.usage = chunk.usage.as_ref().and_then(usage).or(self.usage);
        let mut text = String::new();
        for choice in chunk.choices.unwrap_or_default().into_iter().filter(|choice| choice.index == 0) {
            self.answered = true;
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.finish = Some(reason);
            }
            let said = choice.delta.or(choice.message).unwrap_or_default();
            text.push_str(&said.content.unwrap_or_default());
            self.refusal.push_str(&said.refusal.unwrap_or_default());
            for part in said.tool_calls.unwrap_or_default() {
                self.call_part(part)?;
            }
        }
        self.content.push_str(&text);
        Ok(text)
    }

    fn call_part(&mut self, part: wire::CallPart) -> Result<(), Failure> {
        let id = part.id.unwrap_or_default();
        let function = part.function.unwrap_or_default();
        let starts = part.index.is_none() && id.is_empty() && function.name.is_some();
        let call = self.call_for(part.index, &id, starts)?;
        if call.id.is_empty() {
            call.id = id;
        }
        // The name comes whole; some servers repeat it with every part.
        if call.name.is_empty() {
            call.name = function.name.unwrap_or_default();
        }
        call.arguments.push_str(&function.arguments.unwrap_or_default());
        Ok(())
    }

    /// Parts belong together by index. Servers that leave it out, or give every call index 0, start each call with
    /// an id of its own; where even that is missing, a name `starts` a call.
    fn call_for(&mut self, index: Option<u64>, id: &str, starts: bool) -> Result<&mut Call, Failure> {
        let same = |call: &Call| !starts && (id.is_empty() || call.id.is_empty() || call.id == id);
        let candidate = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let place = candidate.filter(|at| self.calls.get(*at).is_some_and(same));
        let place = place.unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        if place >= CALLS_MAX {
            return Err(invalid(format!("the reply has more than {CALLS_MAX} tool calls")));
        }
        self.calls.get_mut(place).ok_or_else(|| invalid("the reply's tool calls make no sense"))
    }

    /// Whether the model said why it stopped.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The whole reply; an error when it is not whole.
    pub(crate) fn finish(self, asked: &str) -> Result<LlmReply, Failure> {
        if !self.answered {
            return Err(invalid("the reply has no choices"));
        }
        let Some(reason) = self.finish else {
            return Err(interrupted("the reply broke off before its end"));
        };
        let tool_calls = self.calls.into_iter().enumerate().map(tool_use).collect::<Result<Vec<_>, _>>()?;
        let withheld = self.content.is_empty() && !self.refusal.is_empty();
        let finish = if withheld { Finish::ContentFilter } else { why(&reason, !tool_calls.is_empty())? };
        Ok(LlmReply {
            content: if withheld { self.refusal } else { self.content },
            tool_calls,
            finish,
            usage: self.usage,
            model: self.model.unwrap_or_else(|| asked.to_owned()),
        })
    }
}

fn tool_use((place, call): (usize, Call)) -> Result<ToolUse, Failure> {
    if call.name.is_empty() {
        return Err(invalid("the reply asks for a tool without naming it"));
    }
    // Results are matched to calls by id, so a server that gives none gets one.
    let id = if call.id.is_empty() { format!("call_{place}") } else { call.id };
    Ok(ToolUse { id, name: call.name, arguments: call.arguments })
}

/// Some servers say `stop` beside tool calls, and others `tool_calls` without any.
fn why(reason: &str, calls: bool) -> Result<Finish, Failure> {
    match reason {
        "length" => Ok(Finish::Length),
        "content_filter" => Ok(Finish::ContentFilter),
        "error" => Err(interrupted("the provider ended the reply with an error")),
        _ if calls => Ok(Finish::ToolCalls),
        _ => Ok(Finish::Stop),
    }
}

/// Both counts or nothing: half a bill is no bill.
fn usage(usage: &Value) -> Option<Usage> {
    let count = |name| usage.get(name).and_then(Value::as_u64);
    Some(Usage { tokens_in: count("prompt_tokens")?, tokens_out: count("completion_tokens")? })
}
