//! What the events of a session's runs say to whoever is in the conversation: one pure, total map from events to frames.
//!
//! Invariant: the same events give the same frames, so that the id of a frame (its exchange, its run within it, its event, its
//! place) is the same on every connection and in every process. Kinds are the contract's; each `data` holds texts alone.

use std::collections::HashMap;

use lantern_engine::template::as_text;
use lantern_engine::{Content, Event, Fact, Outcome, ProgramKind, Reuse, StepKind, Work, user_text};
use lantern_types::{At, RunId, SessionId};
use serde_json::{Map, Value, json};

/// A tool's result is told up to here, in characters; the whole of it is in the run's journal.
const RESULT_CHARS_MAX: usize = 2_000;

/// The first frame of a connection, about which nothing happened.
pub(super) const CONNECTED: &str = "connected";

/// One frame, but for its id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) kind: &'static str,
    pub(super) data: Map<String, Value>,
    pub(super) at: At,
}

impl Told {
    pub(super) fn new(kind: &'static str, at: At, data: &[(&str, &str)]) -> Self {
        let data = data.iter().map(|(name, text)| ((*name).to_owned(), Value::from(*text))).collect();
        Self { kind, data, at }
    }

    fn and(mut self, name: &str, text: impl Into<String>) -> Self {
        self.data.insert(name.to_owned(), Value::String(text.into()));
        self
    }

    /// A text of its data; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.data.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The frame's `data:` line.
    pub(super) fn json(&self) -> Value {
        if self.kind == CONNECTED {
            return json!({ "type": self.kind, "data": self.data });
        }
        json!({ "type": self.kind, "data": self.data, "timestamp": self.at.to_string() })
    }
}

/// Where a frame stands in its session: in order, and as one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Which exchange, from 1.
    pub(super) exchange: u32,
    /// Which run of it: the message's, then those that it went on as.
    pub(super) leg: u32,
    /// Which event of that.
    pub(super) seq: u64,
    /// Which frame of that, from 1.
    pub(super) n: u32,
}

const LEG_BITS: u32 = 10;
const SEQ_BITS: u32 = 28;
const N_BITS: u32 = 4;

impl Position {
    pub(super) const fn id(self) -> u64 {
        let above = (self.exchange as u64) << LEG_BITS | self.leg as u64 & ((1 << LEG_BITS) - 1);
        let within = self.seq & ((1 << SEQ_BITS) - 1);
        (above << SEQ_BITS | within) << N_BITS | self.n as u64 & ((1 << N_BITS) - 1)
    }

    /// The exchange that the frame of this id is of.
    pub(super) fn exchange_of(id: u64) -> u32 {
        u32::try_from(id >> (LEG_BITS + SEQ_BITS + N_BITS)).unwrap_or(u32::MAX)
    }
}

/// What is known of an exchange while its events are told.
pub(super) struct Teller {
    session: SessionId,
    run: RunId,
    program: ProgramKind,
    tools: HashMap<String, (String, String)>,
    models: HashMap<String, (String, String)>,
    /// The run that this one went on as.
    pub(super) next: Option<RunId>,
    /// Whether the exchange is over.
    pub(super) over: bool,
}

impl Teller {
    pub(super) fn new(session: SessionId, run: RunId) -> Self {
        let (tools, models) = (HashMap::new(), HashMap::new());
        Self { session, run, program: ProgramKind::Agent, tools, models, next: None, over: false }
    }

    /// What an event says; nothing when it is nobody's business here.
    pub(super) fn take(&mut self, event: &Event) -> Vec<Told> {
        let at = event.at;
        let content = event.content.as_ref();
        let told = |kind, data: &[(&str, &str)]| Told::new(kind, at, data);
        match &event.fact {
            Fact::RunStarted { program, continues, recall, .. } => {
                self.program = *program;
                if continues.is_some() {
                    return Vec::new();
                }
                let said = self.asked(event).map(|said| match recall {
                    Some(recall) if recall.dropped > 0 => said.and("dropped", recall.dropped.to_string()),
                    _ => said,
                });
                return said.into_iter().collect();
            }
            Fact::StepRequested { step, kind, .. } => {
                if let Some(Content::Work(Work::Tool { name, arguments, .. })) = content {
                    let asked = (name.as_str().to_owned(), arguments.to_string());
                    self.tools.insert(step.as_str().to_owned(), asked);
                }
                if *kind == StepKind::Llm {
                    return vec![self.thinking(at, "thinking", step.as_str())];
                }
            }
            Fact::StepAdmitted { step, grant, .. } => {
                let step = step.as_str();
                if let (Some(route), false) = (&grant.route, self.tools.contains_key(step)) {
                    self.models.insert(step.to_owned(), (route.provider.clone(), route.model.clone()));
                }
                return self
                    .attempt(at, step)
                    .or_else(|| self.call(at, "agent.tool_call_started", step))
                    .into_iter()
                    .collect();
            }
            Fact::StepReissued { step, .. } => return self.attempt(at, step.as_str()).into_iter().collect(),
            Fact::StepRetrying { step, code, .. } => {
                return self.attempt_failed(at, step.as_str(), &trouble(code, content)).into_iter().collect();
            }
            Fact::StepDenied { step, code, reason, .. } => {
                return self.failed(at, step.as_str(), &format!("{code}: {reason}"));
            }
            Fact::StepFailed { step, code, .. } => {
                return self.failed(at, step.as_str(), &trouble(code, content));
            }
            Fact::StepReused { step, end: Reuse::Failed, code, .. } => {
                let code = code.as_deref().unwrap_or("failed");
                return self.failed(at, step.as_str(), &trouble(code, content));
            }
            Fact::StepAbandoned { step, code, .. } => return self.failed(at, step.as_str(), code),
            Fact::StepSettled { step, .. } | Fact::StepReused { step, .. } => {
                return self.settled(at, step.as_str(), content).into_iter().collect();
            }
            Fact::ApprovalAsked { step, .. } => {
                return vec![self.thinking(at, "waiting_for_approval", step.as_str())];
            }
            Fact::StepInDoubt { step, .. } => return vec![self.thinking(at, "in_doubt", step.as_str())],
            Fact::Paused { .. } => return vec![told("agent.thinking", &[("status", "paused")])],
            Fact::Resumed { .. } => return vec![told("agent.thinking", &[("status", "resumed")])],
            Fact::ContinuedAsNew { run } => self.next = Some(*run),
            Fact::Finished { outcome, code, .. } if self.next.is_none() => {
                return self.finished(event, *outcome, code.as_deref());
            }
            _ => {}
        }
        Vec::new()
    }

    /// The end of an exchange whose run ended in its row alone.
    pub(super) fn ended(&mut self, at: At, status: &str, code: Option<&str>) -> Told {
        self.over = true;
        let idle =
            Told::new("session.status_idle", at, &[("status", status), ("runId", &self.run.to_string())]);
        match code {
            Some(code) => idle.and("code", code),
            None => idle,
        }
    }

    fn asked(&self, event: &Event) -> Option<Told> {
        let input = event.content.as_ref().and_then(Content::input)?;
        let content =
            input.get("message").and_then(Value::as_str).map_or_else(|| user_text(input), str::to_owned);
        let (at, run) = (event.at.to_string(), self.run.to_string());
        let said = [("content", content.as_str()), ("timestamp", at.as_str()), ("runId", run.as_str())];
        let said = Told::new("user.message", event.at, &said);
        let names: Vec<&str> = input
            .get("attachments")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|attachment| attachment.get("name").and_then(Value::as_str))
            .collect();
        Some(if names.is_empty() { said } else { said.and("attachments", names.join(", ")) })
    }

    fn thinking(&self, at: At, status: &str, step: &str) -> Told {
        let run = self.run.to_string();
        Told::new("agent.thinking", at, &[("status", status), ("step", step), ("runId", &run)])
    }

    fn attempt(&self, at: At, step: &str) -> Option<Told> {
        let (provider, model) = self.models.get(step)?;
        Some(Told::new("agent.llm_attempt", at, &[("provider", provider), ("model", model), ("step", step)]))
    }

    fn attempt_failed(&self, at: At, step: &str, error: &str) -> Option<Told> {
        let attempt = self.attempt(at, step)?;
        Some(Told { kind: "agent.llm_attempt_failed", ..attempt.and("error", error) })
    }

    fn call(&self, at: At, kind: &'static str, step: &str) -> Option<Told> {
        let (name, args) = self.tools.get(step)?;
        Some(Told::new(kind, at, &[("name", name), ("args", args), ("step", step)]))
    }

    fn failed(&self, at: At, step: &str, error: &str) -> Vec<Told> {
        let call = self.call(at, "agent.tool_call_failed", step).map(|told| told.and("error", error));
        call.or_else(|| self.attempt_failed(at, step, error)).into_iter().collect()
    }

    fn settled(&self, at: At, step: &str, content: Option<&Content>) -> Option<Told> {
        match content {
            Some(Content::Reply { reply, .. })
                if self.program == ProgramKind::Agent && !reply.content.is_empty() =>
            {
                Some(self.message(at, &reply.content).and("step", step))
            }
            Some(Content::Output(output)) => {
                let told = self.call(at, "agent.tool_call_completed", step)?;
                Some(told.and("result", cut(&as_text(output))))
            }
            _ => None,
        }
    }

    fn message(&self, at: At, content: &str) -> Told {
        let (when, session, run) = (at.to_string(), self.session.to_string(), self.run.to_string());
        Told::new(
            "agent.message",
            at,
            &[("content", content), ("timestamp", &when), ("sessionId", &session), ("runId", &run)],
        )
    }

    fn finished(&mut self, event: &Event, outcome: Outcome, code: Option<&str>) -> Vec<Told> {
        let at = event.at;
        let mut told = Vec::new();
        if let (ProgramKind::Steps, Some(Content::Output(output))) = (self.program, &event.content) {
            told.push(self.message(at, &as_text(output)));
        }
        let (status, code) = match outcome {
            Outcome::Succeeded => ("succeeded", None),
            Outcome::Failed => ("failed", code),
            Outcome::Cancelled => ("cancelled", code),
        };
        let idle = self.ended(at, status, code);
        told.push(match &event.content {
            Some(Content::Error(words) | Content::Reason(words)) if !words.is_empty() => {
                idle.and("error", words)
            }
            _ => idle,
        });
        told
    }
}

fn trouble(code: &str, content: Option<&Content>) -> String {
    match content {
        Some(Content::Error(words)) if !words.is_empty() => format!("{code}: {words}"),
        _ => code.to_owned(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(RESULT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use lantern_engine::StepId;
    use lantern_engine::event::Continues;
    use lantern_types::llm::{Finish, LlmReply};
    use lantern_types::{
        Acted, AdmissionFacts, AgentId, DEV_TENANT, Digest, EffectClass, Grant, MicroUsd, Price, PriceSource,
        Route, VersionId,
    };

    fn run(n: u128) -> RunId {
        RunId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn step(name: &str) -> StepId {
        StepId::new(name)
    }

    fn started(program: ProgramKind, continues: bool) -> Fact {
        let digest = Digest::of(b"x");
        Fact::RunStarted {
            agent: AgentId::from_uuid(DEV_TENANT.uuid()),
            version: VersionId::from_uuid(DEV_TENANT.uuid()),
            manifest: digest,
            program,
            parent: None,
            depth: 0,
            continues: continues.then_some(Continues { run: run(1), count: 1, spent: MicroUsd::ZERO }),
            forks: None,
            trace: None,
            recall: Some(lantern_engine::Recalled { exchanges: 3, dropped: 2, images_dropped: 0 }),
            cap: MicroUsd::ZERO,
            deadline: None,
            policy: digest,
            catalogue: digest,
            limits: digest,
        }
    }

    fn requested(name: &str, kind: StepKind) -> Fact {
        Fact::StepRequested {
            step: step(name),
            kind,
            name: None,
            parent: None,
            effect: EffectClass::Pure,
            due: None,
            request: Digest::of(b"x"),
            tools: None,
            approval: false,
        }
    }

    fn admitted(name: &str, routed: bool) -> Fact {
        let price = Price { input: MicroUsd::ZERO, output: MicroUsd::ZERO };
        let (provider, model) = ("lab".to_owned(), "small".to_owned());
        let route = Route { provider, model, price, price_source: PriceSource::Catalogue, key: 0, why: None };
        let digest = Digest::of(b"x");
        let grant = Grant {
            hold: MicroUsd::ZERO,
            route: routed.then_some(route),
            facts: AdmissionFacts::default(),
            policy: digest,
            catalogue: digest,
            limits: digest,
        };
        Fact::StepAdmitted { step: step(name), generation: 1, attempt: 1, grant }
    }

    fn settled(name: &str, kind: StepKind) -> Fact {
        Fact::StepSettled {
            step: step(name),
            kind,
            name: None,
            generation: 1,
            attempt: 1,
            cost: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            claimed: None,
            output: Digest::of(b"x"),
            provider: None,
            model: None,
        }
    }

    fn failed(name: &str, kind: StepKind) -> Fact {
        Fact::StepFailed {
            step: step(name),
            kind,
            name: None,
            generation: 1,
            attempt: 1,
            code: "broke".to_owned(),
            acted: Acted::No,
            cost: MicroUsd::ZERO,
            unconfirmed: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            owing: false,
            tells_by: None,
        }
    }

    fn retrying(name: &str) -> Fact {
        Fact::StepRetrying {
            step: step(name),
            generation: 2,
            attempt: 2,
            code: "busy".to_owned(),
            acted: Acted::No,
            due: At::from_micros(9),
            crashed: false,
            cost: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            unconfirmed: MicroUsd::ZERO,
            readmit: false,
        }
    }

    fn finished(outcome: Outcome, code: Option<&str>) -> Fact {
        Fact::Finished { outcome, code: code.map(str::to_owned), step: None, output: None }
    }

    fn reply(text: &str) -> Content {
        let reply = LlmReply {
            content: text.to_owned(),
            tool_calls: Vec::new(),
            finish: Finish::Stop,
            usage: None,
            model: "small".to_owned(),
        };
        Content::Reply { reply, violations: Vec::new() }
    }

    fn calc(n: u32) -> Content {
        let (name, arguments) =
            (lantern_types::ToolName::parse("calc").unwrap(), Arc::new(json!({ "n": n })));
        Content::Work(Work::Tool { name, arguments, call: None })
    }

    /// The frames of these events, each as its type and what it holds besides ids and times.
    fn told(teller: &mut Teller, events: Vec<(Fact, Option<Content>)>) -> Vec<String> {
        let mut lines = Vec::new();
        for (seq, (fact, content)) in (1..).zip(events) {
            for told in teller.take(&Event { seq, at: At::from_micros(7), fact, content }) {
                let mut data = told.data.clone();
                data.retain(|name, _| !["runId", "sessionId", "timestamp", "step"].contains(&name.as_str()));
                lines.push(format!("{} {}", told.kind, Value::Object(data)));
            }
        }
        lines
    }

    fn teller() -> Teller {
        Teller::new(SessionId::from_uuid(DEV_TENANT.uuid()), run(1))
    }

    #[test]
    fn what_an_agent_does_is_told_in_the_contracts_words() {
        let asked = json!({"message": "hi", "attachments": [{"name": "a.txt"}, {"name": "b.png"}]});
        let output = |text: String| Some(Content::Output(Arc::new(Value::String(text))));
        let error = || Some(Content::Error("in words".to_owned()));
        let events = vec![
            (started(ProgramKind::Agent, false), Some(Content::Input(Arc::new(asked)))),
            (requested("llm-1", StepKind::Llm), None),
            (admitted("llm-1", true), None),
            (retrying("llm-1"), error()),
            (admitted("llm-1", true), None),
            (Fact::StepReissued { step: step("llm-1"), generation: 1, attempt: 2 }, None),
            (settled("llm-1", StepKind::Llm), Some(reply("let me see"))),
            (requested("llm-1.tool-1", StepKind::Tool), Some(calc(1))),
            (Fact::ApprovalAsked { step: step("llm-1.tool-1"), due: At::from_micros(9) }, None),
            (Fact::ApprovalGranted { step: step("llm-1.tool-1"), by: "ada".to_owned() }, None),
            (admitted("llm-1.tool-1", false), None),
            (retrying("llm-1.tool-1"), error()),
            (settled("llm-1.tool-1", StepKind::Tool), output("é".repeat(3_000))),
            (requested("llm-1.tool-2", StepKind::Tool), Some(calc(2))),
            (
                Fact::StepDenied {
                    step: step("llm-1.tool-2"),
                    code: "no".to_owned(),
                    reason: "because".to_owned(),
                    grounds: None,
                },
                None,
            ),
            (requested("llm-1.tool-3", StepKind::Tool), Some(calc(3))),
            (admitted("llm-1.tool-3", false), None),
            (failed("llm-1.tool-3", StepKind::Tool), error()),
            (requested("llm-2", StepKind::Llm), None),
            (admitted("llm-2", true), None),
            (failed("llm-2", StepKind::Llm), error()),
            (Fact::Paused { by: "ada".to_owned() }, None),
            (Fact::Resumed { by: "ada".to_owned() }, None),
            (finished(Outcome::Failed, Some("broke")), error()),
        ];
        let mut teller = teller();
        let lines = told(&mut teller, events);
        let long = "é".repeat(2_000);
        let want = [
            r#"user.message {"attachments":"a.txt, b.png","content":"hi","dropped":"2"}"#,
            r#"agent.thinking {"status":"thinking"}"#,
            r#"agent.llm_attempt {"model":"small","provider":"lab"}"#,
            r#"agent.llm_attempt_failed {"error":"busy: in words","model":"small","provider":"lab"}"#,
            r#"agent.llm_attempt {"model":"small","provider":"lab"}"#,
            r#"agent.llm_attempt {"model":"small","provider":"lab"}"#,
            r#"agent.message {"content":"let me see"}"#,
            r#"agent.thinking {"status":"waiting_for_approval"}"#,
            r#"agent.tool_call_started {"args":"{\"n\":1}","name":"calc"}"#,
            &format!(r#"agent.tool_call_completed {{"args":"{{\"n\":1}}","name":"calc","result":"{long}"}}"#),
            r#"agent.tool_call_failed {"args":"{\"n\":2}","error":"no: because","name":"calc"}"#,
            r#"agent.tool_call_started {"args":"{\"n\":3}","name":"calc"}"#,
            r#"agent.tool_call_failed {"args":"{\"n\":3}","error":"broke: in words","name":"calc"}"#,
            r#"agent.thinking {"status":"thinking"}"#,
            r#"agent.llm_attempt {"model":"small","provider":"lab"}"#,
            r#"agent.llm_attempt_failed {"error":"broke: in words","model":"small","provider":"lab"}"#,
            r#"agent.thinking {"status":"paused"}"#,
            r#"agent.thinking {"status":"resumed"}"#,
            r#"session.status_idle {"code":"broke","error":"in words","status":"failed"}"#,
        ];
        assert_eq!(lines, want);
        assert!(teller.over);
    }

    #[test]
    fn an_exchange_goes_on_where_its_run_does() {
        let mut teller = teller();
        let input = || Some(Content::Input(Arc::new(json!({"message": "hi"}))));
        let first = vec![
            (started(ProgramKind::Agent, false), input()),
            (Fact::ContinuedAsNew { run: run(2) }, None),
            (finished(Outcome::Succeeded, None), None),
        ];
        assert_eq!(told(&mut teller, first), [r#"user.message {"content":"hi","dropped":"2"}"#]);
        assert_eq!((teller.next.take(), teller.over), (Some(run(2)), false));
        let second = vec![
            (started(ProgramKind::Agent, true), input()),
            (requested("llm-9", StepKind::Llm), None),
            (settled("llm-9", StepKind::Llm), Some(reply("done"))),
            (finished(Outcome::Succeeded, None), None),
        ];
        let want = [
            r#"agent.thinking {"status":"thinking"}"#,
            r#"agent.message {"content":"done"}"#,
            r#"session.status_idle {"status":"succeeded"}"#,
        ];
        assert_eq!(told(&mut teller, second), want);
    }

    #[test]
    fn a_list_of_steps_says_what_it_came_to() {
        let output = Content::Output(Arc::new(json!({"steps": {"a": 1}})));
        let events = vec![
            (started(ProgramKind::Steps, false), Some(Content::Input(Arc::new(json!("plain"))))),
            (requested("a", StepKind::Llm), None),
            (admitted("a", true), None),
            (settled("a", StepKind::Llm), Some(reply("inner"))),
            (finished(Outcome::Succeeded, None), Some(output)),
        ];
        let want = [
            r#"user.message {"content":"plain","dropped":"2"}"#,
            r#"agent.thinking {"status":"thinking"}"#,
            r#"agent.llm_attempt {"model":"small","provider":"lab"}"#,
            r#"agent.message {"content":"{\"steps\":{\"a\":1}}"}"#,
            r#"session.status_idle {"status":"succeeded"}"#,
        ];
        assert_eq!(told(&mut teller(), events), want);
    }

    #[test]
    fn a_frame_is_data_alone_and_its_place_is_its_order() {
        let told = Told::new("agent.thinking", At::from_micros(0), &[("status", "thinking")]);
        let want = json!({"type": "agent.thinking", "data": {"status": "thinking"}, "timestamp": "1970-01-01T00:00:00Z"});
        assert_eq!(told.json(), want);
        assert_eq!(
            Told::new(CONNECTED, At::from_micros(0), &[]).json(),
            json!({"type": "connected", "data": {}})
        );
        let place = |exchange, leg, seq, n| Position { exchange, leg, seq, n };
        let places = [
            place(1, 0, 1, 1),
            place(1, 0, 1, 2),
            place(1, 0, 2, 1),
            place(1, 1, 1, 1),
            place(1, 1_000, 1, 1),
            place(2, 0, 1, 1),
            place(1 << 20, 1_000, 1 << 27, 15),
        ];
        assert!(places.is_sorted());
        let ids: Vec<u64> = places.iter().map(|place| place.id()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| i64::try_from(*id).is_ok()), "{ids:?}");
        let exchanges: Vec<u32> = ids.iter().map(|id| Position::exchange_of(*id)).collect();
        assert_eq!(exchanges, [1, 1, 1, 1, 1, 2, 1 << 20]);
    }
}
