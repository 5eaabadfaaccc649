//! One append to a log: the receipts of a group of runs, and the head over them.

use lantern_policy::Scope;
use lantern_receipts::note::Note;
use lantern_receipts::payload::{Time, Usd};
use lantern_receipts::{
    Checkpoint, EndedBy, Payload, Signer, Summary, VERSION, attestation, entry, merkle, tile,
};
use lantern_types::*;

use super::log;
use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::journal::SEALED;
use crate::value::{Row, Value};

/// Appends that are read at once.
const PAGE: u32 = 256;
/// The number of a run that can have no receipt.
const NONE: i64 = -1;

pub(super) const RUN: &str = "SELECT agent_name, status, version, chain, spent, held, tokens_in, tokens_out, started_at,
    finished_at, error_code FROM runs WHERE tenant_id = $1 AND id = $2 AND finished_at IS NOT NULL AND receipt IS NULL";
pub(super) const EVENTS: &str =
    "SELECT first_seq, bytes FROM journal WHERE tenant_id = $1 AND run_id = $2 AND first_seq > $3
    ORDER BY first_seq LIMIT $4";
pub(super) const KEEP: &str =
    "INSERT INTO receipts (tenant_id, run_id, log_index, log_size, payload, signature, public_key, attested, issued_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// What a run was, and what its events say of it; nothing of them when they cannot be read.
struct Found {
    run: RunId,
    row: Row,
    summary: Option<Summary>,
}

/// A log as it stands, and runs that are to be in it.
struct Stand {
    head: log::Head,
    /// The last signed head.
    note: Option<String>,
    edge: tile::Tiles,
    found: Vec<Found>,
}

/// Issues receipts for those of these runs that are over and have none. Answers how many, and for how many there can be none;
/// `None` when the tenant has no log yet. `Conflict`, and nothing written, when somebody else appended at the same time.
pub(super) async fn group(
    db: &Db,
    scope: Scope,
    runs: Vec<(RunId, Option<Summary>)>,
    (signer, now): (&Signer, At),
) -> Result<Option<(u32, u32)>> {
    let stand = db.read(scope, move |tx| Box::pin(stand(tx, runs))).await?;
    let Some(Stand { head, note, edge, found }) = stand else { return Ok(None) };
    let mut batch = Batch::new();
    let (mut receipts, mut entries, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for found in found {
        let index = head.size + entries.len() as u64;
        match payload(scope, &found, (&head.origin, index, now))? {
            Some(payload) => {
                let bytes = payload.bytes().map_err(Error::internal)?;
                entries.push(entry(&bytes));
                let signature = signer.sign(&bytes);
                let text = String::from_utf8(bytes).map_err(|_| Error::internal("a payload is text"))?;
                receipts.push((found.run, index, signature, text));
            }
            None => without.push(found.run),
        }
    }
    let counts = (count(receipts.len()), count(without.len()));
    if counts == (0, 0) {
        return Ok(Some(counts));
    }
    if !entries.is_empty() {
        if !stands(&head, note.as_deref(), &edge) {
            return Err(Error::Corrupt("the log's tiles are not those of its last signed head".into()));
        }
        let grown = tile::append(head.size, edge, &entries);
        let grown = grown.ok_or_else(|| Error::Corrupt("the log's tiles do not fit its size".into()))?;
        let (size, root) = (grown.size, grown.root);
        let note = Checkpoint { origin: head.origin, size, root }.sign(signer);
        log::grow(&mut batch, head.size, grown, (note, now))?;
        for (run, index, signature, text) in receipts {
            let attested = attestation::sign(&text, signer).map_err(Error::internal)?;
            let index = log::number(index)?;
            batch.add(SEALED, vec![run.into(), index.clone()], Expect::Rows(1));
            let key = signer.public().bytes().to_vec();
            let row = vec![
                run.into(),
                index,
                log::number(size)?,
                text.into(),
                signature.bytes().to_vec().into(),
                key.into(),
                attested.bytes().to_vec().into(),
                now.into(),
            ];
            batch.add(KEEP, row, Expect::Rows(1));
        }
    }
    for run in without {
        tracing::error!(%run, "the run gets no receipt: its journal cannot be read");
        batch.add(SEALED, vec![run.into(), Value::Int(NONE)], Expect::Rows(1));
    }
    db.submit(scope, batch).await?;
    Ok(Some(counts))
}

/// Whether these tiles are those that the last head was signed over: no head is signed that does not follow the one before.
fn stands(head: &log::Head, note: Option<&str>, edge: &tile::Tiles) -> bool {
    let Some(note) = note else { return head.size == 0 };
    let root = merkle::root(head.size, &mut |level, n| tile::find(edge, level, n));
    let signed = Note::parse(note).map(|note| note.checkpoint);
    signed.is_ok_and(|signed| {
        (&signed.origin, signed.size, Some(signed.root)) == (&head.origin, head.size, root)
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Everything that an append needs, in one snapshot. `None` when the tenant has no log yet.
async fn stand(tx: &mut TenantTx<'_>, runs: Vec<(RunId, Option<Summary>)>) -> Result<Option<Stand>> {
    let Some(head) = log::find_head(tx).await? else { return Ok(None) };
    let note = log::find_note(tx, None).await?;
    let edge = log::find_tiles(tx, tile::edge(head.size)).await?;
    let mut found = Vec::with_capacity(runs.len());
    for (run, told) in runs {
        let Some(row) = tx.one(RUN, &[run.into()]).await? else { continue };
        // Whoever drove it to its end has read every event already.
        let events = row.int("version")?.unsigned_abs();
        let summary = match told.filter(|told| told.events == events) {
            Some(told) => Some(told),
            None => summary(tx, run).await?,
        };
        found.push(Found { run, row, summary });
    }
    Ok(Some(Stand { head, note, edge, found }))
}

async fn summary(tx: &mut TenantTx<'_>, run: RunId) -> Result<Option<Summary>> {
    let (mut summary, mut after) = (Summary::default(), 0_i64);
    loop {
        let rows = tx.all(EVENTS, &[run.into(), after.into(), PAGE.into()]).await?;
        let more = rows.len() == PAGE as usize;
        for mut row in rows {
            after = row.int("first_seq")?;
            let bytes = row.take_bytes("bytes")?.unwrap_or_default();
            if summary.read(&bytes).is_err() {
                return Ok(None);
            }
        }
        if !more {
            return Ok(Some(summary));
        }
    }
}

/// What the receipt of a run says; `None` when its events cannot be read, or are not as many as its row says.
fn payload(scope: Scope, found: &Found, (log, index, now): (&str, u64, At)) -> Result<Option<Payload>> {
    let (row, run) = (&found.row, found.run);
    let Some((summary, start)) = found.summary.as_ref().and_then(|said| Some((said, said.start?))) else {
        return Ok(None);
    };
    if row.int("version")?.unsigned_abs() != summary.events {
        return Ok(None);
    }
    let cost = row.money("spent")?;
    let sole = summary.sole_model();
    Ok(Some(Payload {
        agent_name: row.text("agent_name")?,
        agent_version: start.manifest,
        appends: summary.appends,
        cap_micro_usd: start.cap,
        catalogue: start.catalogue,
        cost_micro_usd: cost,
        cost_usd: Usd(cost),
        ended_by: if summary.ended { EndedBy::Event } else { EndedBy::Row },
        error_code: row.opt_text("error_code")?,
        events: summary.events,
        finished_at: Time(row.at("finished_at")?),
        issued_at: Time(now),
        journal_hash: row.chain("chain")?.0,
        limits: start.limits,
        log: log.to_owned(),
        log_index: index,
        model: sole.map(|(_, model)| model.clone()),
        models: summary.models(),
        policies: summary.policies.iter().copied().collect(),
        provider: sole.map(|(provider, _)| provider.clone()),
        run_id: run,
        started_at: row.opt_at("started_at")?.map(Time),
        status: row.text("status")?,
        tenant_id: scope.tenant(),
        tokens_in: row.int("tokens_in")?.unsigned_abs(),
        tokens_out: row.int("tokens_out")?.unsigned_abs(),
        unconfirmed_micro_usd: row.money("held")?,
        version: VERSION,
    }))
}
