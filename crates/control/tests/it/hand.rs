//! A worker by hand: claims a run and gives it inputs one at a time, through the engine and the journal.

use std::sync::Arc;

use lantern_control::App;
use lantern_policy::Scope;

use crate::app::TestApp;
use lantern_engine::{
    Arrival, Context, Done, Event, Input, LlmAsk, Manifest, Run, StepId, Tally, approval, decide, event,
};
use lantern_store::inbox::Kept;
use lantern_store::journal::{self, Append, NewRun, Projection};
use lantern_store::record::{self, Record};
use lantern_store::seal::Place;
use lantern_store::{inbox, lease, versions};
use lantern_types::llm::{Finish, LlmReply, ToolUse, Usage};
use lantern_types::{
    AdmissionFacts, ChainHead, Digest, Dur, Failure, Grant, InboxId, MicroUsd, Price, PriceSource, ProcessId,
    Route, RunId,
};

/// A build that knows what this one does.
pub(crate) const READER: lease::Reader = lease::Reader { build: "by hand", format: lantern_engine::FORMAT };

pub(crate) struct Hand {
    app: App,
    scope: Scope,
    id: RunId,
    epoch: i64,
    version: i64,
    chain: ChainHead,
    run: Option<Run>,
    tally: Tally,
}

impl Hand {
    /// Takes a run of tenant `a`.
    pub(crate) async fn take(test: &TestApp, run: &str) -> Self {
        Self::of(test.app.clone(), test.a.scope, run).await
    }

    /// Takes a run in another process, say.
    pub(crate) async fn of(app: App, scope: Scope, run: &str) -> Self {
        let id = run.parse::<RunId>().unwrap();
        let process = ProcessId::from_uuid(app.ids.uuid());
        lease::register(&app.db, process, app.clock.now(), Dur::from_secs(86_400)).await.unwrap();
        let claimed = lease::look(&app.db, process, READER, app.clock.now(), 256).await.unwrap().claimed;
        let claimed = claimed.into_iter().find(|claimed| claimed.run == id).expect("the run is due");
        let (mut events, mut tally) = (Vec::new(), Tally::default());
        for stored in journal::read(&app.db, scope, id, 1, 1_000).await.unwrap() {
            let body = record::open(&app.vault, scope, id, &stored).await.unwrap();
            let appended = event::decode(&stored.bytes, body.as_deref()).unwrap();
            tally.append(&appended);
            events.extend(appended);
        }
        let head = journal::head(&app.db, scope, id).await.unwrap().unwrap();
        let version = versions::by_id(&app.db, scope, head.agent_version_id).await.unwrap().unwrap();
        let manifest: Manifest = serde_json::from_str(&version.manifest).unwrap();
        let run = Some(Run::fold(id, Arc::new(manifest), &events));
        let (epoch, version, chain) = (claimed.epoch, claimed.version, claimed.chain);
        Self { app, scope, id, epoch, version, chain, run, tally }
    }

    /// Starts the run that another run of tenant `a` went on as.
    pub(crate) async fn continues(test: &TestApp, before: &str, next: RunId) {
        let (app, scope, before) = (&test.app, test.a.scope, before.parse::<RunId>().unwrap());
        let row = journal::head(&app.db, scope, before).await.unwrap().unwrap();
        let first = journal::read(&app.db, scope, before, 1, 1).await.unwrap().remove(0);
        let body = record::open(&app.vault, scope, before, &first).await.unwrap();
        let events = event::decode(&first.bytes, body.as_deref()).unwrap();
        let plain = event::encode(&events[..1]).unwrap();
        let record = Record::seal(&app.vault, scope, (next, 1), ChainHead::genesis(), plain).await.unwrap();
        let version = versions::by_id(&app.db, scope, row.agent_version_id).await.unwrap().unwrap();
        let new = NewRun {
            parent: Some((before, String::new())),
            ..version.queued_run(next, record, app.clock.now())
        };
        let made = app.db.write(scope, move |tx| Box::pin(async move { journal::create(tx, new).await }));
        made.await.unwrap();
    }

    pub(crate) fn run(&self) -> &Run {
        self.run.as_ref().unwrap()
    }

    /// Decides on an input and appends what follows, admitting whatever asks for it.
    pub(crate) async fn give(&mut self, input: Input) {
        self.give_once(input, Vec::new()).await;
        while let Some(step) = self.run().awaiting_admission().map(|step| step.id.clone()) {
            self.give_once(Input::Admit { step, grant: Box::new(grant()) }, Vec::new()).await;
        }
    }

    /// Takes in what lies in the inbox.
    pub(crate) async fn drain(&mut self) -> usize {
        let app = self.app.clone();
        let (_, waiting) = inbox::list(&app.db, self.scope, self.id).await.unwrap();
        let count = waiting.len();
        for row in waiting {
            let place = Place { purpose: "inbox", row: row.id.bytes() };
            let plain = app.vault.sealer().open(self.scope, place, &row.input).await.unwrap();
            let arrival: Arrival = serde_json::from_slice(&plain).unwrap();
            self.give_once(Input::Arrived(arrival), vec![row.id]).await;
        }
        count
    }

    /// The model answers a step.
    pub(crate) async fn replies(&mut self, step: &str, text: &str) {
        self.replies_at_length(step, text, 5).await;
    }

    /// The same with so many completion tokens, after a prompt of ten.
    pub(crate) async fn replies_at_length(&mut self, step: &str, text: &str, tokens_out: u64) {
        let reply = LlmReply {
            content: text.to_owned(),
            tool_calls: Vec::new(),
            finish: Finish::Stop,
            usage: Some(Usage { tokens_in: 10, tokens_out }),
            model: "m".to_owned(),
        };
        self.performed(step, Ok(Done::Reply { reply, violations: Vec::new() })).await;
    }

    /// The model asks for tools in a step, and says this besides.
    pub(crate) async fn asks(&mut self, step: &str, text: &str, calls: &[(&str, serde_json::Value)]) {
        let call = |(n, (name, arguments)): (usize, &(&str, serde_json::Value))| ToolUse {
            id: format!("call-{n}"),
            name: (*name).to_owned(),
            arguments: arguments.to_string(),
            proof: None,
        };
        let reply = LlmReply {
            content: text.to_owned(),
            tool_calls: calls.iter().enumerate().map(call).collect(),
            finish: Finish::ToolCalls,
            usage: Some(Usage { tokens_in: 10, tokens_out: 5 }),
            model: "m".to_owned(),
        };
        self.performed(step, Ok(Done::Reply { reply, violations: Vec::new() })).await;
    }

    /// What the model is asked in a step.
    pub(crate) fn prompt(&self, step: &str) -> LlmAsk {
        lantern_engine::llm_ask(self.run(), self.run().step_named(step).unwrap()).unwrap()
    }

    /// A tool answers a step.
    pub(crate) async fn returns(&mut self, step: &str, output: serde_json::Value) {
        self.performed(step, Ok(Done::Output(output))).await;
    }

    /// Whatever was performed failed.
    pub(crate) async fn fails(&mut self, step: &str, failure: Failure) {
        self.performed(step, Err(failure)).await;
    }

    async fn performed(&mut self, step: &str, result: Result<Done, Failure>) {
        let step = StepId::new(step);
        let generation = self.run().step(&step).unwrap().generation;
        self.give(Input::Performed { step, generation, result }).await;
    }

    async fn give_once(&mut self, input: Input, drained: Vec<InboxId>) {
        let app = self.app.clone();
        let limits = app.limits.base();
        let context = Context {
            at: app.clock.now(),
            limits: &limits,
            tools: &app.tools,
            violations: |_, _| Vec::new(),
        };
        let decision = decide(self.run.take().unwrap(), input, &context);
        self.run = Some(decision.run);
        if !decision.events.is_empty() {
            self.append(&decision.events, drained).await;
        }
    }

    async fn append(&mut self, events: &[Event], drained: Vec<InboxId>) {
        let app = self.app.clone();
        let plain = event::encode(events).unwrap();
        let place = (self.id, self.version + 1);
        let record = Record::seal(&app.vault, self.scope, place, self.chain, plain).await.unwrap();
        self.chain = record.chain;
        let append = Append {
            run: self.id,
            epoch: self.epoch,
            expected_version: self.version,
            format: event::format(events),
            n: i64::try_from(events.len()).unwrap(),
            at: app.clock.now(),
            bytes: record.bytes,
            body: record.body,
            chain: record.chain,
            projection: projection(self.run()),
            drained,
            outbox: Vec::new(),
            approvals: approval::changes(self.run(), events),
            heeds_stops: false,
            halt: None,
            kept: Some(Kept { count: self.run().signals.len() as u64, bytes: self.run().signal_bytes }),
            used: self.tally.append(events),
        };
        self.version = journal::append(&app.db, self.scope, append).await.unwrap().version;
    }
}

fn projection(run: &Run) -> Projection {
    Projection {
        status: run.status().as_str(),
        spent: run.spent,
        held: run.held,
        tokens_in: i64::try_from(run.tokens_in).unwrap(),
        tokens_out: i64::try_from(run.tokens_out).unwrap(),
        started_at: Some(run.created_at),
        finished_at: run.finished_at,
        error_code: run.error.as_ref().map(|(code, ..)| code.clone()),
    }
}

fn grant() -> Grant {
    let price = Price { input: MicroUsd::from_micros(1_000_000), output: MicroUsd::from_micros(1_000_000) };
    let route = Route {
        provider: "p".into(),
        model: "m".into(),
        price,
        price_source: PriceSource::Catalogue,
        key: 0,
        why: None,
    };
    let digest = Digest::of(b"test");
    Grant {
        hold: MicroUsd::from_micros(1_000),
        route: Some(route),
        facts: AdmissionFacts::default(),
        policy: digest,
        catalogue: digest,
        limits: digest,
    }
}
