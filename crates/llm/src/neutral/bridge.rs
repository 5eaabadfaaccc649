//! Between this form and what journals hold (`lantern_types::llm`).
//!
//! Invariant: what a model proves of a tool call is kept with the call and goes back with it; thoughts are not kept.

use lantern_types::llm::{self, LlmCall, LlmReply, ToolUse};

use super::{
    Call, Content, Extra, Finish, Function, Json, Media, Message, Outcome, Output, Part, Reply, Request,
    Role, Sampling, Signature, Source, Tool, Usage,
};
use crate::Family;

impl From<&LlmCall> for Request {
    /// The request of a step. Always streams.
    fn from(call: &LlmCall) -> Self {
        let tool = |tool: &lantern_types::ToolDef| {
            Tool::Function(Function {
                name: tool.name.wire(),
                description: Some(tool.description.clone()),
                schema: Some(Json::of(&tool.input_schema)),
                ..Function::default()
            })
        };
        let output = |schema: &serde_json::Value| Output::Schema {
            name: None,
            description: None,
            schema: Json::of(schema),
            strict: None,
        };
        Self {
            model: call.model.clone(),
            messages: call.messages.iter().map(message).collect(),
            tools: call.tools.iter().map(tool).collect(),
            output: call.output_schema.as_ref().map(output),
            max_tokens: Some(u64::from(call.max_tokens)),
            sampling: Sampling { temperature: call.temperature.clone(), ..Sampling::default() },
            stream: true,
            stream_usage: true,
            ..Self::default()
        }
    }
}

fn message(message: &llm::Message) -> Message {
    let said = (!message.content.is_empty()).then(|| Part::text(&message.content));
    let role = match message.role {
        llm::Role::System => Role::System,
        llm::Role::User => Role::User,
        llm::Role::Assistant => Role::Assistant,
        llm::Role::Tool => {
            let call = message.tool_call_id.clone().unwrap_or_default();
            let outcome = Outcome { call, parts: said.into_iter().collect(), ..Outcome::default() };
            return Message::new(Role::Tool, vec![Part::new(Content::Outcome(outcome))]);
        }
    };
    let images = message.images.iter().map(|image| {
        let (media_type, data) = (image.media_type.clone(), image.data.clone());
        let source = Source::Base64 { media_type, data };
        Part::new(Content::Image(Media { source, name: None, detail: None }))
    });
    let calls = message.tool_calls.iter().map(|call| {
        let ToolUse { id, name, arguments, proof } = call.clone();
        Part {
            signature: proof.map(|proof| Signature::read(Family::Chat, proof)),
            ..Part::new(Content::Call(Call { id, name, arguments }))
        }
    });
    let parts = said.into_iter().chain(images).chain(calls).collect();
    Message { role, parts, name: None, extra: Extra::new() }
}

impl From<Reply> for LlmReply {
    /// The reply of a step. Words for not answering stand in for an answer when there is none.
    fn from(reply: Reply) -> Self {
        let mut content = reply.text();
        let tool_calls: Vec<ToolUse> = reply.parts.iter().filter_map(tool_use).collect();
        if content.is_empty() {
            let refused = reply.parts.iter().filter_map(|part| match &part.content {
                Content::Refusal(text) => Some(text.as_str()),
                _ => None,
            });
            content = refused.collect();
        }
        let finish = match reply.finish {
            Finish::Calls if !tool_calls.is_empty() => llm::Finish::ToolCalls,
            Finish::Stop | Finish::StopText | Finish::Pause | Finish::Calls => llm::Finish::Stop,
            Finish::Length => llm::Finish::Length,
            Finish::Filter => llm::Finish::ContentFilter,
        };
        let usage = reply
            .usage
            .map(|Usage { input, output, .. }| llm::Usage { tokens_in: input, tokens_out: output });
        Self { content, tool_calls, finish, usage, model: reply.model }
    }
}

fn tool_use(part: &Part) -> Option<ToolUse> {
    let Content::Call(Call { id, name, arguments }) = &part.content else { return None };
    // Written as a client of the chat wire would see it: only then is the maker's name with it.
    let proof = part.signature.as_ref().map(|proof| proof.shown_to(Family::Chat));
    Some(ToolUse { id: id.clone(), name: name.clone(), arguments: arguments.clone(), proof })
}
