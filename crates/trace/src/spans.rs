//! The fold from a run's events to its spans.
//!
//! A span is given out by the event that ends it, so whoever has read a journal up to some event has had all spans that were
//! over by then. An attempt begins with its admission, or when it is sent again, and ends with the next word about its step: each is a
//! span of its own under the run's, or under the map or race that its step belongs to.

use std::collections::HashMap;

use lantern_engine::{Event, Fact, Outcome, Parent, StepId, StepKind, span_of};
use lantern_types::{At, Grant, MicroUsd, Route, RunId, SessionId, SpanId, TenantId, TraceId, TraceParent};

use crate::names;
use crate::span::{Attribute, Kind, Span};

/// What spans say of a run that its events do not.
#[derive(Clone, Debug)]
pub struct About {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its id.
    pub run: RunId,
    /// Its agent's name when it started.
    pub agent: String,
    /// The conversation that it belongs to.
    pub session: Option<SessionId>,
}

/// The spans of one run, as far as its journal was read.
#[derive(Clone, Debug)]
pub struct Spans {
    about: About,
    /// How the run began; `None` before it did.
    begun: Option<Begun>,
    /// Steps that are not over, and maps and races for as long as the run goes on.
    steps: HashMap<StepId, Asked>,
    /// What it cost so far.
    used: Used,
    over: bool,
    given: Vec<Span>,
}

#[derive(Clone, Debug)]
struct Begun {
    at: At,
    under: Option<TraceParent>,
    link: Option<(TraceId, SpanId)>,
    attributes: Vec<(&'static str, Attribute)>,
}

/// A step.
#[derive(Clone, Debug)]
struct Asked {
    kind: StepKind,
    name: Option<String>,
    parent: Option<StepId>,
    at: At,
    /// Where it goes, and how long an answer it wants, as it was admitted last.
    route: Option<Route>,
    max_tokens: u32,
    open: Option<Attempt>,
    doubt: bool,
    /// Since when people are asked, by which event and what.
    question: Option<(At, u64, &'static str)>,
}

/// An attempt that is under way.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: u32,
    generation: u32,
    at: At,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cost: MicroUsd,
    unconfirmed: MicroUsd,
    tokens_in: u64,
    tokens_out: u64,
}

/// How an attempt ended.
#[derive(Clone, Debug, Default)]
struct End<'a> {
    used: Used,
    error: Option<&'a str>,
    abandoned: Option<&'a str>,
    model: Option<&'a str>,
    provider: Option<&'a str>,
}

impl Spans {
    /// None yet.
    pub fn of(about: About) -> Self {
        Self {
            about,
            begun: None,
            steps: HashMap::new(),
            used: Used::default(),
            over: false,
            given: Vec::new(),
        }
    }

    /// Whether its trace is kept, as far as whoever started the run said.
    pub fn sampled(&self) -> bool {
        self.begun.as_ref().and_then(|begun| begun.under).is_none_or(|under| under.sampled)
    }

    /// The spans that this event ends.
    pub fn event(&mut self, event: &Event) -> Vec<Span> {
        self.read(event);
        std::mem::take(&mut self.given)
    }

    /// The spans that are over because the run was ended in its row, without an event.
    pub fn given_up(&mut self, at: At, code: Option<&str>) -> Vec<Span> {
        self.over(at, "failed", Some(code.unwrap_or("failed")));
        std::mem::take(&mut self.given)
    }

    fn read(&mut self, Event { seq, at, fact, .. }: &Event) {
        let (seq, at) = (*seq, *at);
        match fact {
            Fact::RunStarted { .. } => self.started(at, fact),
            Fact::StepRequested { step, kind, name, parent, .. } => {
                let asked = Asked {
                    kind: *kind,
                    name: name.clone(),
                    parent: parent.clone(),
                    at,
                    route: None,
                    max_tokens: 0,
                    open: None,
                    doubt: false,
                    question: None,
                };
                self.steps.insert(step.clone(), asked);
            }
            Fact::StepAdmitted { step, generation, attempt, grant } => {
                self.opened(step, at, (*attempt, *generation), Some(grant));
            }
            Fact::StepReissued { step, generation, attempt } => {
                self.opened(step, at, (*attempt, *generation), None);
            }
            Fact::StepDenied { step, code, .. } => {
                self.ended(step, (at, seq), &End { error: Some(code), ..End::default() }, true);
            }
            Fact::StepSettled { step, cost, tokens_in, tokens_out, provider, model, .. } => {
                let used = used(*cost, MicroUsd::ZERO, *tokens_in, *tokens_out);
                let (provider, model) = (provider.as_deref(), model.as_deref());
                self.ended(step, (at, seq), &End { used, model, provider, ..End::default() }, true);
            }
            Fact::StepReused { step, code, .. } => self.reused(step, (at, seq), code.as_deref()),
            Fact::StepFailed { step, code, cost, unconfirmed, tokens_in, tokens_out, .. } => {
                let used = used(*cost, *unconfirmed, *tokens_in, *tokens_out);
                self.ended(step, (at, seq), &End { used, error: Some(code), ..End::default() }, true);
            }
            Fact::StepRetrying { step, code, cost, unconfirmed, tokens_in, tokens_out, .. } => {
                let used = used(*cost, *unconfirmed, *tokens_in, *tokens_out);
                self.ended(step, (at, seq), &End { used, error: Some(code), ..End::default() }, false);
            }
            Fact::StepAbandoned { step, code, cost, unconfirmed, .. } => {
                let used = used(*cost, *unconfirmed, 0, 0);
                self.ended(step, (at, seq), &End { used, abandoned: Some(code), ..End::default() }, true);
            }
            Fact::StepCharged { cost, unconfirmed, .. } => {
                self.used.add(used(*cost, *unconfirmed, 0, 0));
            }
            Fact::StepInDoubt { step, .. } => {
                if let Some(step) = self.steps.get_mut(step) {
                    step.doubt = true;
                }
            }
            Fact::ApprovalAsked { step, .. } => self.asks(step, (at, seq), "approval"),
            Fact::ApprovalGranted { step, .. } => self.answered(step, at, "granted"),
            Fact::ApprovalDenied { step, by } => {
                self.answered(step, at, if by.is_empty() { "expired" } else { "denied" });
            }
            Fact::CapAsked { step, .. } => self.asks(step, (at, seq), "budget"),
            Fact::CapAnswered { step, .. } => self.answered(step, at, "answered"),
            Fact::CallMetered { .. } => self.metered((at, seq), fact),
            Fact::Finished { outcome, code, .. } => {
                let status = match outcome {
                    Outcome::Succeeded => "succeeded",
                    Outcome::Failed => "failed",
                    Outcome::Cancelled => "cancelled",
                };
                let failed = *outcome == Outcome::Failed;
                self.over(at, status, failed.then(|| code.as_deref().unwrap_or(status)));
            }
            Fact::StepReadmitted { .. }
            | Fact::StepResolved { .. }
            | Fact::SignalReceived { .. }
            | Fact::CancelRequested { .. }
            | Fact::Paused { .. }
            | Fact::Resumed { .. }
            | Fact::Halted { .. }
            | Fact::StopLifted { .. }
            | Fact::ProgressBlocked { .. }
            | Fact::ContinuedAsNew { .. }
            | Fact::RunEnding { .. } => {}
        }
    }

    fn started(&mut self, at: At, fact: &Fact) {
        let Fact::RunStarted { agent, version, parent, continues, forks, trace, .. } = fact else { return };
        let mut attributes: Vec<(&'static str, Attribute)> = vec![
            (names::OPERATION, names::INVOKE_AGENT.into()),
            (names::AGENT_ID, agent.to_string().into()),
            (names::VERSION, version.to_string().into()),
        ];
        let above = parent.as_ref().map(|Parent { run, .. }| run.to_string());
        attributes.extend(above.map(|run| (names::PARENT_RUN, run.into())));
        attributes.extend(continues.map(|before| (names::CONTINUES_RUN, before.run.to_string().into())));
        attributes.extend(forks.as_ref().map(|forks| (names::FORKS_RUN, forks.run.to_string().into())));
        let link = continues.map(|before| {
            (
                trace.map_or_else(|| TraceId::of_run(before.run), |trace| trace.trace),
                SpanId::of_run(before.run),
            )
        });
        self.begun = Some(Begun { at, under: *trace, link, attributes });
    }

    fn opened(&mut self, id: &StepId, at: At, (number, generation): (u32, u32), grant: Option<&Grant>) {
        let Some(step) = self.steps.get(id) else { return };
        // Nobody told how the one before ended: it was sent by a process that died.
        let crashed = step.open.map(|before| self.attempt(id, step, before, at, &CRASHED));
        self.given.extend(crashed);
        let Some(step) = self.steps.get_mut(id) else { return };
        // What is sent again goes where it was admitted to.
        if let Some(grant) = grant {
            step.route.clone_from(&grant.route);
            step.max_tokens = grant.facts.max_tokens;
        }
        step.doubt = false;
        step.open = Some(Attempt { number, generation, at });
    }

    /// Ends what is under way of a step; `last` when nothing of it follows.
    fn ended(&mut self, id: &StepId, (at, seq): (At, u64), end: &End<'_>, last: bool) {
        self.used.add(end.used);
        let Some(step) = self.steps.get(id) else { return };
        let span = match step.open {
            Some(attempt) => Some(self.attempt(id, step, attempt, at, end)),
            // It was never sent: it waited, or was refused.
            None if last && is_wait(step.kind) => {
                let waited = Attempt { number: 0, generation: 0, at: step.at };
                Some(self.attempt(id, step, waited, at, end))
            }
            None if last && end.error.is_some() => {
                let refused = Attempt { number: 0, generation: 0, at: step.at };
                let span = self.attempt(id, step, refused, at, end);
                Some(Span { id: SpanId::of_event(self.about.run, seq), ..span })
            }
            None => None,
        };
        self.given.extend(span);
        let is_group = matches!(step.kind, StepKind::Map | StepKind::Race);
        if last && !is_group {
            self.steps.remove(id);
        } else if let Some(step) = self.steps.get_mut(id) {
            step.open = None;
            step.doubt = false;
        }
    }

    fn reused(&mut self, id: &StepId, (at, _): (At, u64), code: Option<&str>) {
        let Some(step) = self.steps.get(id) else { return };
        let then = Attempt { number: 0, generation: 0, at };
        let mut span = self.attempt(id, step, then, at, &End { error: code, ..End::default() });
        span.attributes.push((names::REUSED, true.into()));
        self.given.push(span);
        if !matches!(step.kind, StepKind::Map | StepKind::Race) {
            self.steps.remove(id);
        }
    }

    fn asks(&mut self, id: &StepId, (at, seq): (At, u64), what: &'static str) {
        if let Some(step) = self.steps.get_mut(id)
            // A step that is itself a question has a span already.
            && step.kind != StepKind::Approval
        {
            step.question = Some((at, seq, what));
        }
    }

    fn answered(&mut self, id: &StepId, at: At, answer: &'static str) {
        let asked = self.steps.get_mut(id).and_then(|step| step.question.take());
        let (Some((since, seq, what)), Some(step)) = (asked, self.steps.get(id)) else { return };
        let mut attributes = self.common(Some(id));
        attributes.extend([(names::ASKED, what.into()), (names::ANSWER, answer.into())]);
        let span = Span {
            id: SpanId::of_event(self.about.run, seq),
            parent: Some(self.above(step)),
            attributes,
            ..self.span("ask_person".to_owned(), Kind::Internal, (since, at))
        };
        self.given.push(span);
    }

    /// A call of a program that the run has under way. When it began nobody told.
    fn metered(&mut self, (at, seq): (At, u64), fact: &Fact) {
        let Fact::CallMetered { provider, model, cost, tokens_in, tokens_out, lost, .. } = fact else {
            return;
        };
        let used = used(*cost, MicroUsd::ZERO, *tokens_in, *tokens_out);
        self.used.add(used);
        let of_program = self.steps.iter().filter(|(_, step)| step.kind == StepKind::Tool);
        let open = of_program.filter_map(|(id, step)| Some((id, step.open?))).min_by_key(|(_, open)| open.at);
        let parent = open.map_or_else(
            || SpanId::of_run(self.about.run),
            |(id, open)| SpanId::of_attempt(self.about.run, id.as_str(), open.number),
        );
        let mut attributes = self.common(open.map(|(id, _)| id));
        attributes.extend([
            (names::OPERATION, names::CHAT.into()),
            (names::PROVIDER, provider.as_str().into()),
            (names::SYSTEM, provider.as_str().into()),
            (names::REQUEST_MODEL, model.as_str().into()),
            (names::METERED, true.into()),
        ]);
        used.say(&mut attributes);
        let span = Span {
            id: SpanId::of_event(self.about.run, seq),
            parent: Some(parent),
            attributes,
            error: lost.then(|| "crashed".to_owned()),
            ..self.span(format!("{} {model}", names::CHAT), Kind::Client, (at, at))
        };
        self.given.push(span);
    }

    /// Ends the run, and what nobody ended before.
    fn over(&mut self, at: At, status: &str, error: Option<&str>) {
        let mut open: Vec<(StepId, Attempt)> =
            self.steps.iter().filter_map(|(id, step)| Some((id.clone(), step.open?))).collect();
        open.sort_by(|a, b| a.0.cmp(&b.0));
        for (id, attempt) in open {
            let Some(step) = self.steps.get(&id) else { continue };
            let end = End { abandoned: Some("run_ended"), ..End::default() };
            let span = self.attempt(&id, step, attempt, at, &end);
            self.given.push(span);
        }
        self.steps.clear();
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let Some(begun) = self.begun.clone() else { return };
        let mut attributes = self.common(None);
        attributes.extend(begun.attributes);
        attributes.push((names::STATUS, status.into()));
        self.used.say(&mut attributes);
        attributes.extend(error.map(|code| (names::ERROR_TYPE, code.into())));
        let name = format!("{} {}", names::INVOKE_AGENT, self.about.agent);
        let span = Span {
            parent: begun.under.map(|under| under.span),
            link: begun.link,
            attributes,
            error: error.map(str::to_owned),
            ..self.span(name, Kind::Internal, (begun.at, at))
        };
        self.given.push(span);
    }

    fn attempt(&self, id: &StepId, step: &Asked, attempt: Attempt, end_at: At, end: &End<'_>) -> Span {
        let mut attributes = self.common(Some(id));
        attributes.push((names::STEP_KIND, word(step.kind).into()));
        if attempt.number > 0 {
            attributes.push((names::ATTEMPT, attempt.number.into()));
            attributes.push((names::GENERATION, attempt.generation.into()));
        }
        let name = step.called(&mut attributes, end);
        end.used.say(&mut attributes);
        if step.doubt {
            attributes.push((names::IN_DOUBT, true.into()));
        }
        attributes.extend(end.error.map(|code| (names::ERROR_TYPE, code.into())));
        attributes.extend(end.abandoned.map(|code| (names::ABANDONED, code.into())));
        let kind = if step.kind == StepKind::Llm { Kind::Client } else { Kind::Internal };
        Span {
            id: SpanId::of_attempt(self.about.run, id.as_str(), attempt.number),
            parent: Some(self.above(step)),
            attributes,
            error: end.error.map(str::to_owned),
            ..self.span(name, kind, (attempt.at, end_at))
        }
    }

    /// What a step's spans belong under: the map or race around it, or the run.
    fn above(&self, step: &Asked) -> SpanId {
        let run = self.about.run;
        let mut next = step.parent.as_ref();
        while let Some((id, parent)) = next.and_then(|id| Some((id, self.steps.get(id)?))) {
            if matches!(parent.kind, StepKind::Map | StepKind::Race) {
                return SpanId::of_attempt(run, id.as_str(), 0);
            }
            next = parent.parent.as_ref();
        }
        SpanId::of_run(run)
    }

    /// What every span says.
    fn common(&self, step: Option<&StepId>) -> Vec<(&'static str, Attribute)> {
        let About { tenant, run, agent, session } = &self.about;
        let mut attributes: Vec<(&'static str, Attribute)> = vec![
            (names::TENANT, tenant.to_string().into()),
            (names::RUN, run.to_string().into()),
            (names::INSTANCE, format!("ai-{run}").into()),
            (names::AGENT_NAME, agent.as_str().into()),
        ];
        attributes.extend(session.map(|session| (names::CONVERSATION, session.to_string().into())));
        attributes.extend(step.map(|step| (names::STEP, step.as_str().into())));
        attributes
    }

    /// A span of this run's trace, which is the run's own until somebody says otherwise.
    fn span(&self, name: String, kind: Kind, (start, end): (At, At)) -> Span {
        let own = span_of(self.about.run, self.begun.as_ref().and_then(|begun| begun.under));
        // Clocks of two processes may differ: no span ends before it began.
        let end = end.max(start);
        let (attributes, parent, link, error) = (Vec::new(), None, None, None);
        Span { trace: own.trace, id: own.span, parent, link, name, kind, start, end, attributes, error }
    }
}

impl Asked {
    /// What an attempt is called, with what else is known of one of its kind.
    fn called(&self, attributes: &mut Vec<(&'static str, Attribute)>, end: &End<'_>) -> String {
        let named = |word: &str| match &self.name {
            Some(name) => format!("{word} {name}"),
            None => word.to_owned(),
        };
        match self.kind {
            StepKind::Llm => {
                attributes.push((names::OPERATION, names::CHAT.into()));
                let route = self.route.as_ref();
                let provider = end.provider.or_else(|| route.map(|route| route.provider.as_str()));
                for name in [names::PROVIDER, names::SYSTEM] {
                    attributes.extend(provider.map(|provider| (name, provider.into())));
                }
                attributes.extend(route.map(|route| (names::REQUEST_MODEL, route.model.as_str().into())));
                attributes.extend(end.model.map(|model| (names::RESPONSE_MODEL, model.into())));
                if self.max_tokens > 0 {
                    attributes.push((names::REQUEST_MAX_TOKENS, self.max_tokens.into()));
                }
                let model = route.map(|route| route.model.as_str()).or(end.model);
                model.map_or_else(|| names::CHAT.to_owned(), |model| format!("{} {model}", names::CHAT))
            }
            StepKind::Tool => {
                attributes.push((names::OPERATION, names::EXECUTE_TOOL.into()));
                attributes.extend(self.name.as_ref().map(|name| (names::TOOL_NAME, name.as_str().into())));
                named(names::EXECUTE_TOOL)
            }
            StepKind::Approval => "ask_person".to_owned(),
            StepKind::Child | StepKind::Signal => named(word(self.kind)),
            StepKind::Sleep | StepKind::Map | StepKind::Race => word(self.kind).to_owned(),
        }
    }
}

const CRASHED: End<'static> = End {
    used: Used { cost: MicroUsd::ZERO, unconfirmed: MicroUsd::ZERO, tokens_in: 0, tokens_out: 0 },
    error: Some("crashed"),
    abandoned: None,
    model: None,
    provider: None,
};

const fn used(cost: MicroUsd, unconfirmed: MicroUsd, tokens_in: u64, tokens_out: u64) -> Used {
    Used { cost, unconfirmed, tokens_in, tokens_out }
}

impl Used {
    fn add(&mut self, other: Self) {
        self.cost = self.cost.plus(other.cost).unwrap_or(self.cost);
        self.unconfirmed = self.unconfirmed.plus(other.unconfirmed).unwrap_or(self.unconfirmed);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
    }

    fn say(self, attributes: &mut Vec<(&'static str, Attribute)>) {
        for (name, tokens) in [(names::INPUT_TOKENS, self.tokens_in), (names::OUTPUT_TOKENS, self.tokens_out)]
        {
            if tokens > 0 {
                attributes.push((name, tokens.into()));
            }
        }
        attributes.push((names::COST, self.cost.micros().into()));
        if !self.unconfirmed.is_zero() {
            attributes.push((names::UNCONFIRMED, self.unconfirmed.micros().into()));
        }
    }
}

/// Whether a step of this kind waits, and is never sent.
const fn is_wait(kind: StepKind) -> bool {
    !matches!(kind, StepKind::Llm | StepKind::Tool | StepKind::Child)
}

const fn word(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Llm => "llm",
        StepKind::Tool => "tool",
        StepKind::Sleep => "sleep",
        StepKind::Signal => "signal",
        StepKind::Approval => "approval",
        StepKind::Child => "child",
        StepKind::Map => "map",
        StepKind::Race => "race",
    }
}
