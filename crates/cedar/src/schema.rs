//! What there is to speak of: the effects of agents, who has them and on what, and the facts of each.
//!
//! `lantern.cedarschema`, beside the sources, says the same in Cedar's own words, for editors. Every fact is always there, so no
//! policy need ask whether it is.

use lantern_types::{At, EffectClass};

/// The same in Cedar's own language.
pub const SCHEMA: &str = include_str!("../lantern.cedarschema");

/// Kinds of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An agent, by name.
    Agent,
    /// An API key at the front doors, by id.
    Key,
    /// A person at the front doors, by id.
    Person,
    /// A provider of models, by its configured name.
    Provider,
    /// A model as `provider/model`; it is in its provider.
    Model,
    /// A tool, by name.
    Tool,
    /// A host; it is in the domains above it.
    Host,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Agent, Self::Key, Self::Person, Self::Provider, Self::Model, Self::Tool, Self::Host];

    /// Its name in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "Agent",
            Self::Key => "Key",
            Self::Person => "Person",
            Self::Provider => "Provider",
            Self::Model => "Model",
            Self::Tool => "Tool",
            Self::Host => "Host",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Kinds of effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A model is called.
    CallModel,
    /// Money is spent, on a model.
    Spend,
    /// A tool is called.
    CallTool,
    /// A connection is made to a host.
    ReachOut,
    /// Another agent is called.
    CallAgent,
}

/// The type of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FactType {
    Long,
    Text,
}

use FactType::{Long, Text};

/// What every effect has.
const ALWAYS: [(&str, FactType); 4] = [("agent", Text), ("hour", Long), ("spent", Long), ("weekday", Long)];

impl Action {
    pub(crate) const ALL: [Self; 5] =
        [Self::CallModel, Self::Spend, Self::CallTool, Self::ReachOut, Self::CallAgent];

    /// Its name in policies and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallModel => "call_model",
            Self::Spend => "spend",
            Self::CallTool => "call_tool",
            Self::ReachOut => "reach_out",
            Self::CallAgent => "call_agent",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Who has this effect.
    pub(crate) const fn principals(self) -> &'static [Kind] {
        match self {
            Self::CallModel | Self::Spend => &[Kind::Agent, Kind::Key, Kind::Person],
            Self::CallTool | Self::ReachOut | Self::CallAgent => &[Kind::Agent],
        }
    }

    /// On what.
    pub(crate) const fn resource(self) -> Kind {
        match self {
            Self::CallModel | Self::Spend => Kind::Model,
            Self::CallTool => Kind::Tool,
            Self::ReachOut => Kind::Host,
            Self::CallAgent => Kind::Agent,
        }
    }

    const fn own(self) -> &'static [(&'static str, FactType)] {
        match self {
            Self::CallModel => &[
                ("hold", Long),
                ("maxTokens", Long),
                ("model", Text),
                ("provider", Text),
                ("requestBytes", Long),
            ],
            Self::Spend => &[("amount", Long), ("model", Text), ("provider", Text)],
            Self::CallTool => &[("calls", Long), ("effect", Text), ("tool", Text)],
            Self::ReachOut => &[("host", Text)],
            Self::CallAgent => &[("target", Text)],
        }
    }

    /// Its facts.
    pub(crate) fn facts(self) -> impl Iterator<Item = (&'static str, FactType)> {
        ALWAYS.into_iter().chain(self.own().iter().copied())
    }

    pub(crate) fn fact(self, name: &str) -> Option<FactType> {
        self.facts().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }
}

/// Who has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// An agent, by name.
    Agent(&'a str),
    /// An API key, by id.
    Key(&'a str),
    /// A person, by id.
    Person(&'a str),
}

/// An effect, with its own facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A model is called.
    CallModel {
        /// `provider/model`.
        name: &'a str,
        /// The most that it could cost, in micro-dollars.
        hold: i64,
        /// Bytes of what is asked.
        request_bytes: u64,
        /// The most tokens that the answer may have.
        max_tokens: u64,
    },
    /// Money is spent, on a model.
    Spend {
        /// `provider/model`.
        name: &'a str,
        /// The most that it could be, in micro-dollars.
        amount: i64,
    },
    /// A tool is called.
    CallTool {
        /// Its name.
        name: &'a str,
        /// What it does outside.
        class: EffectClass,
        /// How often this run called it before.
        calls: u32,
    },
    /// A connection is made.
    ReachOut {
        /// The host: a name in small letters, or an address.
        host: &'a str,
    },
    /// Another agent is called.
    CallAgent {
        /// Its name.
        name: &'a str,
    },
}

impl<'a> Effect<'a> {
    /// Its kind.
    pub const fn action(&self) -> Action {
        match self {
            Self::CallModel { .. } => Action::CallModel,
            Self::Spend { .. } => Action::Spend,
            Self::CallTool { .. } => Action::CallTool,
            Self::ReachOut { .. } => Action::ReachOut,
            Self::CallAgent { .. } => Action::CallAgent,
        }
    }

    /// On what.
    pub const fn resource(&self) -> &'a str {
        match self {
            Self::CallModel { name, .. }
            | Self::Spend { name, .. }
            | Self::CallTool { name, .. }
            | Self::CallAgent { name } => name,
            Self::ReachOut { host } => host,
        }
    }
}

/// One question to policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Who has the effect.
    pub who: Who<'a>,
    /// What it is.
    pub effect: Effect<'a>,
    /// What its run spent before, in micro-dollars; nothing at the front doors, where there is no run.
    pub spent: i64,
    /// When.
    pub at: At,
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

impl<'a> Asked<'a> {
    /// A fact by its name.
    pub(crate) fn fact(&self, name: &str) -> Option<Fact<'a>> {
        let long = |n: u64| Fact::Long(i64::try_from(n).unwrap_or(i64::MAX));
        let seconds = self.at.micros().div_euclid(1_000_000);
        let agent = match self.who {
            Who::Agent(name) => name,
            Who::Key(_) | Who::Person(_) => "",
        };
        Some(match (name, self.effect) {
            ("agent", _) => Fact::Text(agent),
            ("spent", _) => Fact::Long(self.spent),
            // Hours and days of UTC; Monday is 1. The first day of all was a Thursday.
            ("hour", _) => Fact::Long(seconds.rem_euclid(DAY) / HOUR),
            ("weekday", _) => Fact::Long((seconds.div_euclid(DAY) + 3).rem_euclid(7) + 1),
            ("hold", Effect::CallModel { hold, .. }) => Fact::Long(hold),
            ("maxTokens", Effect::CallModel { max_tokens, .. }) => long(max_tokens),
            ("requestBytes", Effect::CallModel { request_bytes, .. }) => long(request_bytes),
            ("model", Effect::CallModel { name, .. } | Effect::Spend { name, .. }) => {
                Fact::Text(name.split_once('/').map_or("", |(_, model)| model))
            }
            ("provider", Effect::CallModel { name, .. } | Effect::Spend { name, .. }) => {
                Fact::Text(provider(name))
            }
            ("amount", Effect::Spend { amount, .. }) => Fact::Long(amount),
            ("calls", Effect::CallTool { calls, .. }) => Fact::Long(i64::from(calls)),
            ("effect", Effect::CallTool { class, .. }) => Fact::Text(word(class)),
            ("tool", Effect::CallTool { name, .. }) | ("target", Effect::CallAgent { name }) => {
                Fact::Text(name)
            }
            ("host", Effect::ReachOut { host }) => Fact::Text(host),
            _ => return None,
        })
    }
}

/// A fact's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact<'a> {
    Long(i64),
    Text(&'a str),
}

/// The provider of a model that is named `provider/model`.
pub(crate) fn provider(model: &str) -> &str {
    model.split_once('/').map_or("", |(provider, _)| provider)
}

/// Whether one thing is another or within it.
pub(crate) fn within((kind, id): (Kind, &str), (outer, of): (Kind, &str)) -> bool {
    if kind == outer && id == of {
        return true;
    }
    match (kind, outer) {
        (Kind::Model, Kind::Provider) => provider(id) == of && !of.is_empty(),
        (Kind::Host, Kind::Host) => {
            // No address is within another, however much their digits look like it.
            let above = id.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
            above && !of.is_empty() && id.parse::<std::net::IpAddr>().is_err()
        }
        _ => false,
    }
}

const fn word(class: EffectClass) -> &'static str {
    match class {
        EffectClass::Pure => "pure",
        EffectClass::Idempotent => "idempotent",
        EffectClass::Keyed => "keyed",
        EffectClass::Reconcilable => "reconcilable",
        EffectClass::Irreversible => "irreversible",
    }
}

/// A host as policies name it: small letters, no dot at the end.
pub fn host(named: &str) -> String {
    named.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_are_those_of_utc() {
        let effect = Effect::ReachOut { host: "h" };
        for (seconds, hour, weekday) in
            [(0, 0, 4), (86_399, 23, 4), (86_400, 0, 5), (-1, 23, 3), (1_790_000_000, 14, 1)]
        {
            let asked =
                Asked { who: Who::Agent("a"), effect, spent: 0, at: At::from_micros(seconds * 1_000_000) };
            assert_eq!(asked.fact("hour"), Some(Fact::Long(hour)), "{seconds}");
            assert_eq!(asked.fact("weekday"), Some(Fact::Long(weekday)), "{seconds}");
        }
    }

    #[test]
    fn a_host_is_within_its_domains_and_a_model_within_its_provider() {
        let host = |a, b| within((Kind::Host, a), (Kind::Host, b));
        for (a, b, want) in [
            ("api.example.com", "example.com", true),
            ("example.com", "example.com", true),
            ("notexample.com", "example.com", false),
            ("example.com", "api.example.com", false),
            ("api.example.com", "", false),
            ("10.0.0.1", "0.1", false),
        ] {
            assert_eq!(host(a, b), want, "{a} {b}");
        }
        assert!(within((Kind::Model, "openai/gpt-4o"), (Kind::Provider, "openai")));
        assert!(!within((Kind::Model, "openai2/gpt-4o"), (Kind::Provider, "openai")));
        assert!(!within((Kind::Model, "gpt-4o"), (Kind::Provider, "")));
    }

    /// Every fact that the table promises is there, with its type, and in Cedar's own words.
    #[test]
    fn the_facts_are_those_of_the_schema() {
        let effects = [
            Effect::CallModel { name: "p/m", hold: 1, request_bytes: 2, max_tokens: 3 },
            Effect::Spend { name: "p/m", amount: 1 },
            Effect::CallTool { name: "t", class: EffectClass::Pure, calls: 0 },
            Effect::ReachOut { host: "h" },
            Effect::CallAgent { name: "a" },
        ];
        for effect in effects {
            let asked = Asked { who: Who::Agent("a"), effect, spent: 0, at: At::from_micros(0) };
            let action = effect.action();
            let said = SCHEMA.split("action ").find(|part| part.starts_with(action.as_str())).unwrap();
            for (name, kind) in action.facts() {
                let found = asked.fact(name).unwrap();
                let word = match kind {
                    Long => "Long",
                    Text => "String",
                };
                assert_eq!(matches!(found, Fact::Long(_)), kind == Long, "{name}");
                assert!(said.contains(&format!("{name}: {word}")), "{} has no {name}", action.as_str());
            }
            assert_eq!(
                said.matches(": Long").count() + said.matches(": String").count(),
                action.facts().count()
            );
        }
    }
}
