//! What was said in a session, as its messages: the frames of its runs, put together. Pure.

use lantern_types::At;
use serde::Serialize;
use utoipa::ToSchema;

use super::frames::Told;

/// One message.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionMessage)]
pub(super) struct Message {
    /// `user` or `assistant`.
    pub(super) role: &'static str,
    pub(super) content: String,
    pub(super) timestamp: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall>,
    /// The names of what came with it, with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attachments: Option<String>,
    /// Why there is no more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Its content is there and too long for a list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) omitted: bool,
}

/// A tool that was called for a message.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionToolCall)]
pub(super) struct ToolCall {
    name: String,
    /// JSON.
    args: String,
    /// Up to 2,000 characters of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// `running`, `completed` or `failed`.
    status: &'static str,
    #[serde(skip)]
    step: String,
}

impl Message {
    pub(super) fn new(role: &'static str, at: At, content: impl Into<String>) -> Self {
        let (content, timestamp) = (content.into(), at.to_string());
        Self {
            role,
            content,
            timestamp,
            tool_calls: Vec::new(),
            attachments: None,
            error: None,
            omitted: false,
        }
    }

    /// Bytes of what it holds.
    fn bytes(&self) -> usize {
        let call = |call: &ToolCall| call.args.len() + call.result.as_ref().map_or(0, String::len) + 64;
        self.content.len() + self.tool_calls.iter().map(call).sum::<usize>() + 64
    }
}

/// The messages of one exchange.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) messages: Vec<Message>,
    /// The model turn that the last message of the assistant is of.
    turn: String,
}

impl Script {
    pub(super) fn take(&mut self, told: &Told) {
        match told.kind {
            "user.message" => {
                let attachments = Some(told.text("attachments")).filter(|names| !names.is_empty());
                let attachments = attachments.map(str::to_owned);
                let message = Message::new("user", told.at, told.text("content"));
                self.messages.push(Message { attachments, ..message });
            }
            "agent.message" => self.says(told, told.text("step"), told.text("content")),
            "agent.tool_call_started" => _ = self.call(told, "running"),
            "agent.tool_call_completed" => {
                let result = told.text("result").to_owned();
                if let Some(call) = self.call(told, "completed") {
                    call.result = Some(result);
                }
            }
            "agent.tool_call_failed" => {
                let error = told.text("error").to_owned();
                if let Some(call) = self.call(told, "failed") {
                    call.error = Some(error);
                }
            }
            "session.status_idle" if told.text("status") != "succeeded" => {
                let code = [told.text("code"), told.text("status")].into_iter().find(|text| !text.is_empty());
                let why = code.into_iter().chain([told.text("error")]).filter(|text| !text.is_empty());
                let error = Some(why.collect::<Vec<_>>().join(": "));
                self.messages.push(Message { error, ..Message::new("assistant", told.at, "") });
            }
            _ => {}
        }
    }

    fn says(&mut self, told: &Told, turn: &str, content: &str) {
        turn.clone_into(&mut self.turn);
        self.messages.push(Message::new("assistant", told.at, content));
    }

    /// The call of a tool, with the turn that asked for it.
    fn call(&mut self, told: &Told, status: &'static str) -> Option<&mut ToolCall> {
        let step = told.text("step");
        let turn = step.split_once('.').map_or("", |(turn, _)| turn);
        let ours = self.messages.last().is_some_and(|last| last.role == "assistant") && self.turn == turn;
        if !ours {
            self.says(told, turn, "");
        }
        let calls = &mut self.messages.last_mut()?.tool_calls;
        let place = calls.iter().position(|call| call.step == step).unwrap_or_else(|| {
            calls.push(ToolCall {
                name: told.text("name").to_owned(),
                args: told.text("args").to_owned(),
                result: None,
                error: None,
                status,
                step: step.to_owned(),
            });
            calls.len() - 1
        });
        let call = calls.get_mut(place)?;
        call.status = status;
        Some(call)
    }

    /// Bytes of all its messages.
    pub(super) fn bytes(&self) -> usize {
        self.messages.iter().map(Message::bytes).sum()
    }
}
