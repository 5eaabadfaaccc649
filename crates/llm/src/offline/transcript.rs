//! What the offline model knows: the question, the tools on offer, and the results it already has.

use lantern_types::llm::{LlmCall, Message, Role};
use serde_json::Value;

use super::Plan;

/// A call's conversation, read once.
pub(super) struct Transcript<'a> {
    /// The last thing the user said, unwrapped; the instructions when the user said nothing.
    pub(super) question: String,
    call: &'a LlmCall,
}

impl<'a> Transcript<'a> {
    pub(super) fn read(call: &'a LlmCall) -> Self {
        let last = |role| call.messages.iter().rev().find(|message| message.role == role);
        let said = |role| last(role).map(|message| unwrapped(&message.content)).unwrap_or_default();
        let asked = said(Role::User);
        let question = if asked.trim().is_empty() { said(Role::System) } else { asked };
        Self { question, call }
    }

    /// Whether a tool of that wire name is on offer.
    pub(super) fn offers(&self, tool: &str) -> bool {
        self.call.tools.iter().any(|def| def.name.wire() == tool)
    }

    /// Tool calls asked for so far.
    pub(super) fn calls_made(&self) -> usize {
        self.call.messages.iter().map(|message| message.tool_calls.len()).sum()
    }

    /// The result of calling `tool` with these arguments, if it was called already.
    pub(super) fn result(&self, tool: &str, arguments: &Value) -> Option<&'a str> {
        let made = self.call.messages.iter().flat_map(|message| &message.tool_calls);
        let mut same = made.filter(|made| {
            made.name == tool && serde_json::from_str::<Value>(&made.arguments).is_ok_and(|a| a == *arguments)
        });
        same.find_map(|made| self.answer(&made.id))
    }

    fn answer(&self, id: &str) -> Option<&'a str> {
        let answers =
            |message: &&Message| message.role == Role::Tool && message.tool_call_id.as_deref() == Some(id);
        self.call.messages.iter().find(answers).map(|message| message.content.as_str())
    }

    /// The results of several calls of one tool, or the plan to get the first of those that are missing, `at_once` of them.
    pub(super) fn results(
        &self,
        tool: &'static str,
        calls: &[Value],
        at_once: usize,
    ) -> Result<Vec<&'a str>, Plan> {
        let (mut results, mut missing) = (Vec::with_capacity(calls.len()), Vec::new());
        for arguments in calls {
            match self.result(tool, arguments) {
                Some(result) => results.push(result),
                None if missing.len() < at_once => missing.push(arguments.clone()),
                None => break,
            }
        }
        if missing.is_empty() { Ok(results) } else { Err(Plan::Ask { tool, calls: missing }) }
    }
}

/// A run's input may arrive as JSON: then its longest text is what there is to work on.
fn unwrapped(content: &str) -> String {
    match serde_json::from_str::<Value>(content) {
        Ok(value) => longest(&value).unwrap_or(content).to_owned(),
        Err(_) => content.to_owned(),
    }
}

/// The longest string anywhere in a value. JSON from the parser is at most 128 levels deep.
pub(super) fn longest(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => items.iter().filter_map(longest).max_by_key(|text| text.len()),
        Value::Object(fields) => fields.values().filter_map(longest).max_by_key(|text| text.len()),
        _ => None,
    }
}

/// The number in a tool's result (`7`, `"7"`, `{"result": 7}`, `{"value": "7"}`), as text.
pub(super) fn number(result: &str) -> Option<String> {
    let value: Value = serde_json::from_str(result.trim()).ok()?;
    let inner = ["result", "value"].iter().find_map(|field| value.get(field)).unwrap_or(&value);
    let text = match inner {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    text.parse::<f64>().is_ok_and(f64::is_finite).then_some(text)
}

/// Foreign text as a quotation: one line, bounded.
pub(super) fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(200).collect();
    let more = if short.len() < line.len() { "…" } else { "" };
    format!("“{short}{more}”")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_results() {
        for (result, want) in [
            ("7", Some("7")),
            (" \"7.5\" ", Some("7.5")),
            (r#"{"result": 153}"#, Some("153")),
            (r#"{"value": "-2"}"#, Some("-2")),
            (r#"{"error": "no"}"#, None),
            (r#"{"result": {"x": 1}}"#, None),
            ("\"inf\"", None),
            ("seven", None),
            ("", None),
        ] {
            assert_eq!(number(result).as_deref(), want, "{result}");
        }
    }

    #[test]
    fn json_input_is_unwrapped() {
        assert_eq!(unwrapped(r#""a\nb""#), "a\nb");
        assert_eq!(unwrapped(r#"{"kind":"x","log":["commit 1","commit 22"]}"#), "commit 22");
        assert_eq!(unwrapped("{}"), "{}");
        assert_eq!(unwrapped("plain"), "plain");
        assert_eq!(quoted("a\n  b"), "“a b”");
    }
}
