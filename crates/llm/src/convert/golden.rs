//! Golden cases of model calls as the worker makes them over the chat wire, in `tests/golden/openai/`. `UPDATE=1`
//! rewrites what is expected. The conversions themselves have theirs in `cases.rs`.

use std::path::{Path, PathBuf};

use lantern_types::llm::{LlmCall, LlmReply, Message};
use lantern_types::{EffectKey, Failure, RunId, ToolDef};
use serde_json::{Value, json};

use crate::Family;
use crate::neutral::Request;
use crate::reader::{Reader, whole};
use crate::vendor::vendor;
use crate::wire::write_request;

/// A call as the golden files write it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Call {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<ToolDef>,
    max_tokens: u32,
    temperature: Option<serde_json::Number>,
    output_schema: Option<Value>,
}

#[test]
fn requests() {
    for path in inputs("request", ".call.json") {
        let call: Call = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let call = LlmCall {
            model: call.model,
            messages: call.messages,
            tools: call.tools,
            max_tokens: call.max_tokens,
            temperature: call.temperature,
            output_schema: call.output_schema,
            key: EffectKey { run: RunId::from_bytes(&[0; 16]).unwrap(), step: String::new(), generation: 0 },
            trace: None,
        };
        let written = write_request(&Request::from(&call), &vendor("openai").unwrap().dialect);
        // Models that think first take no other temperature than their own.
        assert!(written.ignored.iter().all(|name| name == "temperature"), "{}", path.display());
        expect(&path, ".call.json", &serde_json::from_slice(&written.body).unwrap());
    }
}

#[test]
fn streams() {
    for path in inputs("stream", ".sse") {
        let bytes = std::fs::read(&path).unwrap();
        let got = read_stream(&[&bytes]);
        expect(&path, ".sse", &got);
        // Where the network cuts the stream must not show, except in how the text is cut.
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read_stream(&single), got, "{}", path.display());
    }
}

#[test]
fn replies() {
    for path in inputs("reply", ".body.json") {
        let body = std::fs::read(&path).unwrap();
        expect(&path, ".body.json", &outcome(whole(Family::Chat, &body, "asked")));
    }
}

fn read_stream(pieces: &[&[u8]]) -> Value {
    let mut deltas: Vec<String> = Vec::new();
    let mut push = |text: &str| deltas.push(text.to_owned());
    let mut reader = Reader::new(Family::Chat);
    let pushed = pieces.iter().try_for_each(|piece| reader.push(piece, &mut push).map(|_| ()));
    let got = pushed.and_then(|()| reader.finish("asked"));
    json!({ "deltas": deltas, "outcome": outcome(got) })
}

fn outcome(got: Result<LlmReply, Failure>) -> Value {
    match got {
        Ok(reply) => json!({ "reply": reply }),
        Err(Failure { code, message, acted, retryable, .. }) => {
            json!({ "failure": { "code": code, "message": message, "acted": acted, "retryable": retryable } })
        }
    }
}

/// The inputs of one kind. There must be some: a wrong path would pass otherwise.
fn inputs(kind: &str, suffix: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openai").join(kind);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Compares with the file beside `input` whose name ends in `.want.json`.
#[expect(clippy::disallowed_methods, reason = "a test's switch, not the product's configuration")]
pub(super) fn expect(input: &Path, suffix: &str, got: &Value) {
    let file = PathBuf::from(input.to_str().unwrap().replace(suffix, ".want.json"));
    let got = serde_json::to_string_pretty(got).unwrap() + "\n";
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&file, &got).unwrap();
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(got, want, "{} differs; UPDATE=1 rewrites it", file.display());
}
