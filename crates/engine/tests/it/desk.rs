//! A desk to test runs at: one run, a clock that is moved by hand, and every event so far.

use std::sync::Arc;

use lantern_engine::{
    Arrival, Context, Done, Effect, Event, Fact, Forks, Input, Manifest, Recall, Run, Start, Status, StepId,
    decide, effects, event, reusable, start, wire,
};
use lantern_types::llm::{Finish, LlmReply, ToolUse, Usage};
use lantern_types::{
    AdmissionFacts, AgentId, At, Denial, Digest, Dur, EffectClass, Failure, Grant, Limits, MicroUsd, Price,
    PriceSource, Route, RunId, ToolDef, ToolName, VersionId,
};
use serde_json::{Value, json};

pub(crate) struct Desk {
    pub(crate) run: Option<Run>,
    pub(crate) events: Vec<Event>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) now: At,
    pub(crate) limits: Limits,
    tools: Vec<ToolDef>,
    manifest: Arc<Manifest>,
}

/// A schema in miniature: the required fields that are not there.
fn lacks(schema: &Value, value: &Value) -> Vec<String> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let names = required.iter().filter_map(Value::as_str).filter(|name| value.get(name).is_none());
    names.map(|name| format!("{name} is missing")).collect()
}

pub(crate) fn uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}

impl Desk {
    /// Starts a run of `manifest` with `input` and takes it as far as it goes by itself.
    pub(crate) fn open(manifest: Value, input: Value) -> Self {
        let mut desk = Self::closed(manifest, input, Limits::default());
        desk.give(Input::Wake);
        desk
    }

    /// Starts a run and nothing more.
    pub(crate) fn closed(manifest: Value, input: Value, limits: Limits) -> Self {
        let manifest = Arc::new(Manifest::parse(&manifest).unwrap());
        let begin = Start {
            agent: AgentId::from_uuid(uuid(7)),
            version: VersionId::from_uuid(uuid(8)),
            manifest: manifest.digest(),
            input: Arc::new(input),
            parent: None,
            depth: 0,
            continues: None,
            carried: None,
            recall: None,
            forks: None,
            trace: None,
            cap: MicroUsd::from_micros(1_000_000),
            policy: Digest::of(b"p"),
            catalogue: Digest::of(b"c"),
        };
        Self::begun(manifest, begin, RunId::from_uuid(uuid(9)), (At::from_micros(1_000_000_000), limits))
    }

    /// Starts a message in a session, in which this was said before, and takes it as far as it goes by itself.
    pub(crate) fn recalling(manifest: Value, input: Value, recall: Recall, limits: Limits) -> Self {
        let closed = Self::closed(manifest, input, limits);
        let begin = Start {
            agent: AgentId::from_uuid(uuid(7)),
            version: VersionId::from_uuid(uuid(8)),
            manifest: closed.manifest.digest(),
            input: closed.run().input.clone(),
            parent: None,
            depth: 0,
            continues: None,
            carried: None,
            recall: Some(Arc::new(recall)),
            forks: None,
            trace: None,
            cap: MicroUsd::from_micros(1_000_000),
            policy: Digest::of(b"p"),
            catalogue: Digest::of(b"c"),
        };
        let mut desk = Self::begun(
            closed.manifest.clone(),
            begin,
            RunId::from_uuid(uuid(9)),
            (closed.now, closed.limits),
        );
        desk.give(Input::Wake);
        desk
    }

    /// The run that this one went on as, at the same time and under the same limits.
    pub(crate) fn successor(&self) -> Self {
        let next = self.effects.iter().find_map(|effect| match effect {
            Effect::StartRun { run, parent, continues: Some(before), carried, input, cap, .. } => {
                let begin = Start {
                    agent: AgentId::from_uuid(uuid(7)),
                    version: VersionId::from_uuid(uuid(8)),
                    manifest: self.manifest.digest(),
                    input: Arc::new(input.clone()),
                    parent: Some(parent.clone()),
                    depth: 0,
                    continues: Some(*before),
                    carried: carried.clone(),
                    recall: None,
                    forks: None,
                    trace: None,
                    cap: *cap,
                    policy: Digest::of(b"p"),
                    catalogue: Digest::of(b"c"),
                };
                Some((begin, *run))
            }
            _ => None,
        });
        let (begin, run) = next.unwrap();
        Self::begun(self.manifest.clone(), begin, run, (self.now, self.limits.clone()))
    }

    /// A fork of this run from a step, taken as far as it goes by itself, perhaps by another version or asked something else.
    pub(crate) fn fork(&self, from: Option<&str>, manifest: Option<Value>, input: Option<Value>) -> Self {
        self.forked(from, manifest, input, (false, false))
    }

    /// A fork of this run from a step, in which what people decided before it holds.
    pub(crate) fn fork_as_decided(&self, from: &str) -> Self {
        self.forked(Some(from), None, None, (false, true))
    }

    /// A replay of this run.
    pub(crate) fn replay(&self) -> Self {
        self.forked(None, None, None, (true, false))
    }

    fn forked(
        &self,
        from: Option<&str>,
        manifest: Option<Value>,
        input: Option<Value>,
        (replay, decided): (bool, bool),
    ) -> Self {
        let manifest = manifest
            .map_or_else(|| self.manifest.clone(), |manifest| Arc::new(Manifest::parse(&manifest).unwrap()));
        let from = from.map(StepId::new);
        let steps = reusable(self.run(), from.as_ref()).unwrap();
        let begin = Start {
            agent: AgentId::from_uuid(uuid(7)),
            version: VersionId::from_uuid(uuid(8)),
            manifest: manifest.digest(),
            input: input.map_or_else(|| self.run().input.clone(), Arc::new),
            parent: None,
            depth: 0,
            continues: None,
            carried: self.run().carried.clone(),
            recall: self.run().recall.clone(),
            forks: Some((Forks { run: self.run().id, step: from, replay, decided }, steps.into())),
            trace: None,
            cap: MicroUsd::from_micros(1_000_000),
            policy: Digest::of(b"p"),
            catalogue: Digest::of(b"c"),
        };
        let later = self.now + Dur::from_secs(86_400);
        let mut desk = Self::begun(manifest, begin, RunId::from_uuid(uuid(10)), (later, self.limits.clone()));
        desk.give(Input::Wake);
        desk
    }

    fn begun(manifest: Arc<Manifest>, begin: Start, id: RunId, (now, limits): (At, Limits)) -> Self {
        let tools = [
            ("calc", EffectClass::Pure),
            ("pay", EffectClass::Irreversible),
            ("mail", EffectClass::Keyed),
            ("book", EffectClass::Reconcilable),
        ];
        let tools = tools
            .into_iter()
            .map(|(name, effect)| ToolDef {
                name: ToolName::parse(name).unwrap(),
                description: String::new(),
                input_schema: json!({"type": "object"}),
                effect,
            })
            .collect();
        let mut desk = Self {
            run: None,
            events: vec![],
            effects: vec![],
            now,
            limits,
            tools,
            manifest: manifest.clone(),
        };
        let run = Run::new(id, manifest);
        let decision = start(run, begin, &desk.context()).unwrap();
        desk.take(decision.run, decision.events);
        desk
    }

    fn context(&self) -> Context<'_> {
        Context { at: self.now, limits: &self.limits, tools: &self.tools, violations: lacks }
    }

    fn take(&mut self, run: Run, events: Vec<Event>) {
        self.effects.extend(events.iter().flat_map(|event| effects(&run, event)));
        self.events.extend(events);
        self.run = Some(run);
    }

    /// Gives an input, then admits whatever asks for admission, as the worker does. Returns the kinds of new events.
    pub(crate) fn give(&mut self, input: Input) -> Vec<&'static str> {
        let from = self.events.len();
        self.give_once(input);
        while let Some(step) = self.run().awaiting_admission().map(|step| step.id.clone()) {
            let grant = Box::new(grant(100));
            self.give_once(Input::Admit { step, grant });
        }
        self.events[from..].iter().map(|event| wire::kind(&event.fact)).collect()
    }

    pub(crate) fn give_once(&mut self, input: Input) {
        let run = self.run.take().unwrap();
        let decision = decide(run, input, &self.context());
        self.take(decision.run, decision.events);
        let (lines, body) = event::encode(&self.events).unwrap();
        let events = event::decode(&lines, body.as_deref()).unwrap();
        let folded = Run::fold(self.run().id, self.manifest.clone(), &events);
        assert!(folded == *self.run(), "the fold of the journal is the run");
    }

    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| wire::kind(&event.fact)).collect()
    }
    pub(crate) fn run(&self) -> &Run {
        self.run.as_ref().unwrap()
    }
    pub(crate) fn status(&self) -> Status {
        self.run().status()
    }
    pub(crate) fn output(&self) -> Value {
        self.run().output.as_deref().cloned().unwrap_or(Value::Null)
    }
    pub(crate) fn error_code(&self) -> &str {
        self.run().error.as_ref().map_or("", |(code, _, _)| code)
    }

    pub(crate) fn reply(&mut self, step: &str, text: &str) -> Vec<&'static str> {
        self.done(step, Done::Reply { reply: said(text, &[]), violations: vec![] })
    }
    pub(crate) fn asks(&mut self, step: &str, calls: &[(&str, Value)]) -> Vec<&'static str> {
        self.done(step, Done::Reply { reply: said("", calls), violations: vec![] })
    }
    pub(crate) fn returns(&mut self, step: &str, output: Value) -> Vec<&'static str> {
        self.done(step, Done::Output(output))
    }
    pub(crate) fn done(&mut self, step: &str, done: Done) -> Vec<&'static str> {
        let generation = self.run().step_named(step).map_or(1, |step| step.generation);
        self.give(Input::Performed { step: StepId::new(step), generation, result: Ok(done) })
    }
    pub(crate) fn fails(&mut self, step: &str, failure: Failure) -> Vec<&'static str> {
        let generation = self.run().step_named(step).map_or(1, |step| step.generation);
        self.give(Input::Performed { step: StepId::new(step), generation, result: Err(failure) })
    }
    pub(crate) fn denies(&mut self, step: &str, code: &str) {
        self.give_once(Input::Deny { step: StepId::new(step), denial: Denial::new(code, "because") });
    }
    pub(crate) fn arrives(&mut self, arrival: Arrival) -> Vec<&'static str> {
        self.give(Input::Arrived(arrival))
    }
    pub(crate) fn later(&mut self, secs: u64) -> Vec<&'static str> {
        self.now = self.now + Dur::from_secs(secs);
        self.give(Input::Wake)
    }
    /// Steps that the world was told to perform, in order.
    pub(crate) fn performed(&self) -> Vec<String> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Perform(step) => Some(step.to_string()),
                _ => None,
            })
            .collect()
    }
    pub(crate) fn last_grant_generation(&self, step: &str) -> u32 {
        self.events
            .iter()
            .rev()
            .find_map(|event| match &event.fact {
                Fact::StepAdmitted { step: id, generation, .. } if id.as_str() == step => Some(*generation),
                _ => None,
            })
            .unwrap_or(0)
    }
}

pub(crate) fn grant(hold: i64) -> Grant {
    let price = Price { input: MicroUsd::from_micros(1_000_000), output: MicroUsd::from_micros(1_000_000) };
    let route = Route {
        provider: "p".into(),
        model: "m".into(),
        price,
        price_source: PriceSource::Catalogue,
        key: 0,
        why: None,
    };
    let digest = Digest::of(b"x");
    Grant {
        hold: MicroUsd::from_micros(hold),
        route: Some(route),
        facts: AdmissionFacts::default(),
        policy: digest,
        catalogue: digest,
        limits: digest,
    }
}

pub(crate) fn said(text: &str, calls: &[(&str, Value)]) -> LlmReply {
    let tool_calls: Vec<ToolUse> = calls
        .iter()
        .enumerate()
        .map(|(n, (name, arguments))| ToolUse {
            id: format!("call-{n}"),
            name: (*name).into(),
            arguments: arguments.to_string(),
            proof: None,
        })
        .collect();
    LlmReply {
        content: text.into(),
        finish: if tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls },
        tool_calls,
        usage: Some(Usage { tokens_in: 10, tokens_out: 5 }),
        model: "m-1".into(),
    }
}
