//! Labels of runs, each a narrow row beside its run, and the search for what begins with a text.
//!
//! Invariant: the rows of a run are written and removed in the transaction that writes or removes the run, and say what its
//! own `labels` say. One index serves both questions: which runs have this label, and which labels begin so. Values are
//! bytes, because both databases order these alike.

use std::collections::BTreeMap;

use lantern_policy::Scope;
use lantern_types::*;
use uuid::Uuid;

use crate::db::{Db, TenantTx};
use crate::error::{Error, Result};

/// The fewest hexadecimal digits of an id that are looked for: with fewer it would be every run of hours.
const DIGITS_MIN: usize = 8;

/// One label of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// What a search found: all runs of each of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Runs of this agent.
    Agent(String),
    /// Runs with this label.
    Label(Label),
    /// Runs whose ids lie between these two, or are one of them.
    Ids(RunId, RunId),
}

const ADD: &str =
    "INSERT INTO run_labels (tenant_id, value, key, created_at, run_id) VALUES ($1, $2, $3, $4, $5)";
const REMOVE: &str = "DELETE FROM run_labels
    WHERE tenant_id = $1 AND value = $2 AND key = $3 AND created_at = $4 AND run_id = $5";
const OF_RUN: &str = "SELECT labels, created_at FROM runs WHERE tenant_id = $1 AND id = $2";
// Not as one comparison of pairs, for which SQLite goes through all rows that are equal to the last one.
const NEXT_KEY: &str = "SELECT value, key FROM run_labels WHERE tenant_id = $1 AND value = $2 AND key > $3
    ORDER BY key LIMIT 1";
const NEXT_VALUE: &str =
    "SELECT value, key FROM run_labels WHERE tenant_id = $1 AND value > $2 AND value < $3
    ORDER BY value, key LIMIT 1";
const AGENTS: &str =
    "SELECT name FROM agents WHERE tenant_id = $1 AND substr(name, 1, length(CAST($2 AS TEXT))) = $2
    ORDER BY name LIMIT $3";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ADD, REMOVE, OF_RUN, NEXT_KEY, NEXT_VALUE, AGENTS];

/// Writes the labels of a new run.
pub(crate) async fn add(tx: &mut TenantTx<'_>, run: RunId, at: At, labels: &str) -> Result<()> {
    for label in read(labels)? {
        tx.exec(ADD, &row(label, run, at)).await?;
    }
    Ok(())
}

/// Removes the labels of a run that is about to be deleted.
pub(crate) async fn remove(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    let Some(found) = tx.one(OF_RUN, &[run.into()]).await? else { return Ok(()) };
    let at = found.at("created_at")?;
    for label in read(&found.text("labels")?)? {
        tx.exec(REMOVE, &row(label, run, at)).await?;
    }
    Ok(())
}

/// What begins with this text: agents, values of labels, and the id of a run from its eighth digit on. `None` when that is
/// more than `most` agents and labels.
pub async fn search(db: &Db, scope: Scope, text: String, most: usize) -> Result<Option<Vec<Hit>>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut hits: Vec<Hit> = ids(&text).into_iter().collect();
            let most = most.saturating_add(hits.len());
            let limit = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1);
            for row in tx.all(AGENTS, &[text.as_str().into(), limit.into()]).await? {
                hits.push(Hit::Agent(row.text("name")?));
            }
            let (end, mut value, mut key) = (end(&text), text.into_bytes(), String::new());
            while hits.len() <= most {
                let mut next = tx.one(NEXT_KEY, &[value.clone().into(), key.into()]).await?;
                if next.is_none() {
                    next = tx.one(NEXT_VALUE, &[value.into(), end.clone().into()]).await?;
                }
                let Some(row) = next else { return Ok(Some(hits)) };
                (value, key) = (row.bytes("value")?, row.text("key")?);
                let text = String::from_utf8(value.clone()).map_err(|error| Error::Corrupt(error.into()))?;
                hits.push(Hit::Label(Label { key: key.clone(), value: text }));
            }
            Ok(None)
        })
    })
    .await
}

fn read(labels: &str) -> Result<Vec<Label>> {
    // What most runs have.
    if labels == "{}" {
        return Ok(Vec::new());
    }
    let read: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|error| Error::Internal(error.into()))?;
    Ok(read.into_iter().map(|(key, value)| Label { key, value }).collect())
}

fn row(label: Label, run: RunId, at: At) -> [crate::Value; 4] {
    [label.value.into_bytes().into(), label.key.into(), at.into(), run.into()]
}

/// The ids that begin with these digits, with or without their dashes.
fn ids(text: &str) -> Option<Hit> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let fits = (DIGITS_MIN..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let id = |fill: &str| {
        let whole = u128::from_str_radix(&format!("{digits}{}", fill.repeat(32 - digits.len())), 16);
        whole.ok().map(|id| RunId::from_uuid(Uuid::from_u128(id)))
    };
    if fits { Some(Hit::Ids(id("0")?, id("f")?)) } else { None }
}

/// The first bytes that come after everything that begins with this text. UTF-8 has no byte 0xFF, so the last one can grow.
fn end(text: &str) -> Vec<u8> {
    let mut end = text.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_their_first_digits() {
        let id = |text: &str| text.parse::<RunId>().unwrap();
        for (text, want) in [
            (
                "018f0000",
                Some(("018f0000-0000-0000-0000-000000000000", "018f0000-ffff-ffff-ffff-ffffffffffff")),
            ),
            (
                "018f0000-0000-7000-8000-000000000001",
                Some(("018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000001")),
            ),
            (
                "018F0000-00",
                Some(("018f0000-0000-0000-0000-000000000000", "018f0000-00ff-ffff-ffff-ffffffffffff")),
            ),
            ("018f000", None),
            ("digest-0", None),
            ("018f0000000000000000000000000000000", None),
            ("", None),
        ] {
            assert_eq!(ids(text), want.map(|(from, to)| Hit::Ids(id(from), id(to))), "{text}");
        }
    }

    #[test]
    fn a_text_ends_before_what_does_not_begin_with_it() {
        for (text, inside, outside) in
            [("a", "a\u{10ffff}", "b"), ("aé", "aéz", "aê"), ("z~", "z~~", "z\u{7f}")]
        {
            assert!(inside.as_bytes() < end(text).as_slice() && outside.as_bytes() >= end(text).as_slice());
        }
    }
}
