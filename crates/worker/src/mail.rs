//! What a node tells the run of a workload, and what it was told before: through the run's inbox and its journal.
//!
//! Invariant: what was told is durable before its teller hears so, and is told once for each key. The names are this server's own:
//! nobody can send a signal under one of them through the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use lantern_engine::{Arrival, Content, Fact, event, signal_key};
use lantern_ledger::Metered;
use lantern_policy::Scope;
use lantern_store::inbox::{self, Kept, NewInput, Put};
use lantern_store::metered::Came;
use lantern_store::seal::Place;
use lantern_store::{Db, InForce, Result, Vault, journal, record};
use lantern_types::edge::{Clock, IdGen};
use lantern_types::{Dur, InboxId, RunId};
use serde_json::{Value, json};

/// What is told to runs and read back.
#[derive(Clone)]
pub struct Mail {
    /// The database.
    pub db: Db,
    /// Seals and opens what is told.
    pub vault: Vault,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdGen>,
    /// The limits in force.
    pub limits: InForce,
}

/// How often to look whether what was told was taken in.
const LOOK: Dur = Dur::from_millis(20);
/// Appends that are read at once.
const PAGE: u32 = 256;

impl Mail {
    /// Tells a run `value` under a name and a key. `false` when it cannot keep more, or is over.
    pub async fn tell(&self, to: (Scope, RunId), (name, key): (&str, &str), value: Value) -> Result<bool> {
        let (scope, run) = to;
        let row = format!("signal-{}", signal_key(run, name, key));
        let value = json!({ "key": key, "value": value });
        let arrival = Arrival::Signal { name: name.to_owned(), value, key: Some(key.to_owned()) };
        let plain =
            serde_json::to_vec(&arrival).map_err(|error| lantern_store::Error::Corrupt(error.into()))?;
        let minted = (InboxId::from_uuid(self.ids.uuid()), self.clock.now());
        let new = NewInput::seal(self.vault.sealer(), scope, minted, (run, row), &plain).await?;
        let limits = self.limits.of(scope.tenant());
        if plain.len() as u64 > limits.signal_bytes_max {
            return Ok(false);
        }
        let most = Kept { count: limits.signals_per_run_max.into(), bytes: limits.signal_bytes_per_run_max };
        let rows = limits.inbox_rows_max;
        let put = self.db.write(scope, move |tx| Box::pin(inbox::put_signal(tx, new, rows, most))).await?;
        Ok(matches!(put, Put::Stored | Put::Duplicate))
    }

    /// Tells a run what a model call of its program came to. `false` when it takes no more in, or is over.
    pub async fn metered(&self, (scope, run): (Scope, RunId), metered: Metered, lost: bool) -> Result<bool> {
        let call = signal_key(run, "lantern:model", &metered.id.to_string());
        let Metered { provider, model, hold, came, .. } = metered;
        let Came { cost, tokens_in, tokens_out, .. } = came;
        let arrival = Arrival::Metered { call, provider, model, hold, cost, tokens_in, tokens_out, lost };
        let plain =
            serde_json::to_vec(&arrival).map_err(|error| lantern_store::Error::Corrupt(error.into()))?;
        let minted = (InboxId::from_uuid(self.ids.uuid()), self.clock.now());
        let new =
            NewInput::seal(self.vault.sealer(), scope, minted, (run, format!("metered-{call}")), &plain)
                .await?;
        let rows = self.limits.of(scope.tenant()).inbox_rows_max;
        let put = self.db.write(scope, move |tx| Box::pin(inbox::put(tx, new, rows))).await?;
        Ok(matches!(put, Put::Stored | Put::Duplicate))
    }

    /// Everything that a run was told under a name, by key: the first of each.
    pub async fn told(&self, to: (Scope, RunId), name: &str) -> Result<BTreeMap<String, Value>> {
        let (scope, run) = to;
        let mut told = BTreeMap::new();
        // The inbox first: what is taken in meanwhile is in the journal after that.
        let (_, waiting) = inbox::list(&self.db, scope, run).await?;
        let mut later = Vec::new();
        for row in waiting {
            let place = Place { purpose: "inbox", row: row.id.bytes() };
            let plain = self.vault.sealer().open(scope, place, &row.input).await?;
            if let Ok(Arrival::Signal { name: said, value, .. }) = serde_json::from_slice(&plain)
                && said == name
            {
                later.push(value);
            }
        }
        for value in self.signals(to, name).await?.into_iter().chain(later) {
            keep(&mut told, &value);
        }
        Ok(told)
    }

    /// A number that is another one when something came for a run or happened to it.
    pub async fn stands(&self, (scope, run): (Scope, RunId)) -> Result<(i64, i64)> {
        let head = journal::head(&self.db, scope, run).await?;
        Ok(head.map(|row| (row.version, row.pokes)).unwrap_or_default())
    }

    /// The values of all signals of this name that a run has taken in, in that order.
    pub async fn signals(&self, (scope, run): (Scope, RunId), name: &str) -> Result<Vec<Value>> {
        let mut came = Vec::new();
        let mut next = 1;
        loop {
            let page = journal::read(&self.db, scope, run, next, PAGE).await?;
            let full = page.len() == PAGE as usize;
            for stored in page {
                let body = record::open(&self.vault, scope, run, &stored).await?;
                let events = event::decode(&stored.bytes, body.as_deref());
                for event in events.map_err(|error| lantern_store::Error::Corrupt(error.into()))? {
                    if let (Fact::SignalReceived { name: said, .. }, Some(Content::Signal(value))) =
                        (event.fact, event.content)
                        && said == name
                    {
                        came.push(Value::clone(&value));
                    }
                }
                next = stored.first_seq + stored.n;
            }
            if !full {
                break;
            }
        }
        Ok(came)
    }

    /// Waits until nothing lies in a run's inbox, for so long at most: who ends a run's step waits for what the step told.
    pub async fn taken_in(&self, (scope, run): (Scope, RunId), within: Dur) {
        let until = self.clock.now() + within;
        while self.clock.now() < until {
            match inbox::list(&self.db, scope, run).await {
                Ok((_, waiting)) if !waiting.is_empty() => self.clock.sleep(LOOK).await,
                _ => return,
            }
        }
    }
}

fn keep(told: &mut BTreeMap<String, Value>, said: &Value) {
    if let (Some(key), Some(value)) = (said.get("key").and_then(Value::as_str), said.get("value")) {
        told.entry(key.to_owned()).or_insert_with(|| value.clone());
    }
}
