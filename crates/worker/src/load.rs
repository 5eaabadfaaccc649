//! Loading a claimed run: journal, chain, bodies, manifest, fold.

use std::sync::Arc;

use lantern_engine::{Event, Fact, Manifest, Run, Tally, approval, event};
use lantern_policy::Scope;
use lantern_receipts::Summary;
use lantern_store::journal::Stored;
use lantern_store::lease::Claimed;
use lantern_store::{journal, record, versions};
use lantern_types::approval::Asked;
use lantern_types::{ChainHead, RunId, VersionId};

use crate::Deps;

/// Why a run cannot be driven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unloadable {
    /// The store cannot answer now, or said something about the lease.
    #[error(transparent)]
    Store(#[from] lantern_store::Error),
    /// Nobody can read the run as it is: it is parked, never dropped.
    #[error("{0}")]
    Unreadable(String),
    /// Its rows are whole, and another build may know what they say: it is parked and left to that one.
    #[error("{0}")]
    Unknown(String),
}

/// A run with the head of its journal.
pub(crate) struct Loaded {
    pub(crate) run: Run,
    pub(crate) chain: ChainHead,
    /// What a receipt says of its events.
    pub(crate) summary: Summary,
    /// What of it is still to be counted.
    pub(crate) tally: Tally,
    /// The questions that are open in it.
    pub(crate) asked: Vec<Asked>,
}

/// Appends that are read at once.
const PAGE: u32 = 256;

/// Loads and folds a run.
pub(crate) async fn load(deps: &Deps, claimed: &Claimed) -> Result<Loaded, Unloadable> {
    whole(deps, (claimed.scope, claimed.run), claimed.journal.as_ref()).await
}

/// Loads and folds a run that is held already.
pub(crate) async fn as_it_stands(deps: &Deps, scope: Scope, run: RunId) -> Result<Loaded, Unloadable> {
    whole(deps, (scope, run), None).await
}

async fn whole(
    deps: &Deps,
    (scope, id): (Scope, RunId),
    journal: Option<&Stored>,
) -> Result<Loaded, Unloadable> {
    let Read { events, chain, summary, tally } = read(deps, (scope, id), journal).await?;
    let version = match events.first().map(|event| &event.fact) {
        Some(Fact::RunStarted { version, .. }) => *version,
        _ => return Err(Unloadable::Unreadable("the journal does not begin with a start".to_owned())),
    };
    let manifest = manifest(deps, scope, version).await?;
    let run = Run::fold(id, manifest, &events);
    let asked = approval::open(&run, &events);
    Ok(Loaded { run, chain, summary, tally, asked })
}

/// What a run's journal says.
struct Read {
    events: Vec<Event>,
    /// The chain after the last event, checked on the way.
    chain: ChainHead,
    summary: Summary,
    tally: Tally,
}

/// Every event of a run, and what is made of them append by append.
async fn read(
    deps: &Deps,
    (scope, id): (Scope, RunId),
    journal: Option<&Stored>,
) -> Result<Read, Unloadable> {
    let mut all = Read {
        events: Vec::new(),
        chain: ChainHead::genesis(),
        summary: Summary::default(),
        tally: Tally::default(),
    };
    let mut next = 1;
    loop {
        let page = match journal {
            Some(whole) => vec![whole.clone()],
            None => journal::read(&deps.db, scope, id, next, PAGE).await?,
        };
        let full = page.len() == PAGE as usize;
        for stored in page {
            if stored.format > deps.reader.format {
                return Err(Unloadable::Unknown(format!(
                    "event format {} is not known to this build",
                    stored.format
                )));
            }
            all.chain = record::verify(all.chain, &stored)?;
            if record::removed_at(&stored).is_some() {
                return Err(Unloadable::Unreadable("its content was removed".to_owned()));
            }
            let body = record::open(&deps.vault, scope, id, &stored).await?;
            let events = event::decode(&stored.bytes, body.as_deref())
                .map_err(|error| Unloadable::Unknown(error.to_string()))?;
            // Told when it was appended.
            drop(all.tally.append(&events));
            all.events.extend(events);
            // One that cannot be summed up is not: whoever seals the run sees that it has other events.
            drop(all.summary.read(&stored.bytes));
            next = stored.first_seq + stored.n;
        }
        if !full {
            return Ok(all);
        }
    }
}

/// A version's manifest.
pub(crate) async fn manifest(deps: &Deps, scope: Scope, id: VersionId) -> Result<Arc<Manifest>, Unloadable> {
    if let Some(kept) = deps.memo.manifest(scope, id) {
        return Ok(kept);
    }
    let version = versions::by_id(&deps.db, scope, id).await?;
    let version = version.ok_or_else(|| Unloadable::Unreadable("the agent's version is gone".to_owned()))?;
    let manifest: Manifest = serde_json::from_str(&version.manifest)
        .map_err(|error| Unloadable::Unknown(format!("the version's manifest cannot be read: {error}")))?;
    let manifest = Arc::new(manifest);
    deps.memo.keep_manifest(scope, id, manifest.clone());
    Ok(manifest)
}
