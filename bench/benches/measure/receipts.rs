//! Receipts: how long it takes to check the longest of runs, and to prove a leaf of a long log.

use anyhow::{Context as _, Result};
use lantern_bench::{Amount, Bar, Line};
use lantern_receipts::payload::{Time, Usd};
use lantern_receipts::{Checkpoint, EndedBy, Payload, Signer, VERSION, Written, entry, merkle, tile};
use lantern_types::{At, ChainHead, DEV_TENANT, Digest, Limits, MicroUsd, RunId, Secret, link};
use lantern_verify::verify;

use crate::Bench;

/// Events of the run that is checked.
const EVENTS: u64 = 100_000;
/// Leaves of the log in which one is proved.
const LEAVES: u64 = 10_000_000;
/// Checks and proofs, of which the median counts.
const ROUNDS: usize = 7;

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    Ok(vec![check(bench).await?, prove(bench).await?])
}

/// A whole check, beside SHA-256 and a JSON parser on the same bytes.
async fn check(bench: &Bench) -> Result<Line> {
    let (file, key) = long()?;
    let (mut checks, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (millis, ()) =
            bench.millis(async { verify(&file, Some(&[key])).map(drop).context("a true file") }).await?;
        checks.push(millis);
        let (millis, _) = bench
            .millis(async {
                let digest = Digest::of(&file);
                let value: serde_json::Value = serde_json::from_slice(&file)?;
                Ok((digest, value))
            })
            .await?;
        bare.push(millis);
    }
    let (checked, bare) = (median(checks), median(bare));
    let limit = "SHA-256 and a JSON parser on the same bytes";
    #[expect(clippy::cast_precision_loss, reason = "shown in MB")]
    let size = file.len() as f64 / 1e6;
    Ok(Line::figure("checking a receipt of 100,000 events", Amount::new(checked, "ms"))
        .against(limit, Amount::new(bare, "ms"), Some(Bar::AtMost(2.0)))
        .note(format!("{size:.1} MB: form, chain, signatures, proof, ledger, and every decision again; median of {ROUNDS}")))
}

/// A receipt of a run of as many events as that: tool calls, admitted and settled one after another.
fn long() -> Result<(Vec<u8>, lantern_receipts::VerifyKey)> {
    let (policy, catalogue) = (lantern_policy::digest(), lantern_policy::Catalogue::builtin()?.digest());
    let (limits, other) = (Limits::default().digest(), Digest::of(b"a manifest"));
    let facts = "{\"cap\":5000000,\"spent\":0,\"held\":0,\"requestBytes\":0,\"maxTokens\":0,\"calls\":";
    let mut events = vec![format!(
        "\"type\":\"RunStarted\",\"agent\":\"{DEV_TENANT}\",\"version\":\"{DEV_TENANT}\",\"manifest\":\"{other}\",\
         \"program\":\"agent\",\"depth\":0,\"cap\":5000000,\"policy\":\"{policy}\",\"catalogue\":\"{catalogue}\",\
         \"limits\":\"{limits}\"}}"
    )];
    for n in 0..EVENTS / 3 {
        let step = format!("\"step\":\"llm-1.tool-{n}\"");
        events.push(format!(
            "\"type\":\"StepRequested\",{step},\"kind\":\"tool\",\"name\":\"calc\",\"effect\":\"pure\",\"request\":\"{other}\"}}"
        ));
        events.push(format!(
            "\"type\":\"StepAdmitted\",{step},\"generation\":1,\"attempt\":1,\"grant\":{{\"hold\":0,\"facts\":{facts}{n}}},\
             \"policy\":\"{policy}\",\"catalogue\":\"{catalogue}\",\"limits\":\"{limits}\"}}}}"
        ));
        events.push(format!(
            "\"type\":\"StepSettled\",{step},\"kind\":\"tool\",\"name\":\"calc\",\"generation\":1,\"attempt\":1,\"cost\":0,\
             \"tokensIn\":0,\"tokensOut\":0,\"output\":\"{other}\"}}"
        ));
    }
    events.push(format!("\"type\":\"Finished\",\"outcome\":\"succeeded\",\"output\":\"{other}\"}}"));
    let at = 1_700_000_000_000_000_i64;
    let lines: Vec<String> =
        events.iter().zip(1..).map(|(event, seq)| format!("{{\"seq\":{seq},\"at\":{at},{event}\n")).collect();
    // A decision is an append: what came back, and what was asked for and admitted next.
    let appends: Vec<(Vec<u8>, Digest)> =
        lines.chunks(3).map(|some| (some.concat().into_bytes(), Digest::of(b"a body"))).collect();
    let head = appends.iter().fold(ChainHead::genesis(), |head, (lines, body)| link(head, lines, *body));
    let signer = Signer::new(&Secret::new([7; 32]));
    let time = Time(At::from_micros(at));
    let payload = Payload {
        agent_name: "long".to_owned(),
        agent_version: other,
        appends: appends.len() as u64,
        cap_micro_usd: MicroUsd::from_micros(5_000_000),
        catalogue,
        cost_micro_usd: MicroUsd::ZERO,
        cost_usd: Usd(MicroUsd::ZERO),
        ended_by: EndedBy::Event,
        error_code: None,
        events: lines.len() as u64,
        finished_at: time,
        issued_at: time,
        journal_hash: head.0,
        limits,
        log: "lantern/bench".to_owned(),
        log_index: 0,
        model: None,
        models: Vec::new(),
        policies: vec![policy],
        provider: None,
        run_id: RunId::from_uuid(DEV_TENANT.uuid()),
        started_at: Some(time),
        status: "succeeded".to_owned(),
        tenant_id: DEV_TENANT,
        tokens_in: 0,
        tokens_out: 0,
        unconfirmed_micro_usd: MicroUsd::ZERO,
        version: VERSION,
    };
    let payload = payload.bytes()?;
    let root = merkle::leaf(entry(&payload).bytes());
    let checkpoint = Checkpoint { origin: "lantern/bench".to_owned(), size: 1, root }.sign(&signer);
    let written = Written {
        signature: signer.sign(&payload),
        key: signer.public(),
        payload,
        proof: Vec::new(),
        checkpoint,
    };
    Ok((written.bytes(Some(&appends))?, signer.public()))
}

/// A proof from the tiles of a long log, all of which are in memory: the rest is a handful of rows by their key.
async fn prove(bench: &Bench) -> Result<Line> {
    let entries: Vec<Digest> = (0..LEAVES).map(|n| Digest::of(&n.to_be_bytes())).collect();
    let grown = tile::append(0, tile::Tiles::new(), &entries).context("a new log")?;
    let (mut times, mut longest, mut most) = (Vec::new(), 0, 0);
    for n in 0..ROUNDS as u64 {
        let index = (n * 1_428_571 + 17) % LEAVES;
        let (millis, proof) = bench
            .millis(async {
                let needed = tile::needed(|nodes| merkle::inclusion(index, LEAVES, nodes));
                let some: tile::Tiles =
                    needed.iter().filter_map(|tile| Some((*tile, grown.tiles.get(tile)?.clone()))).collect();
                let proof = merkle::inclusion(index, LEAVES, &mut |level, n| tile::find(&some, level, n));
                Ok((proof.context("a proof")?, some.len()))
            })
            .await?;
        times.push(millis);
        longest = longest.max(proof.0.len());
        most = most.max(proof.1);
    }
    let slowest = times.into_iter().fold(0.0, f64::max);
    Ok(Line::figure("a proof in a log of 10,000,000 receipts", Amount::new(slowest, "ms"))
        .against("allowed", Amount::new(5.0, "ms"), Some(Bar::AtMost(1.0)))
        .note(format!("the slowest of {ROUNDS}; {longest} hashes of 30 allowed, from {most} tiles")))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
