//! The choice of a model, made again from what was recorded of it by the same functions that made it.

use lantern_policy::admit::{LlmRequest, Purse, Terms};
use lantern_policy::choice::{Passed, next, read, record, too_dear};
use lantern_policy::escrow::{Account, Lack};
use lantern_policy::turns::{Past, spread, turns};
use lantern_policy::{admit_llm, admit_or_wait};
use lantern_types::{AdmissionFacts, At, Choice, Denial, Digest, MicroUsd, Out, Route, RunId, Tried, Way};

use crate::money::Rules;

/// What a choice depends on beside its record.
pub(crate) struct Asked<'a> {
    pub(crate) facts: &'a AdmissionFacts,
    /// What the step tried before.
    pub(crate) tried: &'a [Tried],
    pub(crate) run: RunId,
    pub(crate) purse: Purse,
}

/// What came of it.
pub(crate) enum Outcome {
    /// The call goes this way.
    Goes(Route),
    /// It is not made; which way's denial that is.
    Denied(Denial, Option<Route>),
}

/// The most that a call by this way could cost; `None` when that is out of range.
pub(crate) fn worst(facts: &AdmissionFacts, route: &Route) -> Option<MicroUsd> {
    let purse = Purse { cap: MicroUsd::from_micros(i64::MAX), ..Purse::default() };
    let limits = lantern_types::Limits { prompt_bytes_max: u64::MAX, ..lantern_types::Limits::default() };
    let nobody = Digest::of(&[]);
    let terms = Terms { policy: nobody, catalogue: nobody, limits: nobody };
    admit_llm(purse, &request(facts, route), &limits, terms).ok().map(|grant| grant.hold)
}

fn request(facts: &AdmissionFacts, route: &Route) -> LlmRequest {
    LlmRequest { route: route.clone(), request_bytes: facts.request_bytes, max_tokens: facts.max_tokens }
}

impl Rules {
    /// Makes a choice again. `None` when the record is not whole, or the catalogue is not known. `Err` says what of
    /// the record does not follow.
    pub(crate) fn choose(
        &self,
        asked: &Asked<'_>,
        (catalogue, limits): (Digest, Digest),
    ) -> Result<Option<Outcome>, String> {
        let whole = asked.facts.choice.as_deref().filter(|choice| choice.more == 0);
        let ours = self.catalogue().filter(|ours| ours.digest() == catalogue);
        let (Some(choice), Some(ours)) = (whole, ours) else { return Ok(None) };
        let choices = read(choice);
        // The record has the breakers that were open, so any time before they close is the time.
        let past = Past { tried: asked.tried, now: At::from_micros(i64::MIN), spread: spread(asked.run) };
        let turns = match turns(&choice.asked, &choices, ours, past) {
            Ok(turns) => turns,
            Err(denial) => return Ok(Some(Outcome::Denied(denial, None))),
        };
        let (mut passed, mut refused) = (Vec::new(), None);
        let outcome = loop {
            let Some(route) = next(&turns, &passed) else {
                let Some(denial) = refused else { return Err("nobody could be asked".to_owned()) };
                break Outcome::Denied(denial, turns.first().cloned());
            };
            match self.answer(asked, choice, (route, limits))? {
                Answer::Goes => break Outcome::Goes(route.clone()),
                Answer::Denied(denial) => break Outcome::Denied(denial, Some(route.clone())),
                Answer::TooDear(denial, one) => {
                    passed.push(one);
                    refused.get_or_insert(denial);
                }
            }
        };
        let chosen = next(&turns, &passed);
        let again = record(&choice.asked, &choices, ours, past, (&passed, chosen));
        if again.as_ref() == Some(choice) {
            Ok(Some(outcome))
        } else {
            Err("what was left out, and why, does not follow".to_owned())
        }
    }

    /// Whether the call could go this way.
    fn answer(
        &self,
        asked: &Asked<'_>,
        choice: &Choice,
        (route, limits): (&Route, Digest),
    ) -> Result<Answer, String> {
        let nobody = Digest::of(&[]);
        let terms = Terms { policy: nobody, catalogue: nobody, limits: nobody };
        let request = request(asked.facts, route);
        let limits = self.prompts_of(limits);
        let verdict = |purse| admit_llm(purse, &request, &limits, terms);
        let grant = match admit_or_wait(asked.purse, verdict) {
            Ok(Some(grant)) => grant,
            Ok(None) => return Err("it was to wait for what other steps of the run hold".to_owned()),
            Err(denial) => {
                return Ok(match too_dear(&denial) {
                    Some(out) => Answer::TooDear(denial, Passed { route: route.clone(), out, account: None }),
                    None => Answer::Denied(denial),
                });
            }
        };
        let is =
            |way: &&Way| (&way.provider, &way.model, way.key) == (&route.provider, &route.model, route.key);
        let way = choice.ways.iter().find(is);
        // That policies say so is looked at where they are.
        if way.is_some_and(|way| way.out == Some(Out::Forbidden)) {
            let passed = Passed { route: route.clone(), out: Out::Forbidden, account: None };
            return Ok(Answer::TooDear(Denial::new(lantern_cedar::steps::DENIED, ""), passed));
        }
        let way = way.filter(|way| way.out == Some(Out::OverCap));
        let Some(way) = way else { return Ok(Answer::Goes) };
        let Some(account) = way.account else {
            return Err("it names no cap that a way is too dear for".to_owned());
        };
        let stands = Account { cap: account.cap, spent: account.spent, held: account.held };
        if stands.lack(grant.hold) != Lack::Spent {
            return Err(format!("a cap of {} leaves enough for a way that was left out", stands.cap));
        }
        let denial = Denial::new(lantern_policy::admit::OVER_CAP, "");
        Ok(Answer::TooDear(
            denial,
            Passed { route: route.clone(), out: Out::OverCap, account: Some(account) },
        ))
    }
}

enum Answer {
    Goes,
    Denied(Denial),
    TooDear(Denial, Passed),
}
