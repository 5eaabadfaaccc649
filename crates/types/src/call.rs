//! A proxied model call as the ledger knows it: whose money, of which period, how many tokens, and the record that is kept.
//!
//! Invariant: a record holds no word of what was asked or answered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::money::{self, Overflow, Price, Tokens};
use crate::{AgentId, ApiKeyId, At, MicroUsd, Zone};

/// Whose money it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// All of the tenant's.
    Tenant,
    /// What one of its keys spends.
    Key(ApiKeyId),
    /// What the runs of one of its agents spend.
    Agent(AgentId),
}

/// How long an account counts before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the next.
    Month,
}

/// What a cap does when it is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// It refuses. Nobody is asked, ever.
    #[default]
    Hard,
    /// It warns on the way, and then refuses.
    Stop,
    /// It warns on the way, and then asks people whether runs may spend more.
    Ask,
}

impl OnLimit {
    /// As it is stored: of a hard cap nothing is.
    pub const fn stored(self) -> Option<&'static str> {
        match self {
            Self::Hard => None,
            Self::Stop => Some("stop"),
            Self::Ask => Some("ask"),
        }
    }

    /// What a stored word means. What a later build may have meant by another one stops.
    pub fn of_stored(word: Option<&str>) -> Self {
        match word {
            None => Self::Hard,
            Some("ask") => Self::Ask,
            Some(_) => Self::Stop,
        }
    }
}

/// One owner's money of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId {
    /// Whose.
    pub owner: Owner,
    /// Of which kind of period.
    pub period: Period,
    /// When that began.
    pub began_at: At,
}

/// The text names no owner, or no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither an owner nor a period of the ledger")]
pub struct Unknown;

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Agent(id) => write!(f, "agent:{id}"),
        }
    }
}

impl FromStr for Owner {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text.split_once(':') {
            Some(("key", id)) => id.parse().map(Self::Key).map_err(|_| Unknown),
            Some(("agent", id)) => id.parse().map(Self::Agent).map_err(|_| Unknown),
            None if text == "tenant" => Ok(Self::Tenant),
            _ => Err(Unknown),
        }
    }
}

impl Period {
    /// Every period.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// Its stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// When the period of UTC began that `now` is in; [`Zone::began`] knows those of other zones.
    pub fn began(self, now: At) -> At {
        const DAY: i64 = 86_400;
        let day = now.seconds().div_euclid(DAY);
        let first = match self {
            Self::Day => day,
            Self::Month => day - i64::from(day_of_month(day)) + 1,
        };
        At::from_micros(first.saturating_mul(DAY).saturating_mul(1_000_000))
    }
}

/// Which day of its month this is, counted from 1: `days` since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn day_of_month(days: i64) -> u8 {
    let days = days + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    u8::try_from(of_year - (153 * month + 2) / 5 + 1).unwrap_or(1)
}

impl FromStr for Period {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|period| period.as_str() == text).ok_or(Unknown)
    }
}

impl AccountId {
    /// The owner's account of UTC at this time.
    pub fn at(owner: Owner, period: Period, now: At) -> Self {
        Self::within(Zone::UTC, owner, period, now)
    }

    /// The owner's account of a zone at this time.
    pub fn within(zone: Zone, owner: Owner, period: Period, now: At) -> Self {
        Self { owner, period, began_at: zone.began(period, now) }
    }
}

/// Tokens by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// Prompt tokens at the full price.
    #[serde(rename = "in")]
    pub input: u64,
    /// Prompt tokens that were read from the provider's cache: a tenth of the price.
    #[serde(skip_serializing_if = "none")]
    pub cache_read: u64,
    /// Prompt tokens that were written to it for some minutes: one and a quarter of the price.
    #[serde(skip_serializing_if = "none")]
    pub cache_write: u64,
    /// Prompt tokens that were written to it for an hour: twice the price.
    #[serde(skip_serializing_if = "none")]
    pub cache_write_long: u64,
    /// Completion tokens, reasoning included.
    #[serde(rename = "out")]
    pub output: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn none(tokens: &u64) -> bool {
    *tokens == 0
}

impl Used {
    /// What they cost, each side rounded up.
    pub fn cost(self, price: Price) -> Result<MicroUsd, Overflow> {
        // In twentieths of a token every share is whole.
        let share = |tokens: u64, twentieths: u128| u128::from(tokens) * twentieths;
        let input = share(self.input, 20)
            + share(self.cache_read, 2)
            + share(self.cache_write, 25)
            + share(self.cache_write_long, 40);
        let input = u64::try_from(input.div_ceil(20)).map_err(|_| Overflow)?;
        money::cost(price, Tokens(input), Tokens(self.output))
    }

    /// In each kind the greater of both.
    pub fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_long: self.cache_write_long.max(other.cache_write_long),
            output: self.output.max(other.output),
        }
    }

    /// All prompt tokens.
    pub const fn prompt(self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.cache_write_long)
    }
}

/// How a call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// The provider said all of it.
    Complete,
    /// The provider refused it, and charges nothing for that.
    Refused,
    /// It reached what was held for it, and was stopped.
    Stopped,
    /// Whoever asked went away.
    ClientGone,
    /// The provider broke off, or never answered.
    Broken,
}

/// One line of the stream `calls/{process}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CallEvent {
    /// A call is over.
    Call(Box<CallRecord>),
    /// A process died with these slices: what it had not settled of them counts as spent.
    CrashCharge(CrashCharge),
    /// Steps of runs are over. Each stands in the journal of its run; here they are summed up.
    Runs(RunsSpent),
}

/// What is kept of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// Its place in the stream.
    pub seq: i64,
    /// Its id, which the answer names.
    pub id: Uuid,
    /// When it was over.
    pub at: At,
    /// How long that took, in milliseconds.
    pub took_ms: i64,
    /// The front door that it came through.
    pub door: String,
    /// Who was asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// The key that asked; a person without it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<ApiKeyId>,
    /// The agent whose run asked, when a program in a box did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<AgentId>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// The provider's status; nothing when there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Which attempt of the call it is, when an earlier one came to nothing.
    #[serde(skip_serializing_if = "is_first", default = "first")]
    pub attempt: u32,
    /// Why this provider and model, where others would have done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// How it ended.
    pub end: CallEnd,
    /// The price that it was admitted at.
    pub price: Price,
    /// What was held for it.
    pub hold: MicroUsd,
    /// What it cost.
    pub cost: MicroUsd,
    /// The most completion tokens that it was let have, when a cap lowered them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lowered_to: Option<u64>,
    /// What the provider said it used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reported: Option<Used>,
    /// Completion tokens that were counted on the way.
    pub counted: u64,
    /// The slices that it was held from.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub held_from: Vec<HeldFrom>,
    /// It was settled after its slice had been charged as that of a dead process: the crash charge covers it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub late: bool,
}

const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

/// What steps of runs have cost that ended at about the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunsSpent {
    /// Its place in the stream.
    pub seq: i64,
    /// When.
    pub at: At,
    /// By agent and model.
    pub items: Vec<StepSpent>,
    /// What costs nothing and is counted all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Counted>,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// What it is known to have cost.
    pub cost: MicroUsd,
    /// What may have been billed besides.
    pub unconfirmed: MicroUsd,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
}

/// What one append of a run used and no slice was taken for: its model calls that ended, and what is counted with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunUsage {
    /// By model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<StepSpent>,
    /// What costs nothing by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Counted>,
}

impl RunUsage {
    /// Whether nothing was used.
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty() && self.counts.is_empty()
    }

    /// The sum of both: one line for each agent and thing.
    pub fn add(&mut self, other: Self) {
        for item in other.items {
            match self.items.iter_mut().find(|known| known.is_of(&item)) {
                Some(known) => known.add(&item),
                None => self.items.push(item),
            }
        }
        for Counted { agent, what, times } in other.counts {
            match self.counts.iter_mut().find(|known| known.agent == agent && known.what == what) {
                Some(known) => known.times = known.times.saturating_add(times),
                None => self.counts.push(Counted { agent, what, times }),
            }
        }
    }
}

/// What happened in one agent's runs that costs nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "of", content = "name", rename_all = "snake_case")]
pub enum Happened {
    /// A tool was called.
    Tool(String),
    /// A run ended so: `succeeded`, `failed` or `cancelled`.
    Run(String),
    /// Something that a later build counts. It is in the record without its name, and in no sum.
    #[serde(other)]
    Other,
}

/// How often something of the kind happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// Whose runs.
    pub agent: AgentId,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
    /// How often.
    pub times: u64,
}

/// What model calls of one agent's runs have cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepSpent {
    /// Whose runs.
    pub agent: AgentId,
    /// Who was asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// How often.
    pub calls: u64,
    /// What is known to have been spent.
    pub cost: MicroUsd,
    /// What may have been billed besides: attempts that broke off count at all that was held for them.
    #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
    pub unconfirmed: MicroUsd,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// They were settled after their slice had been charged as that of a dead process: the crash charge covers it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub late: bool,
}

impl StepSpent {
    /// What counts as spent.
    pub fn charged(&self) -> MicroUsd {
        self.cost.plus(self.unconfirmed).unwrap_or(MicroUsd::from_micros(i64::MAX))
    }

    /// Whether both are of the same agent and model, and as late.
    pub fn is_of(&self, other: &Self) -> bool {
        self.agent == other.agent
            && self.model == other.model
            && self.provider == other.provider
            && self.late == other.late
    }

    /// The sum of both.
    pub fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.cost = self.cost.plus(other.cost).unwrap_or(self.cost);
        self.unconfirmed = self.unconfirmed.plus(other.unconfirmed).unwrap_or(self.unconfirmed);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
    }
}

/// A slice that a call was held from, as it stood then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldFrom {
    /// Whose account.
    pub owner: String,
    /// Of which kind of period.
    pub period: Period,
    /// Which slice of this process.
    pub slice: i64,
    /// What was left of it before.
    pub free: MicroUsd,
}

/// What was charged for a process that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrashCharge {
    /// Its place in the stream.
    pub seq: i64,
    /// When.
    pub at: At,
    /// What of which account.
    pub charges: Vec<Charged>,
}

/// The unsettled part of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charged {
    /// Whose account.
    pub owner: String,
    /// Of which kind of period.
    pub period: Period,
    /// Which slice.
    pub slice: i64,
    /// How much.
    pub amount: MicroUsd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_at_midnight_and_on_the_first() {
        for (now, day, month) in [
            ("2026-11-29T23:59:59Z", "2026-11-29T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2024-02-01T00:00:00Z"),
            ("2025-03-01T12:00:00Z", "2025-03-01T00:00:00Z", "2025-03-01T00:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1969-12-31T23:00:00Z", "1969-12-31T00:00:00Z", "1969-12-01T00:00:00Z"),
        ] {
            let now: At = now.parse().unwrap();
            assert_eq!(Period::Day.began(now).to_string(), day);
            assert_eq!(Period::Month.began(now).to_string(), month);
        }
    }

    #[test]
    fn owners_are_written_and_read() {
        let key = Owner::Key(ApiKeyId::from_uuid(Uuid::from_u128(7)));
        let agent = Owner::Agent(AgentId::from_uuid(Uuid::from_u128(8)));
        for owner in [Owner::Tenant, key, agent] {
            assert_eq!(owner.to_string().parse(), Ok(owner));
        }
        assert_eq!("key:".parse::<Owner>(), Err(Unknown));
        assert_eq!("agent:x".parse::<Owner>(), Err(Unknown));
        assert_eq!("run:7".parse::<Owner>(), Err(Unknown));
        assert_eq!("Tenant".parse::<Owner>(), Err(Unknown));
    }

    #[test]
    fn cached_tokens_have_a_price_of_their_own() {
        let price =
            Price { input: MicroUsd::from_micros(3_000_000), output: MicroUsd::from_micros(15_000_000) };
        let used = |input, cache_read, cache_write, cache_write_long, output| Used {
            input,
            cache_read,
            cache_write,
            cache_write_long,
            output,
        };
        for (used, micros) in [
            (used(100, 0, 0, 0, 10), 300 + 150),
            (used(0, 1_000, 0, 0, 0), 300),
            (used(0, 0, 1_000, 0, 0), 3_750),
            (used(0, 0, 0, 1_000, 0), 6_000),
            (used(0, 1, 0, 0, 0), 3),
        ] {
            assert_eq!(used.cost(price), Ok(MicroUsd::from_micros(micros)), "{used:?}");
        }
        assert_eq!(used(u64::MAX, 0, 0, u64::MAX, 0).cost(price), Err(Overflow));
    }
}
