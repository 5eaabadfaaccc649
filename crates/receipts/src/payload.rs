//! What a receipt says, and the only bytes that say it.
//!
//! Invariant: members stand in the order of their names and there are no others; amounts are whole micro-dollars, and the
//! contract's `costUsd` beside them is the same amount in decimal digits.

use lantern_types::{At, Digest, MicroUsd, RunId, TenantId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::Invalid;

/// The form of receipts that this build writes.
pub const VERSION: u64 = 2;

/// What says that the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// Its last event.
    Event,
    /// Its row alone: nobody could read its journal to go on with it, and what was held is charged.
    Row,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Payload {
    /// The agent's name when the run started.
    pub agent_name: String,
    /// The digest of the agent's version that ran.
    pub agent_version: Digest,
    /// How many appends its journal has.
    pub appends: u64,
    /// The most that it could spend.
    pub cap_micro_usd: MicroUsd,
    /// The digest of the model catalogue that it was started under.
    pub catalogue: Digest,
    /// What it cost.
    pub cost_micro_usd: MicroUsd,
    /// The same in dollars.
    pub cost_usd: Usd,
    /// What says that it is over.
    pub ended_by: EndedBy,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// How many events its journal has.
    pub events: u64,
    /// When it was over.
    pub finished_at: Time,
    /// When this receipt was issued, which happens once.
    pub issued_at: Time,
    /// The head of the hash chain over its appends.
    pub journal_hash: Digest,
    /// The digest of the limits that it was started under.
    pub limits: Digest,
    /// The log that this receipt is a leaf of.
    pub log: String,
    /// Which leaf, the first being 0. Numbers have no gaps.
    pub log_index: u64,
    /// The model that answered, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Every model that answered, as `PROVIDER/MODEL`, in order of the alphabet.
    pub models: Vec<String>,
    /// The digests of the rules that decided, in order.
    pub policies: Vec<Digest>,
    /// The provider that answered, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The run.
    pub run_id: RunId,
    /// When it first did anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// How it ended.
    pub status: String,
    /// Whose run it is.
    pub tenant_id: TenantId,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// What vendors may have billed besides, and nobody knows.
    pub unconfirmed_micro_usd: MicroUsd,
    /// The form of this receipt.
    pub version: u64,
}

impl Payload {
    /// The bytes that are signed, and whose digest is the leaf.
    pub fn bytes(&self) -> Result<Vec<u8>, Invalid> {
        serde_json::to_vec(self).map_err(|_| Invalid::new("the payload cannot be written"))
    }
}

/// A time as it is always written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub At);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let at: At = text.parse().map_err(|_| de::Error::custom("no time"))?;
        if at.to_string() == text { Ok(Self(at)) } else { Err(de::Error::custom("a time in another form")) }
    }
}

/// An amount as a JSON number of dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub MicroUsd);

/// An amount in dollars, in as many digits as it takes: what JavaScript and Go write for the same number.
pub fn usd(amount: MicroUsd) -> String {
    let (sign, micros) = (if amount.micros() < 0 { "-" } else { "" }, amount.micros().unsigned_abs());
    let text = format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(usd(self.0)).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let amount = MicroUsd::parse_usd(raw.get());
        amount
            .filter(|amount| usd(*amount) == raw.get())
            .map(Self)
            .ok_or_else(|| de::Error::custom("no amount of dollars"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lantern_types::DEV_TENANT;

    pub(crate) fn payload() -> Payload {
        let (at, digest) = (At::from_micros(1_700_000_000_500_000), Digest::of(b"x"));
        Payload {
            agent_name: "digest \u{e9}\"".into(),
            agent_version: digest,
            appends: 1,
            cap_micro_usd: MicroUsd::from_micros(5_000_000),
            catalogue: digest,
            cost_micro_usd: MicroUsd::from_micros(1_230),
            cost_usd: Usd(MicroUsd::from_micros(1_230)),
            ended_by: EndedBy::Event,
            error_code: Some("step_failed".into()),
            events: 2,
            finished_at: Time(at),
            issued_at: Time(at),
            journal_hash: digest,
            limits: digest,
            log: "lantern/x".into(),
            log_index: 7,
            model: Some("m".into()),
            models: vec!["p/m".into()],
            policies: vec![digest],
            provider: Some("p".into()),
            run_id: RunId::from_uuid(DEV_TENANT.uuid()),
            started_at: Some(Time(at)),
            status: "failed".into(),
            tenant_id: DEV_TENANT,
            tokens_in: 1,
            tokens_out: 2,
            unconfirmed_micro_usd: MicroUsd::ZERO,
            version: VERSION,
        }
    }

    #[test]
    fn members_stand_in_order_and_read_back() {
        let bytes = payload().bytes().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(serde_json::from_slice::<Payload>(&bytes).unwrap(), payload());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        // A map without an order of its own is written in order of its names.
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert!(names.is_sorted() && names.len() == 28, "{names:?}");
        let places: Vec<usize> =
            names.iter().map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert!(text.contains("\"costUsd\":0.00123,"), "{text}");
    }

    #[test]
    fn dollars_have_one_form() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.000001"),
            (10, "0.00001"),
            (1_230, "0.00123"),
            (1_000_000, "1"),
            (12_500_000, "12.5"),
            (9_007_199_254_740_993, "9007199254.740993"),
        ] {
            assert_eq!(usd(MicroUsd::from_micros(micros)), text);
            assert_eq!(serde_json::from_str::<Usd>(text).unwrap(), Usd(MicroUsd::from_micros(micros)));
        }
        for other in ["0.0", "1e-6", "00", "1.50", "-1", "0.0000001", "\"1\"", "1.", ".5"] {
            assert!(serde_json::from_str::<Usd>(other).is_err(), "{other}");
        }
    }
}
