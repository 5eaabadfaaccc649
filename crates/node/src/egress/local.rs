//! What a program asks of us: results of steps that it had before, and lines in its log.
//!
//! Invariant: a result that was answered with is durable, and is answered with ever after: whoever runs the program again, on
//! whichever server, hears the first that was recorded under a key. Who asks is known by the network that it asks from, so nothing
//! is shown to prove it.

use std::collections::BTreeMap;

use lantern_policy::Scope;
use lantern_types::RunId;
use lantern_types::limits::{JSON_DEPTH_MAX, within_depth};
use lantern_worker::Mail;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Bytes of what is asked.
pub(crate) const BODY_MAX: u64 = 2 << 20;
/// Under which name the run is told of steps.
const STEP: &str = "lantern:step";
const KEY_MAX: usize = 200;
const LOG_MAX: usize = 16 << 10;

/// What is answered: a status, and JSON.
type Answer = (&'static str, Value);

/// What one box may ask.
pub(crate) struct Local {
    mail: Mail,
    to: (Scope, RunId),
    steps_max: Option<u64>,
    // Held while a step is recorded, so that of two with one key one is the first.
    recorded: Mutex<Option<BTreeMap<String, Value>>>,
}

/// What came of a question.
pub(super) struct Answered {
    pub(super) status: &'static str,
    pub(super) body: Value,
    /// A line for the log.
    pub(super) line: Option<String>,
}

impl Local {
    pub(crate) fn new(mail: Mail, to: (Scope, RunId), steps_max: Option<u64>) -> Self {
        Self { mail, to, steps_max, recorded: Mutex::default() }
    }

    /// Answers a question.
    pub(super) async fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answered {
        let asked: Option<Value> = serde_json::from_slice(body).ok();
        let asked = asked.filter(|asked| asked.is_object() && within_depth(asked, JSON_DEPTH_MAX));
        let (status, body) = match (method, path, asked) {
            ("POST", "/v1/log", Some(asked)) => {
                let line = asked.get("message").and_then(Value::as_str).map(cut);
                let status = if line.is_some() { "200 OK" } else { "400 Bad Request" };
                return Answered { status, body: json!({}), line };
            }
            ("POST", "/v1/steps/recall", Some(asked)) => self.recall(&asked).await,
            ("POST", "/v1/steps/record", Some(asked)) => self.record(asked).await,
            ("POST", "/v1/log" | "/v1/steps/recall" | "/v1/steps/record", None) => refused(
                "400 Bad Request",
                "invalid_body",
                "expected a JSON object that nests no deeper than others may",
            ),
            _ => refused(
                "404 Not Found",
                "not_found",
                "there are POST /v1/steps/recall, /v1/steps/record and /v1/log",
            ),
        };
        Answered { status, body, line: None }
    }

    async fn recall(&self, asked: &Value) -> Answer {
        let Some(key) = key(asked) else { return no_key() };
        let mut recorded = self.recorded.lock().await;
        match self.known(&mut recorded).await {
            Some(known) => match known.get(key) {
                Some(value) => ("200 OK", json!({ "recorded": true, "value": value })),
                None => ("200 OK", json!({ "recorded": false })),
            },
            None => away(),
        }
    }

    async fn record(&self, mut asked: Value) -> Answer {
        let value = asked.get_mut("value").map_or(Value::Null, Value::take);
        let Some(key) = key(&asked) else { return no_key() };
        let mut recorded = self.recorded.lock().await;
        let Some(known) = self.known(&mut recorded).await else { return away() };
        if let Some(first) = known.get(key) {
            return ("200 OK", json!({ "value": first }));
        }
        if self.steps_max.is_some_and(|most| known.len() as u64 >= most) {
            return refused(
                "409 Conflict",
                "too_many_steps",
                "the workload has as many steps as limits.max_steps says",
            );
        }
        match self.mail.tell(self.to, (STEP, key), value.clone()).await {
            Ok(true) => {
                known.insert(key.to_owned(), value.clone());
                ("200 OK", json!({ "value": value }))
            }
            Ok(false) => {
                refused("409 Conflict", "steps_full", "the run keeps no more, or nothing as large as this")
            }
            Err(_) => away(),
        }
    }

    /// What was recorded, read once.
    async fn known<'a>(
        &self,
        recorded: &'a mut Option<BTreeMap<String, Value>>,
    ) -> Option<&'a mut BTreeMap<String, Value>> {
        if recorded.is_none() {
            *recorded = self.mail.told(self.to, STEP).await.ok();
        }
        recorded.as_mut()
    }
}

fn key(asked: &Value) -> Option<&str> {
    let key = asked.get("key").and_then(Value::as_str);
    key.filter(|key| (1..=KEY_MAX).contains(&key.len()) && !key.contains('\0'))
}

fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LOG_MAX).collect()
}

fn no_key() -> Answer {
    refused("400 Bad Request", "invalid_body", "a step has a key, of 1 to 200 bytes")
}

fn away() -> Answer {
    refused("503 Service Unavailable", "unavailable", "the journal cannot be read or written now; ask again")
}

fn refused(status: &'static str, code: &str, words: &str) -> Answer {
    (status, json!({ "code": code, "error": words }))
}
