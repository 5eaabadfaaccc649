//! Admission: whether one effect may happen now, and how much money is reserved for it first.
//!
//! Invariant: `spent + held + hold <= cap` for every grant, where the hold covers the dearest reply the call could
//! have. [`Admitted`] is the only way to the functions that act outside, and only a [`Grant`], or money that is [`Granted`]
//! from escrow, makes one.

use crate::Catalogue;
use crate::escrow::{Account, Granted};
use lantern_types::call::{AccountId, Owner};
use lantern_types::{AdmissionFacts, Denial, Digest, Grant, Grounds, Limits, MicroUsd, Route, Tokens, money};

/// Work that was admitted: what the crates that act outside take.
#[derive(Clone, Debug)]
pub struct Admitted<T> {
    work: T,
    hold: MicroUsd,
}

impl<T> Admitted<T> {
    /// Pairs work with the grant it was given, fresh or read back from the journal after a crash.
    pub fn by(grant: &Grant, work: T) -> Self {
        Self { work, hold: grant.hold }
    }
    /// The same for a call that is held from escrow.
    pub const fn held(granted: &Granted, work: T) -> Self {
        Self { work, hold: granted.hold() }
    }
    /// The work.
    pub const fn work(&self) -> &T {
        &self.work
    }
    /// The same work in other words, under the same grant.
    #[must_use]
    pub fn map(self, reworded: impl FnOnce(T) -> T) -> Self {
        Self { work: reworded(self.work), hold: self.hold }
    }
    /// What is reserved for it.
    pub const fn hold(&self) -> MicroUsd {
        self.hold
    }
    /// Takes the work out.
    pub fn into_work(self) -> T {
        self.work
    }
}

/// What a model call asks for.
#[derive(Clone, Debug)]
pub struct LlmRequest {
    /// Where it would go.
    pub route: Route,
    /// Bytes of messages, tool definitions and schema.
    pub request_bytes: u64,
    /// The most tokens the reply may have.
    pub max_tokens: u32,
}

/// What a tool call asks for.
#[derive(Clone, Copy, Debug)]
pub struct ToolRequest {
    /// Whether the agent's version lists the tool.
    pub listed: bool,
    /// Whether this process has the tool.
    pub known: bool,
    /// Earlier calls of it in this run.
    pub calls: u32,
    /// The most calls the agent allows.
    pub calls_max: Option<u32>,
}

/// The digests of the rules in force: taken once, journaled with every admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rules of this build.
    pub policy: Digest,
    /// The model catalogue.
    pub catalogue: Digest,
    /// The limits.
    pub limits: Digest,
}

impl Terms {
    /// Names the rules in force.
    pub fn of(catalogue: &Catalogue, limits: &Limits) -> Self {
        Self { policy: crate::digest(), catalogue: catalogue.digest(), limits: limits.digest() }
    }
}

/// The state of the run's money.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purse {
    /// The run's cap.
    pub cap: MicroUsd,
    /// Spent so far.
    pub spent: MicroUsd,
    /// Held by other steps, and by what is unconfirmed.
    pub held: MicroUsd,
    /// Of that, what does not come back before the run ends: nobody knows whether it was spent.
    pub unconfirmed: MicroUsd,
}

impl Purse {
    /// The purse once every other step has given its hold back whole.
    const fn at_best(self) -> Self {
        Self { held: self.unconfirmed, ..self }
    }
}

/// The code of a denial for want of money.
pub const OVER_BUDGET: &str = "run_budget_exceeded";

/// The code of a denial because a cap of the tenant or of the agent is reached.
pub const OVER_CAP: &str = "budget_exceeded";

/// Tokens of wire framing that a provider may add for each request, on top of one token a byte.
const FRAMING_TOKENS: u64 = 256;

/// The verdict on a step of a run with this purse; `None` when the step must wait. It waits when it is denied only because other
/// steps hold the money, and would fit if their holds came back whole: then it is to be asked about again when one of them
/// settles.
pub fn admit_or_wait(
    purse: Purse,
    verdict: impl Fn(Purse) -> Result<Grant, Denial>,
) -> Result<Option<Grant>, Denial> {
    match verdict(purse) {
        Err(denial) if denial.code == OVER_BUDGET && purse.held > purse.unconfirmed => {
            verdict(purse.at_best()).map(|_| None).map_err(|_| denial)
        }
        verdict => verdict.map(Some),
    }
}

/// Whether a model call may be made, and the hold that covers the dearest reply it could have.
pub fn admit_llm(purse: Purse, request: &LlmRequest, limits: &Limits, terms: Terms) -> Result<Grant, Denial> {
    if request.request_bytes > limits.prompt_bytes_max {
        let (bytes, max) = (request.request_bytes, limits.prompt_bytes_max);
        return Err(Denial::new(
            "prompt_too_large",
            format!("the request has {bytes} bytes; the limit is {max}"),
        ));
    }
    let hold = money::cost(
        request.route.price,
        Tokens(request.request_bytes.saturating_add(FRAMING_TOKENS)),
        Tokens(u64::from(request.max_tokens)),
    )
    .map_err(|_| Denial::new(OVER_BUDGET, "the worst-case cost is out of range"))?;
    within(purse, hold)?;
    let facts = AdmissionFacts {
        request_bytes: request.request_bytes,
        max_tokens: request.max_tokens,
        ..facts(purse)
    };
    Ok(Grant {
        hold,
        route: Some(request.route.clone()),
        facts,
        policy: terms.policy,
        catalogue: terms.catalogue,
        limits: terms.limits,
    })
}

/// Whether a tool may be called.
pub fn admit_tool(purse: Purse, request: ToolRequest, terms: Terms) -> Result<Grant, Denial> {
    if !request.listed {
        return Err(Denial::new("tool_not_allowed", "the agent's version does not list this tool"));
    }
    if !request.known {
        return Err(Denial::new("tool_unknown", "no such tool on this server"));
    }
    if let Some(max) = request.calls_max
        && request.calls >= max
    {
        return Err(Denial::new(
            "tool_call_limit",
            format!("the agent allows {max} calls of this tool in a run"),
        ));
    }
    let facts = AdmissionFacts { calls: request.calls, ..facts(purse) };
    Ok(Grant {
        hold: MicroUsd::ZERO,
        route: None,
        facts,
        policy: terms.policy,
        catalogue: terms.catalogue,
        limits: terms.limits,
    })
}

/// Admits what costs nothing and acts on nobody: waits, maps, races, child starts.
pub fn admit_plain(purse: Purse, terms: Terms) -> Grant {
    Grant {
        hold: MicroUsd::ZERO,
        route: None,
        facts: facts(purse),
        policy: terms.policy,
        catalogue: terms.catalogue,
        limits: terms.limits,
    }
}

/// What a denial was decided on, as far as every step has it: the purse and the rules.
pub fn grounds(purse: Purse, terms: Terms) -> Grounds {
    let Terms { policy, catalogue, limits } = terms;
    Grounds { facts: facts(purse), route: None, tool: None, account: None, policy, catalogue, limits }
}

/// The denial of a step for which a cap leaves too little.
pub fn over_cap(of: AccountId, stands: Account, hold: MicroUsd) -> Denial {
    let whose = match of.owner {
        Owner::Tenant => "the tenant's",
        Owner::Key(_) => "the API key's",
        Owner::Agent(_) => "the agent's",
    };
    let (Account { cap, spent, held }, period) = (stands, of.period.as_str());
    let words = format!(
        "this call could cost {hold}; of {whose} cap of {cap} for the {period}, {spent} are spent and {held} are held"
    );
    Denial::new(OVER_CAP, words)
}

fn facts(purse: Purse) -> AdmissionFacts {
    AdmissionFacts { cap: purse.cap, spent: purse.spent, held: purse.held, ..AdmissionFacts::default() }
}

fn within(purse: Purse, hold: MicroUsd) -> Result<(), Denial> {
    let total = purse.spent.plus(purse.held).and_then(|sum| sum.plus(hold));
    match total {
        Ok(total) if total <= purse.cap => Ok(()),
        _ => Err(Denial::new(
            OVER_BUDGET,
            format!(
                "this call could cost {hold}; the run has spent {} and holds {} of its {} cap",
                purse.spent, purse.held, purse.cap
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::{Price, PriceSource};

    fn request(max_tokens: u32) -> LlmRequest {
        let price =
            Price { input: MicroUsd::from_micros(1_000_000), output: MicroUsd::from_micros(1_000_000) };
        let route = Route {
            provider: "p".into(),
            model: "m".into(),
            price,
            price_source: PriceSource::Catalogue,
            key: 0,
            why: None,
        };
        LlmRequest { route, request_bytes: 100, max_tokens }
    }

    fn purse(cap: i64, spent: i64, held: i64) -> Purse {
        Purse {
            cap: MicroUsd::from_micros(cap),
            spent: MicroUsd::from_micros(spent),
            held: MicroUsd::from_micros(held),
            unconfirmed: MicroUsd::ZERO,
        }
    }

    #[test]
    fn a_hold_never_passes_the_cap() {
        let terms = Terms::of(&Catalogue::builtin().unwrap(), &Limits::default());
        let limits = Limits::default();
        // One micro-dollar a token: 100 bytes + 256 framing + 44 reply = 400.
        for (purse, want) in [
            (purse(400, 0, 0), Ok(400)),
            (purse(399, 0, 0), Err("run_budget_exceeded")),
            (purse(1_000, 500, 100), Ok(400)),
            (purse(1_000, 500, 101), Err("run_budget_exceeded")),
            (purse(i64::MAX, i64::MAX, i64::MAX), Err("run_budget_exceeded")),
        ] {
            let got = admit_llm(purse, &request(44), &limits, terms);
            assert_eq!(got.as_ref().map(|g| g.hold.micros()).map_err(|d| d.code.as_str()), want);
        }
    }

    #[test]
    fn what_others_hold_is_waited_for_and_what_is_lost_is_not() {
        let terms = Terms::of(&Catalogue::builtin().unwrap(), &Limits::default());
        let limits = Limits::default();
        let lost = |micros, purse| Purse { unconfirmed: MicroUsd::from_micros(micros), ..purse };
        for (purse, want) in [
            (purse(1_000, 0, 0), "granted"),
            (purse(1_000, 0, 600), "granted"),
            (purse(1_000, 0, 601), "waits"),
            (purse(1_000, 600, 400), "waits"),
            (purse(1_000, 601, 399), "denied"),
            (purse(1_000, 601, 0), "denied"),
            (lost(601, purse(1_000, 0, 1_000)), "denied"),
            (lost(600, purse(1_000, 0, 1_000)), "waits"),
            (lost(601, purse(1_000, 0, 601)), "denied"),
        ] {
            let got = match admit_or_wait(purse, |purse| admit_llm(purse, &request(44), &limits, terms)) {
                Ok(Some(grant)) => {
                    assert_eq!((grant.hold.micros(), grant.facts.held), (400, purse.held));
                    "granted"
                }
                Ok(None) => "waits",
                Err(denial) => {
                    assert_eq!(denial.code, OVER_BUDGET);
                    "denied"
                }
            };
            assert_eq!(got, want, "{purse:?}");
        }
        let refused = |_| Err(Denial::new("tool_unknown", ""));
        assert!(admit_or_wait(purse(1, 0, 1), refused).is_err(), "no money mends that");
    }

    #[test]
    fn a_tool_must_be_listed_known_and_within_its_count() {
        let ask = |listed, known, calls, calls_max| {
            admit_tool(
                purse(0, 0, 0),
                ToolRequest { listed, known, calls, calls_max },
                Terms::of(&Catalogue::builtin().unwrap(), &Limits::default()),
            )
            .map(|_| ())
            .map_err(|d| d.code)
        };
        assert_eq!(ask(true, true, 9, None), Ok(()));
        assert_eq!(ask(true, true, 1, Some(2)), Ok(()));
        assert_eq!(ask(true, true, 2, Some(2)), Err("tool_call_limit".to_owned()));
        assert_eq!(ask(false, true, 0, None), Err("tool_not_allowed".to_owned()));
        assert_eq!(ask(true, false, 0, None), Err("tool_unknown".to_owned()));
    }
}
