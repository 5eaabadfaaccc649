//! Gathers the facts that an admission is decided on, and asks `policy`.

use lantern_cedar::steps::{self, Step as Looked};
use lantern_engine::{
    Input, LlmAsk, ProgramKind, Run, Step, StepId, StepKind, StepState, Work, llm_ask, offered_tools,
};
use lantern_ledger::{Hold, Withheld};
use lantern_policy::admit::{OVER_CAP, Purse};
use lantern_policy::choice::{self, Passed};
use lantern_policy::route::Choices;
use lantern_policy::strategy::in_force;
use lantern_policy::turns::{Past, spread, turns};
use lantern_policy::{
    ChildRequest, LlmRequest, Scope, Terms, ToolRequest, admit_child, admit_llm, admit_or_wait, admit_plain,
    admit_tool, grounds,
};
use lantern_types::approval::OverCap;
use lantern_types::llm::{IMAGE_TOKENS_MAX, Message};
use lantern_types::{
    AccountFacts, AdmissionFacts, AgentId, Denial, Failure, Forbids, Grant, Grounds, Out, Route, Ruled,
    Strategy, ToolDef, ToolFacts, ToolName,
};

use crate::Deps;
use crate::ruling::{self, Ruling};

/// What becomes of a step that asks for admission.
pub(crate) enum Verdict {
    /// It is admitted, with what was held for it of the caps of its tenant and agent; or denied.
    Decided(Box<(Input, Option<Hold>)>),
    /// It waits for what other steps of the run hold.
    WaitsForRun,
    /// It waits for what others hold of a cap.
    WaitsForCap,
    /// It waits for people to say whether a cap may be passed.
    Asks(Box<OverCap>),
}

/// What becomes of one way of doing a step.
enum Answer {
    Granted(Box<Grant>, Option<Hold>),
    /// With the account whose cap denies it, if one does.
    Denied(Denial, Option<AccountFacts>),
    /// Policies of the tenant forbid it.
    Forbidden(Vec<Forbids>),
    WaitsForRun,
    WaitsForCap,
    /// People are asked, because of this account.
    Asks(Box<OverCap>, AccountFacts),
}

/// Admits or denies a requested step, or lets it wait. `Err` when the facts cannot be had now.
pub(crate) async fn admit(deps: &Deps, scope: Scope, run: &Run, step: &Step) -> Result<Verdict, Failure> {
    if let Some(Work::Turn { .. } | Work::Llm { .. }) = &step.work {
        return model(deps, scope, run, step).await;
    }
    let (terms, ruling) = (terms(deps), ruling::of(deps, scope, run).await?);
    let asked = match &step.work {
        Some(Work::Tool { name, .. }) => Asked::Tool(tool(deps, run, step, name)),
        Some(Work::Child { .. }) => Asked::Child(ChildRequest { depth: run.depth, asking: asking(run) }),
        Some(_) => Asked::Plain,
        None => return Ok(denied(step.id.clone(), unreadable())),
    };
    let host = match &step.work {
        Some(Work::Tool { name, arguments, .. }) => ruling::host(name.as_str(), arguments),
        _ => None,
    };
    let verdict = |purse| {
        let grant = match asked {
            Asked::Tool(request) => admit_tool(purse, request, terms),
            Asked::Child(request) => admit_child(purse, request, &deps.limits, terms),
            Asked::Plain => Ok(admit_plain(purse, terms)),
        }?;
        Ok(Grant { facts: AdmissionFacts { host: host.clone(), ..grant.facts }, ..grant })
    };
    let rules = |_: &Grant| {
        let looked = looked(step, asked, host.as_deref())?;
        ruling.as_ref().map(|ruling| ruling.on(looked))
    };
    let answer = one(deps, scope, run, verdict, &rules).await?;
    if let (Answer::Granted(..), Some(Work::Tool { name, .. }), Some(agent)) =
        (&answer, &step.work, run.agent)
        && let Some(denial) = over_day(deps, scope, agent, (run, step, name)).await?
    {
        return Ok(denied(step.id.clone(), denial));
    }
    Ok(match answer {
        Answer::Denied(denial, account) => {
            let grounds = Grounds { account, ..asked.grounds(purse(run), terms) };
            denied(step.id.clone(), Denial { grounds: Some(Box::new(grounds)), ..denial })
        }
        Answer::Forbidden(forbids) => {
            let denial = steps::denial(&forbids, ruling.as_ref().is_some_and(Ruling::unread));
            let mut grounds = asked.grounds(purse(run), terms);
            grounds.facts.host = host;
            grounds.facts.ruled = ruling.map(|ruling| Box::new(ruling.ruled(forbids)));
            denied(step.id.clone(), Denial { grounds: Some(Box::new(grounds)), ..denial })
        }
        answer => self::verdict(step, answer),
    })
}

/// What policies look at of a step that calls no model; nothing of one that acts on nobody.
fn looked<'a>(step: &'a Step, asked: Asked, host: Option<&'a str>) -> Option<Looked<'a>> {
    match (&step.work, asked) {
        (Some(Work::Tool { name, .. }), Asked::Tool(ToolRequest { calls, .. })) => {
            Some(Looked::Tool { name: name.as_str(), class: step.effect, calls, host })
        }
        (Some(Work::Child { agent, .. }), _) => Some(Looked::Child { name: agent }),
        _ => None,
    }
}

/// Why a tool may not be called any more in this day, if the agent's budget says so; else the call is counted.
async fn over_day(
    deps: &Deps,
    scope: Scope,
    agent: AgentId,
    (run, step, tool): (&Run, &Step, &ToolName),
) -> Result<Option<Denial>, Failure> {
    let call = (run.id, step.id.as_str(), tool.as_str());
    let most = deps.ledger.take_call(scope, agent, call).await;
    let most = most.map_err(|error| Failure::refused("unavailable", error.to_string()))?;
    Ok(most.map(|most| {
        let words = format!("agent budget limit reached: it may call {tool} {most} times a day, and has");
        Denial::new(OVER_CAP, words)
    }))
}

/// What a step asks for that calls no model.
#[derive(Clone, Copy)]
enum Asked {
    Tool(ToolRequest),
    Child(ChildRequest),
    Plain,
}

impl Asked {
    /// What its denial is decided on.
    fn grounds(self, purse: Purse, terms: Terms) -> Grounds {
        let mut grounds = grounds(purse, terms);
        if let Self::Tool(ToolRequest { listed, known, calls, calls_max }) = self {
            grounds.facts.calls = calls;
            grounds.tool = Some(ToolFacts { listed, known, calls_max });
        }
        grounds
    }
}

/// Admits a model call: to the next in turn, unless it is too dear for what is left and another one is not.
async fn model(deps: &Deps, scope: Scope, run: &Run, step: &Step) -> Result<Verdict, Failure> {
    let Some(ask) = llm_ask(run, step) else { return Ok(denied(step.id.clone(), unreadable())) };
    let choices = choices(deps, scope, run.manifest.strategy).await?;
    let past = Past { tried: &step.tried, now: deps.clock.now(), spread: spread(run.id) };
    let ruling = ruling::of(deps, scope, run).await?;
    let mut told: Vec<Forbids> = Vec::new();
    let record = |passed: &[Passed], chosen: Option<&Route>| {
        choice::record(&ask.model, &choices, &deps.catalogue, past, (passed, chosen)).map(Box::new)
    };
    let terms = terms(deps);
    let deny = |denial: Denial,
                route: Option<Route>,
                account,
                (choice, told): (_, Vec<Forbids>),
                (request_bytes, max_tokens)| {
        let grounds = grounds(purse(run), terms);
        let ruled = ruling.as_ref().filter(|_| !told.is_empty()).map(|ruling| Box::new(ruling.ruled(told)));
        let facts = AdmissionFacts { request_bytes, max_tokens, choice, ruled, ..grounds.facts };
        let grounds = Some(Box::new(Grounds { facts, route, account, ..grounds }));
        Ok(denied(step.id.clone(), Denial { grounds, ..denial }))
    };
    let turns = match turns(&ask.model, &choices, &deps.catalogue, past) {
        Ok(turns) => turns,
        Err(denial) => return deny(denial, None, None, (record(&[], None), told), (0, 0)),
    };
    let tools = if ask.offer_tools { offered_tools(run, deps.tools.defs()) } else { Vec::new() };
    let size = (request_bytes(&ask, &tools), max_tokens(deps, &ask));
    let (mut passed, mut refused, mut asks) = (Vec::new(), None, None);
    while let Some(route) = choice::next(&turns, &passed) {
        let request = LlmRequest { route: route.clone(), request_bytes: size.0, max_tokens: size.1 };
        let rules = |grant: &Grant| {
            ruling.as_ref().map(|ruling| ruling.on(Looked::model(route, grant.hold, &grant.facts)))
        };
        let verdict = |purse| admit_llm(purse, &request, &deps.limits, terms);
        match one(deps, scope, run, verdict, &rules).await? {
            Answer::Denied(denial, account) => {
                let Some(out) = choice::too_dear(&denial) else {
                    let recorded = record(&passed, Some(route));
                    return deny(denial, Some(request.route), account, (recorded, told), size);
                };
                passed.push(Passed { route: route.clone(), out, account });
                refused.get_or_insert((denial, account));
            }
            // As if the model were not there: another one may be asked.
            Answer::Forbidden(forbids) => {
                let denial = steps::denial(&forbids, ruling.as_ref().is_some_and(Ruling::unread));
                passed.push(Passed { route: route.clone(), out: Out::Forbidden, account: None });
                told.extend(forbids);
                refused.get_or_insert((denial, None));
            }
            // People are asked for the first choice, unless another one needs nobody's leave.
            Answer::Asks(over, account) => {
                passed.push(Passed { route: route.clone(), out: Out::OverCap, account: Some(account) });
                asks.get_or_insert(over);
            }
            Answer::Granted(mut grant, hold) => {
                grant.facts.choice = record(&passed, Some(route));
                if let Some(ruled) = &mut grant.facts.ruled {
                    ruled.forbids.splice(0..0, told);
                }
                return Ok(self::verdict(step, Answer::Granted(grant, hold)));
            }
            answer => return Ok(self::verdict(step, answer)),
        }
    }
    if let Some(over) = asks {
        return Ok(Verdict::Asks(over));
    }
    let (denial, account) = refused.unwrap_or_else(|| (unreadable(), None));
    deny(denial, turns.into_iter().next(), account, (record(&passed, None), told), size)
}

/// Admits one way of doing a step, or denies it, or lets it wait.
async fn one(
    deps: &Deps,
    scope: Scope,
    run: &Run,
    verdict: impl Fn(Purse) -> Result<Grant, Denial>,
    rules: &(dyn Fn(&Grant) -> Option<Ruled> + Sync),
) -> Result<Answer, Failure> {
    let mut grant = match admit_or_wait(purse(run), verdict) {
        Ok(Some(grant)) => Box::new(grant),
        Ok(None) => return Ok(Answer::WaitsForRun),
        Err(denial) => return Ok(Answer::Denied(denial, None)),
    };
    if let Some(ruled) = rules(&grant) {
        if !ruled.forbids.is_empty() && !ruled.observes {
            return Ok(Answer::Forbidden(ruled.forbids));
        }
        grant.facts.ruled = Some(Box::new(ruled));
    }
    let hold = match (&grant.route, run.agent) {
        (Some(route), Some(agent)) => match deps.ledger.hold(scope, agent, route, grant.hold).await {
            Ok(hold) => Some(hold),
            Err(Withheld::Waits) => return Ok(Answer::WaitsForCap),
            Err(Withheld::Asks(over, account)) => return Ok(Answer::Asks(over, account)),
            Err(Withheld::Denied(denial, account)) => return Ok(Answer::Denied(denial, account)),
            Err(Withheld::Store(error)) => return Err(Failure::refused("unavailable", error.to_string())),
        },
        // Only models are paid for. What a child may spend is held step by step, as it spends it.
        _ => None,
    };
    let hold = hold.map(|mut hold| {
        grant.facts.accounts = hold.take_stood();
        hold
    });
    Ok(Answer::Granted(grant, hold))
}

fn verdict(step: &Step, answer: Answer) -> Verdict {
    let step = step.id.clone();
    match answer {
        Answer::Granted(grant, hold) => Verdict::Decided(Box::new((Input::Admit { step, grant }, hold))),
        Answer::Denied(denial, _) => denied(step, denial),
        Answer::Forbidden(forbids) => denied(step, steps::denial(&forbids, false)),
        Answer::WaitsForRun => Verdict::WaitsForRun,
        Answer::WaitsForCap => Verdict::WaitsForCap,
        Answer::Asks(over, _) => Verdict::Asks(over),
    }
}

/// What a model call may go to. Its agent says what counts, else its tenant, else the server: a run has no header.
pub(crate) async fn choices(deps: &Deps, scope: Scope, agent: Option<Strategy>) -> Result<Choices, Failure> {
    let choices = deps.llm.choices(scope).await?;
    let strategy = in_force([None, agent, None], choices.strategy);
    Ok(Choices { strategy, ..choices })
}

fn denied(step: StepId, denial: Denial) -> Verdict {
    Verdict::Decided(Box::new((Input::Deny { step, denial }, None)))
}

fn unreadable() -> Denial {
    Denial::new("body_dropped", "what the step was asked is no longer stored")
}

fn tool(deps: &Deps, run: &Run, asking: &Step, name: &ToolName) -> ToolRequest {
    let listed = run.manifest.tool(name);
    let steps_of_its_own = run.program == ProgramKind::Steps && run.manifest.tools.is_none();
    let calls = run
        .steps()
        .iter()
        .filter(|step| step.id != asking.id && step.kind == StepKind::Tool && step.attempt > 0)
        .filter(|step| matches!(&step.work, Some(Work::Tool { name: called, .. }) if called == name))
        .count();
    ToolRequest {
        listed: listed.is_some() || steps_of_its_own,
        known: deps.tools.defs().iter().any(|def| &def.name == name),
        calls: u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(run.carried_calls(name)),
        calls_max: listed.and_then(|tool| tool.max_calls),
    }
}

/// How many steps that cost money wait for their admission, and so share what is left.
fn asking(run: &Run) -> usize {
    let costs = |step: &&Step| matches!(step.kind, StepKind::Child | StepKind::Llm);
    run.open_steps().filter(costs).filter(|step| step.state == StepState::Requested).count()
}

fn terms(deps: &Deps) -> Terms {
    deps.memo.terms(&deps.catalogue, &deps.limits)
}

fn purse(run: &Run) -> Purse {
    Purse { cap: run.cap, spent: run.spent, held: run.held, unconfirmed: run.unconfirmed }
}

/// The most tokens the reply may have.
pub(crate) fn max_tokens(deps: &Deps, ask: &LlmAsk) -> u32 {
    let limits = &deps.limits;
    ask.max_tokens.unwrap_or(limits.completion_tokens_default).clamp(1, limits.completion_tokens_max)
}

/// Bytes of everything a provider may count as prompt.
fn request_bytes(ask: &LlmAsk, tools: &[ToolDef]) -> u64 {
    // A picture costs what its size in pixels says, and not its bytes.
    let bytes = |message: &Message| message.text_bytes() + message.images.len() * IMAGE_TOKENS_MAX;
    let messages: usize = ask.messages.iter().map(bytes).sum();
    let tools: usize = tools
        .iter()
        .map(|tool| {
            tool.name.wire().len() + tool.description.len() + tool.input_schema.to_string().len() + 64
        })
        .sum();
    let schema = ask.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
    (messages + tools + schema) as u64
}
