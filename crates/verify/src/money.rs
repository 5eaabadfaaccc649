//! What an admission reserves and what a reply costs, derived again from the facts that the event has.

use lantern_engine::StepKind;
use lantern_policy::admit::{LlmRequest, Purse, Terms};
use lantern_policy::{
    Catalogue, ChildRequest, Known, ToolRequest, admit_child, admit_llm, admit_or_wait, admit_plain,
    admit_tool, child,
};
use lantern_types::{
    AdmissionFacts, Digest, Grant, Grounds, Limits, MicroUsd, PriceSource, Tokens, ToolFacts, money,
};

/// The rules that this build can apply again: its own, and earlier ones that hold and admit alike.
pub(crate) struct Rules {
    catalogue: Option<Catalogue>,
    limits: Limits,
    limits_digest: Digest,
}

/// The usage that a reply is billed for at the most; a larger count is a provider's mistake.
const TOKENS_MAX: u64 = 1_000_000_000;

impl Rules {
    pub(crate) fn of_this_build() -> Self {
        let limits = Limits::default();
        let catalogue = Catalogue::builtin().ok();
        Self { catalogue, limits_digest: limits.digest(), limits }
    }

    /// The same for what the limits say besides.
    pub(crate) fn knows_limits(&self, limits: Digest) -> bool {
        limits == self.limits_digest
    }

    pub(crate) const fn attempts_max(&self) -> u32 {
        self.limits.attempts_per_step_max
    }

    /// The limits of this build, but for prompts: other limits than ours may have let a longer one pass.
    pub(crate) fn prompts_of(&self, limits: Digest) -> Limits {
        let prompt_bytes_max =
            if self.knows_limits(limits) { self.limits.prompt_bytes_max } else { u64::MAX };
        Limits { prompt_bytes_max, ..self.limits.clone() }
    }

    pub(crate) const fn catalogue(&self) -> Option<&Catalogue> {
        self.catalogue.as_ref()
    }

    /// Why a grant does not follow from its own facts; `None` when it does. `asking` is how many steps shared what was left, and
    /// `depth` how many runs stand above.
    pub(crate) fn admission(
        &self,
        kind: StepKind,
        grant: &Grant,
        unconfirmed: MicroUsd,
        (known, depth, asking): (Known, u32, usize),
    ) -> Option<String> {
        let facts = &grant.facts;
        let purse = Purse { cap: facts.cap, spent: facts.spent, held: facts.held, unconfirmed };
        let terms = Terms { policy: grant.policy, catalogue: grant.catalogue, limits: grant.limits };
        let again = match (kind, &grant.route) {
            (StepKind::Llm, Some(route)) => {
                let request = LlmRequest {
                    route: route.clone(),
                    request_bytes: facts.request_bytes,
                    max_tokens: facts.max_tokens,
                };
                let limits = self.prompts_of(grant.limits);
                match admit_llm(purse, &request, &limits, terms) {
                    Ok(again) => again,
                    Err(denial) => return Some(format!("the rules deny it ({})", denial.code)),
                }
            }
            (StepKind::Llm, None) => return Some("a model call was admitted without a route".to_owned()),
            (StepKind::Child, None) if known == Known::Earlier => {
                return self.earlier_child(purse, grant, asking);
            }
            (StepKind::Child, None) => {
                // Other limits than ours may have let runs start runs deeper down.
                let child_depth_max =
                    if self.knows_limits(grant.limits) { self.limits.child_depth_max } else { u32::MAX };
                let limits = Limits { child_depth_max, ..self.limits.clone() };
                match admit_child(purse, ChildRequest { depth, asking }, &limits, terms) {
                    Ok(again) => again,
                    Err(denial) => return Some(format!("the rules deny it ({})", denial.code)),
                }
            }
            (_, None) => admit_plain(purse, terms),
            (_, Some(_)) => return Some("only a model call has a route".to_owned()),
        };
        // Calls of tools, the choice of a model, the accounts and what policies said are looked at elsewhere.
        let AdmissionFacts { calls, choice, accounts, host, ruled, .. } = facts.clone();
        let facts = AdmissionFacts { calls, choice, accounts, host, ruled, ..again.facts };
        let again = Grant { facts, ..again };
        if again == *grant {
            return None;
        }
        Some(format!("it holds {}, and its facts say {}", grant.hold, again.hold))
    }

    /// As the rules before the fourth held for a child.
    fn earlier_child(&self, purse: Purse, grant: &Grant, asking: usize) -> Option<String> {
        let known = self.knows_limits(grant.limits);
        let usual = if known { self.limits.run_cost_default } else { MicroUsd::from_micros(i64::MAX) };
        let want = child::before(purse, asking, usual);
        let follows = if known { grant.hold == want } else { grant.hold <= want };
        (!follows).then(|| format!("it holds {} for a child, and its share is {want}", grant.hold))
    }

    /// The code with which the rules deny a tool; `None` when they do not.
    pub(crate) fn denies_tool(purse: Purse, tool: ToolFacts, grounds: &Grounds) -> Option<String> {
        let ToolFacts { listed, known, calls_max } = tool;
        let request = ToolRequest { listed, known, calls: grounds.facts.calls, calls_max };
        admit_tool(purse, request, terms(grounds)).err().map(|denial| denial.code)
    }

    /// The code with which the rules deny a child; `None` when they do not, or let it wait.
    pub(crate) fn denies_child(
        &self,
        purse: Purse,
        (depth, asking): (u32, usize),
        grounds: &Grounds,
    ) -> Option<String> {
        let request = ChildRequest { depth, asking };
        let verdict = |purse| admit_child(purse, request, &self.limits, terms(grounds));
        admit_or_wait(purse, verdict).err().map(|denial| denial.code)
    }

    /// Why a route is not one that the catalogue allows; `None` when it is, or when it is another catalogue.
    pub(crate) fn route(&self, grant: &Grant) -> Option<String> {
        let route = grant.route.as_ref()?;
        let catalogue = self.catalogue.as_ref().filter(|ours| ours.digest() == grant.catalogue);
        match route.price_source {
            PriceSource::Catalogue => {
                let listed = catalogue?.find(&route.provider, &route.model);
                let same = listed.is_some_and(|listed| listed.price == route.price);
                (!same).then(|| {
                    format!("the catalogue has another price for {}/{}", route.provider, route.model)
                })
            }
            PriceSource::SelfHosted | PriceSource::Builtin => {
                let free = route.price.input.is_zero() && route.price.output.is_zero();
                (!free).then(|| "a model that nobody charges for has a price".to_owned())
            }
        }
    }
}

const fn terms(grounds: &Grounds) -> Terms {
    Terms { policy: grounds.policy, catalogue: grounds.catalogue, limits: grounds.limits }
}

/// Why what a reply cost does not follow from its usage and the grant; `None` when it does.
pub(crate) fn reply(
    grant: &Grant,
    used: (u64, u64),
    cost: MicroUsd,
    claimed: Option<MicroUsd>,
) -> Option<String> {
    let price = grant.route.as_ref().map(|route| route.price).unwrap_or_default();
    let (tokens_in, tokens_out) = used;
    // Without usage it is charged what was held.
    if used == (0, 0) && claimed.is_none() {
        let fits = cost == grant.hold || cost.is_zero();
        return if fits {
            None
        } else {
            Some(format!("it cost {cost} for no usage, and {} was held", grant.hold))
        };
    }
    // A count that was cut says how much at least.
    let cut = tokens_in >= TOKENS_MAX || tokens_out >= TOKENS_MAX;
    let claim =
        money::cost(price, Tokens(tokens_in), Tokens(tokens_out)).unwrap_or(MicroUsd::from_micros(i64::MAX));
    let says = match claimed {
        Some(said) if cut => said >= claim && said > grant.hold,
        Some(said) => said == claim && said > grant.hold,
        None => claim <= grant.hold,
    };
    let want = claimed.map_or(claim, |_| grant.hold);
    match (says, cost == want) {
        (true, true) => None,
        (false, _) => {
            Some(format!("its usage comes to {claim}, {} was held, and it claims otherwise", grant.hold))
        }
        (true, false) => Some(format!("its usage comes to {want}, and it was charged {cost}")),
    }
}
