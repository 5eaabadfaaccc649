//! What a program asks of us: results of steps that it had before, lines in its log, sleep, and the way to what `steps.rs` and the doors do.
//!
//! Invariant: a result that was answered with is durable, and is answered with ever after: whoever runs the program again, on
//! whichever server, hears the first that was recorded under a key. Who asks is known by the network that it asks from, so nothing
//! is shown to prove it.

use std::collections::{BTreeMap, BTreeSet};

use lantern_policy::Scope;
use lantern_store::inbox::Kept;
use lantern_store::stops;
use lantern_types::limits::{JSON_DEPTH_MAX, within_depth};
use lantern_types::step::Wanted;
use lantern_types::{At, Dur, RunId};
use lantern_worker::Mail;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};

use super::Egress;
use super::models::{self, Door, UnderWay};
use super::steps::{self, StepAsk, Steps};

/// Bytes of what is asked.
pub(crate) const BODY_MAX: u64 = 2 << 20;
/// Under which name the run is told of steps.
const STEP: &str = "lantern:step";
/// Under which name it is told of model calls whose answer is kept.
const LLM: &str = "lantern:llm";
const KEY_MAX: usize = 200;
/// What takes a JSON object.
const PATHS: [&str; 8] = [
    "/v1/log",
    "/v1/steps/recall",
    "/v1/steps/record",
    "/v1/steps/sleep",
    "/v1/steps/llm",
    "/v1/steps/tool",
    "/v1/steps/approval",
    "/v1/steps/signal",
];
const LOG_MAX: usize = 16 << 10;

/// What is answered: a status, and JSON.
pub(super) type Answer = (&'static str, Value);
/// How long a step may sleep at once.
const SLEEP_MAX: Dur = Dur::from_secs(30 * 24 * 3_600);

/// What one box may ask.
pub(crate) struct Local {
    mail: Mail,
    to: (Scope, RunId),
    door: Door,
    steps: Steps,
    // Held while a step is recorded, so that of two with one key one is the first.
    recorded: Mutex<Option<Recorded>>,
}

/// What was recorded, and what was begun and is counted.
pub(super) type Recorded = (BTreeMap<String, Value>, BTreeSet<String>);

/// What came of a question.
pub(super) struct Answered {
    pub(super) status: String,
    pub(super) body: Value,
    /// A line for the log.
    pub(super) line: Option<String>,
}

impl Local {
    pub(crate) fn new(mail: Mail, to: (Scope, RunId), door: Door, steps: Steps) -> Self {
        Self { mail, to, door, steps, recorded: Mutex::default() }
    }

    /// The door to models.
    pub(super) const fn door(&self) -> &Door {
        &self.door
    }

    /// Sees to it that the meter knows how many steps there are. `false` when that cannot be read now.
    pub(super) async fn count(&self) -> bool {
        let mut recorded = self.recorded.lock().await;
        self.known(&mut recorded).await.is_some()
    }

    /// What the run keeps at most.
    fn most(&self) -> Kept {
        let limits = self.mail.limits.of(self.to.0.tenant());
        Kept { count: limits.signals_per_run_max.into(), bytes: limits.signal_bytes_per_run_max }
    }

    /// Why the program may do nothing new now: a stop of its agent, its tenant or the server.
    pub(super) async fn halted(&self) -> Option<Answer> {
        let agent = self.door.agent.as_ref().map(|(_, name)| name.clone()).unwrap_or_default();
        match stops::holding(&self.mail.db, self.to.0, agent).await {
            Ok(None) => None,
            Ok(Some(stop)) => {
                let words = format!("an emergency stop holds, so no step is begun: {}", stop.reason);
                Some(refused("409 Conflict", "emergency_stop", &words))
            }
            Err(_) => Some(away()),
        }
    }

    /// What is recorded under a key; if nothing is, counts the step that is begun. `Err` says why it is not.
    pub(super) async fn begin(&self, place: &str) -> Result<Option<Value>, Answer> {
        let mut recorded = self.recorded.lock().await;
        let Some((known, begun)) = self.known(&mut recorded).await else { return Err(away()) };
        if let Some(value) = known.get(place) {
            return Ok(Some(value.clone()));
        }
        if let Some(halted) = self.halted().await {
            return Err(halted);
        }
        if !begun.contains(place) {
            // What cannot be kept is better not done.
            if !has_room(known, begun, self.most()) {
                return Err(full());
            }
            let mut steps = self.door.meter.steps().await;
            match steps.has_room().await {
                Ok(true) => steps.take(),
                Ok(false) => return Err(too_many()),
                Err(_) => return Err(away()),
            }
            begun.insert(place.to_owned());
        }
        Ok(None)
    }

    /// Records what came of a step that was begun, and answers with it. It was done, so it is answered also when the run cannot keep
    /// it; then whoever asks again may be refused.
    pub(super) async fn end(&self, place: &str, (name, key): (&str, &str), value: Value) -> Answer {
        let mut recorded = self.recorded.lock().await;
        let Some((known, begun)) = self.known(&mut recorded).await else { return away() };
        if let Some(first) = known.get(place) {
            return ("200 OK", json!({ "value": first }));
        }
        match self.mail.tell(self.to, (name, key), value.clone()).await {
            Ok(true) => {
                known.insert(place.to_owned(), value.clone());
                ("200 OK", json!({ "value": value }))
            }
            Ok(false) => {
                begun.remove(place);
                ("200 OK", json!({ "recorded": false, "value": value }))
            }
            Err(_) => away(),
        }
    }

    /// A step that was refused was not begun.
    pub(super) async fn drop_begun(&self, place: &str) {
        let mut recorded = self.recorded.lock().await;
        if let Some((_, begun)) = self.known(&mut recorded).await
            && begun.remove(place)
        {
            self.door.meter.steps().await.give_back();
        }
    }

    /// Records the first signal that no other step has taken, if there is one.
    pub(super) async fn take_signal(&self, (name, key): (&str, &str), came: &[Value]) -> Option<Answer> {
        let mut recorded = self.recorded.lock().await;
        let Some((known, begun)) = self.known(&mut recorded).await else { return Some(away()) };
        let place = steps::place(steps::signal_name(), key);
        if let Some(first) = known.get(&place) {
            return Some(("200 OK", json!({ "value": first })));
        }
        let value = steps::untaken(name, came, known.iter())?;
        Some(match self.mail.tell(self.to, (steps::signal_name(), key), value.clone()).await {
            Ok(true) => {
                known.insert(place, value.clone());
                ("200 OK", json!({ "value": value }))
            }
            // Not taken: it is there for whoever asks next.
            Ok(false) => {
                if begun.remove(&place) {
                    self.door.meter.steps().await.give_back();
                }
                full()
            }
            Err(_) => away(),
        })
    }

    /// Lets go of the tools and questions that nobody will hear of.
    pub(super) async fn withdraw(&self) {
        let open: Vec<String> = match &*self.recorded.lock().await {
            Some((known, begun)) => {
                begun.iter().filter(|place| !known.contains_key(*place)).cloned().collect()
            }
            None => Vec::new(),
        };
        let (scope, run) = self.to;
        for (kind, key) in open.iter().filter_map(|place| steps::run_in(place)) {
            (self.steps)(StepAsk { scope, run, key: key.to_owned(), wanted: Wanted::Withdraw(kind) }).await;
        }
    }

    /// What steps are done with.
    pub(super) const fn outside(&self) -> (&Mail, (Scope, RunId), &Steps) {
        (&self.mail, self.to, &self.steps)
    }

    /// Answers a question. What only waits ends when whoever asked is `gone`; the same may be asked again under its key.
    pub(super) async fn answer(
        &self,
        egress: &Egress,
        (method, path): (&str, &str),
        body: &[u8],
        gone: &Notify,
    ) -> Answered {
        let asked: Option<Value> = serde_json::from_slice(body).ok();
        let asked = asked.filter(|asked| asked.is_object() && within_depth(asked, JSON_DEPTH_MAX));
        let (status, body) = match (method, path, asked) {
            ("POST", "/v1/log", Some(asked)) => {
                let line = asked.get("message").and_then(Value::as_str).map(cut);
                let status = if line.is_some() { "200 OK" } else { "400 Bad Request" }.to_owned();
                return Answered { status, body: json!({}), line };
            }
            ("POST", "/v1/steps/recall", Some(asked)) => self.recall(&asked).await,
            ("POST", "/v1/steps/record", Some(asked)) => self.record(asked).await,
            ("POST", "/v1/steps/sleep", Some(asked)) => self.sleep(egress, &asked, gone).await,
            ("POST", "/v1/steps/llm", Some(asked)) => {
                let (status, body) = self.llm(egress, &asked).await;
                return Answered { status, body, line: None };
            }
            ("POST", "/v1/steps/tool", Some(asked)) => steps::tool(self, &asked, gone).await,
            ("POST", "/v1/steps/approval", Some(asked)) => steps::approval(self, &asked, gone).await,
            ("POST", "/v1/steps/signal", Some(asked)) => steps::signal(self, egress, &asked, gone).await,
            (_, "/v1/steps/memory", _) => refused(
                "501 Not Implemented",
                "not_built",
                "there is no memory of agents in this build; keep what is to be remembered in steps",
            ),
            ("POST", path, None) if PATHS.contains(&path) => refused(
                "400 Bad Request",
                "invalid_body",
                "expected a JSON object that nests no deeper than others may",
            ),
            _ => refused(
                "404 Not Found",
                "not_found",
                "there are POST /v1/steps/recall, /v1/steps/record, /v1/steps/llm, /v1/steps/sleep, /v1/steps/tool, /v1/steps/approval, /v1/steps/signal and /v1/log",
            ),
        };
        Answered { status: status.to_owned(), body, line: None }
    }

    /// A model call under a key: made once, and its answer is what every later one hears.
    async fn llm(&self, egress: &Egress, asked: &Value) -> (String, Value) {
        let plain = |(status, body): Answer| (status.to_owned(), body);
        let Some(key) = key(asked) else { return plain(no_key()) };
        let request = asked.get("request").filter(|request| request.is_object());
        let Some(request) = request else {
            let words = "expected a key, and in `request` what /v1/chat/completions is asked";
            return plain(refused("400 Bad Request", "invalid_body", words));
        };
        let Some(_under_way) = UnderWay::begin(&self.door, key) else {
            return plain(refused("409 Conflict", "step_under_way", "this step is being done; ask again"));
        };
        let before = {
            let mut recorded = self.recorded.lock().await;
            let Some((known, _)) = self.known(&mut recorded).await else { return plain(away()) };
            known.get(&answered(key)).cloned()
        };
        if let Some(value) = before {
            return plain(("200 OK", json!({ "recorded": true, "value": value })));
        }
        let (status, value, fine) = models::step(egress, &self.door, request).await;
        if !fine {
            return (status, value);
        }
        let told = self.told(key, &value).await;
        ("200 OK".to_owned(), json!({ "recorded": told, "value": value }))
    }

    /// Waits until a time that is recorded under a key when it is first asked for.
    async fn sleep(&self, egress: &Egress, asked: &Value, gone: &Notify) -> Answer {
        let seconds =
            asked.get("seconds").and_then(Value::as_u64).and_then(|seconds| u32::try_from(seconds).ok());
        let wait = seconds.map(|seconds| Dur::from_secs(seconds.into()));
        let Some(wait) = wait.filter(|wait| *wait <= SLEEP_MAX) else {
            let words = "expected a key, and in `seconds` a whole number up to thirty days";
            return refused("400 Bad Request", "invalid_body", words);
        };
        let until = egress.clock.now() + wait;
        let answer = self.record(json!({ "key": asked.get("key"), "value": until.micros() })).await;
        let until = answer.1.get("value").and_then(Value::as_i64).map(At::from_micros);
        let Some(until) = until.filter(|_| answer.0 == "200 OK") else { return answer };
        tokio::select! {
            biased;
            () = egress.clock.sleep(until.since(egress.clock.now())) => {}
            () = gone.notified() => return away(),
        }
        ("200 OK", json!({ "until": until.to_string() }))
    }

    /// Records an answer that was paid for. `false` when it cannot be kept.
    async fn told(&self, key: &str, value: &Value) -> bool {
        let mut recorded = self.recorded.lock().await;
        let told = self.mail.tell(self.to, (LLM, key), value.clone()).await.is_ok_and(|told| told);
        if let Some((known, _)) = self.known(&mut recorded).await.filter(|_| told) {
            known.entry(answered(key)).or_insert_with(|| value.clone());
        }
        told
    }

    async fn recall(&self, asked: &Value) -> Answer {
        let Some(key) = key(asked) else { return no_key() };
        let mut recorded = self.recorded.lock().await;
        let Some((known, _)) = self.known(&mut recorded).await else { return away() };
        match known.get(key) {
            Some(value) => ("200 OK", json!({ "recorded": true, "value": value })),
            // Whoever hears this does the step next.
            None => self.halted().await.unwrap_or_else(|| ("200 OK", json!({ "recorded": false }))),
        }
    }

    async fn record(&self, mut asked: Value) -> Answer {
        let value = asked.get_mut("value").map_or(Value::Null, Value::take);
        let Some(key) = key(&asked) else { return no_key() };
        let mut recorded = self.recorded.lock().await;
        let Some((known, _)) = self.known(&mut recorded).await else { return away() };
        if let Some(first) = known.get(key) {
            return ("200 OK", json!({ "value": first }));
        }
        // From here on no model call is let through either, until this step is counted.
        let mut steps = self.door.meter.steps().await;
        match steps.has_room().await {
            Ok(true) => {}
            Ok(false) => return too_many(),
            Err(_) => return away(),
        }
        match self.mail.tell(self.to, (STEP, key), value.clone()).await {
            Ok(true) => {
                steps.take();
                known.insert(key.to_owned(), value.clone());
                ("200 OK", json!({ "value": value }))
            }
            Ok(false) => full(),
            Err(_) => away(),
        }
    }

    /// What was recorded, read once.
    async fn known<'a>(&self, recorded: &'a mut Option<Recorded>) -> Option<&'a mut Recorded> {
        if recorded.is_none() {
            let mut known = self.mail.told(self.to, STEP).await.ok()?;
            let answers = self.mail.told(self.to, LLM).await.ok()?;
            known.extend(answers.into_iter().map(|(key, value)| (answered(&key), value)));
            for name in steps::NAMES {
                let done = self.mail.told(self.to, name).await.ok()?;
                known.extend(done.into_iter().map(|(key, value)| (steps::place(name, &key), value)));
            }
            self.door.meter.steps().await.count(counted(&known));
            *recorded = Some((known, BTreeSet::new()));
        }
        recorded.as_mut()
    }
}

/// Where the answer of a model call stands: no step of a program has such a key.
fn answered(key: &str) -> String {
    format!("\0{key}")
}

/// Whether a run that keeps so much at most can keep one more, beside what was begun and will be told.
fn has_room(known: &BTreeMap<String, Value>, begun: &BTreeSet<String>, most: Kept) -> bool {
    let open = begun.iter().filter(|place| !known.contains_key(*place)).count();
    let bytes: usize = known.values().map(|value| value.to_string().len()).sum();
    ((known.len() + open) as u64) < most.count && (bytes as u64) < most.bytes
}

/// How many steps were recorded: model calls count when they are made.
fn counted(known: &BTreeMap<String, Value>) -> u64 {
    known.keys().filter(|key| !key.starts_with('\0')).count() as u64
}

pub(super) fn key(asked: &Value) -> Option<&str> {
    let key = asked.get("key").and_then(Value::as_str);
    key.filter(|key| (1..=KEY_MAX).contains(&key.len()) && !key.contains(['\0', '\u{1}']))
}

fn too_many() -> Answer {
    refused("409 Conflict", "too_many_steps", "the workload has as many steps as limits.max_steps says")
}

fn full() -> Answer {
    refused("409 Conflict", "steps_full", "the run keeps no more, or nothing as large as this")
}

fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LOG_MAX).collect()
}

pub(super) fn no_key() -> Answer {
    refused("400 Bad Request", "invalid_body", "a step has a key, of 1 to 200 bytes")
}

pub(super) fn away() -> Answer {
    refused("503 Service Unavailable", "unavailable", "the journal cannot be read or written now; ask again")
}

pub(super) fn refused(status: &'static str, code: &str, words: &str) -> Answer {
    (status, json!({ "code": code, "error": words }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_is_begun_that_the_run_could_not_keep() {
        let most = Kept { count: 3, bytes: 10 };
        for (known, begun, want) in [
            (&[][..], &[][..], true),
            (&[("a", 1)], &["b"], true),
            // What was begun and told counts once.
            (&[("a", 1)], &["a", "b"], true),
            (&[("a", 1)], &["b", "c"], false),
            (&[], &["b", "c", "d"], false),
            (&[("a", 1), ("b", 1), ("c", 1)], &[], false),
            (&[("a", 123_456_789)], &[], true),
            (&[("a", 1_234_567_890)], &[], false),
        ] {
            let known = known.iter().map(|(place, value)| ((*place).to_owned(), json!(value))).collect();
            let begun = begun.iter().map(|place| (*place).to_owned()).collect();
            assert_eq!(has_room(&known, &begun, most), want, "{known:?} {begun:?}");
        }
    }
}
