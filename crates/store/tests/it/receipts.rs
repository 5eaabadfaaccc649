//! Every run that is over gets a receipt, once, and what it gets can be checked with nothing but the published key.

use std::sync::Arc;

use lantern_receipts::{Checkpoint, EndedBy, File, Signer, merkle, note, tile};
use lantern_store::journal::{self, Append};
use lantern_store::receipts::{self, Issued, Notary};
use lantern_store::record::Record;
use lantern_store::testing::{Seeded, SeededIds, SetClock, seed};
use lantern_store::{Db, Keys, Sealer, Vault, db_test};
use lantern_types::*;

use crate::support::*;

const NOW: At = at(1_700_000_000_000_000);

fn sealer(db: &Db, n: u64) -> Sealer {
    let keys = Keys::from_ids(&SeededIds::new(1));
    Sealer::new(db.clone(), &keys, Arc::new(SeededIds::new(n)), Arc::new(SetClock::at(NOW))).unwrap()
}

fn notary(db: &Db) -> Notary {
    Notary::new(&sealer(db, 2), None)
}

fn started() -> Vec<u8> {
    let digest = Digest::of(b"x");
    format!(
        "{{\"seq\":1,\"at\":7,\"type\":\"RunStarted\",\"manifest\":\"{digest}\",\"cap\":50,\"policy\":\"{digest}\",\
         \"catalogue\":\"{digest}\",\"limits\":\"{digest}\"}}\n"
    )
    .into_bytes()
}

/// Runs of these numbers, each of two appends, that are over.
async fn ended(db: &Db, seeded: Seeded, runs: std::ops::Range<u128>) {
    for n in runs.clone() {
        let bytes = started();
        let chain = link(ChainHead::genesis(), &bytes, Digest::of(b""));
        let new = seeded.current().queued_run(run(n), Record { bytes, body: None, chain }, NOW);
        create(db, seeded.scope, new).await.unwrap();
    }
    let claimed = claim_all(db, process(runs.start), NOW).await;
    assert_eq!(claimed.len() as u128, runs.end - runs.start);
    for claimed in claimed {
        let bytes = b"{\"seq\":2,\"at\":9,\"type\":\"Paused\"}\n{\"seq\":3,\"at\":9,\"type\":\"Finished\"}\n"
            .to_vec();
        let chain = link(claimed.chain, &bytes, Vault::digest(b"\0body").unwrap());
        let mut append = Append { bytes, chain, body: Some(b"\0body".to_vec()), ..two_events(&claimed) };
        append.projection.status = "succeeded";
        append.projection.finished_at = Some(NOW);
        journal::append(db, seeded.scope, append).await.unwrap();
    }
}

/// The receipt as a file, checked by the key that the server publishes.
async fn checked(db: &Db, seeded: Seeded, n: u128, key: lantern_receipts::VerifyKey) -> (Issued, note::Note) {
    let issued = receipts::find(db, seeded.scope, run(n)).await.unwrap().unwrap();
    let stored = journal::read(db, seeded.scope, run(n), 1, 100).await.unwrap();
    let body = |body: &Option<Vec<u8>>| {
        body.as_deref().map_or_else(|| Digest::of(b""), |body| Vault::digest(body).unwrap())
    };
    let appends: Vec<_> = stored.into_iter().map(|append| (append.bytes, body(&append.body))).collect();
    let written = receipts::written(db, seeded.scope, &issued).await.unwrap().unwrap();
    let bytes = written.bytes(Some(&appends)).unwrap();
    let file = File::parse(&bytes).unwrap();
    let note = file.check().unwrap();
    file.check_chain().unwrap();
    assert_eq!(file.public_key, key);
    assert_eq!((file.payload.run_id, file.payload.log_index), (run(n), issued.index));
    (issued, note)
}

db_test!(runs_that_are_over_get_numbers_without_gaps, async |db| {
    let (seeded, notary) = (seed(&db, tenant(1)).await.unwrap(), notary(&db));
    assert_eq!(notary.round(NOW, 500).await.unwrap(), receipts::Round::default());
    assert_eq!(receipts::head(&db, seeded.scope).await.unwrap(), None);
    let (mut heads, mut seen) = (Vec::new(), Vec::new());
    for (from, to) in [(0, 1), (1, 4), (4, 200), (200, 275)] {
        ended(&db, seeded, from..to).await;
        let mut issued = 0;
        loop {
            let round = notary.round(NOW, 100).await.unwrap();
            issued += round.issued;
            if !round.more {
                break;
            }
        }
        assert_eq!(u128::from(issued), to - from);
        let text = receipts::checkpoint(&db, seeded.scope, None).await.unwrap().unwrap();
        heads.push(note::Note::parse(&text).unwrap().checkpoint);
    }
    let key = notary.published().await.unwrap()[0].key;
    for n in [0, 1, 3, 100, 255, 256, 269, 274] {
        seen.push(checked(&db, seeded, n, key).await.0.index);
    }
    let all = receipts::list(&db, seeded.scope, None, 1_000).await.unwrap();
    let mut numbers: Vec<u64> = all.iter().map(|issued| issued.index).collect();
    numbers.reverse();
    assert_eq!(numbers, (0..275).collect::<Vec<_>>());
    // Every head follows the one before it.
    for (from, to) in heads.iter().zip(heads.iter().skip(1)) {
        let proof = receipts::consistency(&db, seeded.scope, from.size, to.size).await.unwrap().unwrap();
        assert!(merkle::follows((from.size, from.root), (to.size, to.root), &proof));
    }
    assert_eq!(receipts::consistency(&db, seeded.scope, 5, 276).await.unwrap(), None);
    assert_eq!(receipts::inclusion(&db, seeded.scope, 275, 275).await.unwrap(), None);
    // What is served are the entries themselves.
    let entries = tile::Tile { kind: tile::Kind::Entries, n: 1 };
    let held = receipts::tile(&db, seeded.scope, entries, 19).await.unwrap().unwrap();
    let first = all.iter().find(|issued| issued.index == 256).unwrap();
    assert_eq!(&held[..32], lantern_receipts::entry(first.payload.as_bytes()).bytes());
    assert_eq!(receipts::tile(&db, seeded.scope, entries, 20).await.unwrap(), None);
    let again = notary.round(NOW, 500).await.unwrap();
    assert_eq!(again, receipts::Round::default(), "once");
});

db_test!(notaries_at_the_same_time_issue_one_receipt_each, async |db| {
    let seeded = seed(&db, tenant(2)).await.unwrap();
    ended(&db, seeded, 0..60).await;
    let (one, two) = (notary(&db), Notary::new(&sealer(&db, 3), None));
    let rounds =
        futures_util::future::join_all((0..6).flat_map(|_| [one.round(NOW, 40), two.round(NOW, 40)]));
    for round in rounds.await {
        // Losing a race too often is told, and the next round has what is left.
        if let Err(error) = round {
            assert!(error.is_transient(), "{error}");
        }
    }
    while one.round(NOW, 40).await.unwrap().issued > 0 {}
    let keys = one.published().await.unwrap();
    assert_eq!(keys.len(), 1, "both sign with the key that came first");
    let all = receipts::list(&db, seeded.scope, None, 1_000).await.unwrap();
    assert_eq!(all.len(), 60);
    assert_eq!(all.first().map(|issued| issued.index), Some(59));
    for n in 0..60 {
        checked(&db, seeded, n, keys[0].key).await;
    }
});

db_test!(another_key_signs_from_now_on_and_the_old_receipts_stay_good, async |db| {
    let (seeded, notary) = (seed(&db, tenant(3)).await.unwrap(), notary(&db));
    ended(&db, seeded, 0..2).await;
    notary.round(NOW, 10).await.unwrap();
    let old = notary.published().await.unwrap()[0];
    let (new, own) = notary.rotate().await.unwrap();
    assert!(!own);
    ended(&db, seeded, 2..3).await;
    // A process that had the old key opened signs with the new one too.
    notary.round(NOW, 10).await.unwrap();
    let published = notary.published().await.unwrap();
    assert_eq!(published.iter().map(|key| key.until.is_some()).filter(|until| *until).count(), 1);
    checked(&db, seeded, 0, old.key).await;
    checked(&db, seeded, 2, new).await;
    // The operator's own key, which is in no row.
    let seed = Secret::new([7; 32]);
    let own = Notary::new(&sealer(&db, 4), Some(&seed));
    ended(&db, seeded, 3..4).await;
    own.round(NOW, 10).await.unwrap();
    checked(&db, seeded, 3, Signer::new(&seed).public()).await;
    assert!(own.rotate().await.is_err(), "it is the operator who has another");
    ended(&db, seeded, 4..5).await;
    assert!(notary.round(NOW, 10).await.is_err(), "who does not have it does not sign with another");
    own.round(NOW, 10).await.unwrap();
    checked(&db, seeded, 4, Signer::new(&seed).public()).await;
    // Without the operator's key another can be made, and whoever makes it is told what was replaced.
    let (made, own) = notary.rotate().await.unwrap();
    assert!(own);
    ended(&db, seeded, 5..6).await;
    notary.round(NOW, 10).await.unwrap();
    checked(&db, seeded, 5, made).await;
});

// More of the tenant's runs are due than a round has room for, and all of them before the other tenant's.
db_test!(a_log_that_is_damaged_is_not_signed_and_holds_nobody_up, async |db| {
    let (damaged, notary) = (seed(&db, tenant(7)).await.unwrap(), notary(&db));
    let (other, third) = (seed(&db, tenant(8)).await.unwrap(), seed(&db, tenant(9)).await.unwrap());
    ended(&db, damaged, 0..2).await;
    notary.round(NOW, 10).await.unwrap();
    let kept = receipts::checkpoint(&db, damaged.scope, None).await.unwrap();
    ended(&db, damaged, 2..8).await;
    // Hashes that are others, that are cut short, and that are gone.
    for hashes in [vec![7; 64], vec![7; 32], vec![]] {
        let damage = "UPDATE log_tiles SET hashes = $2 WHERE tenant_id = $1 AND kind = 0";
        let changed = db
            .write(damaged.scope, move |tx| Box::pin(async move { tx.exec(damage, &[hashes.into()]).await }));
        assert_eq!(changed.await.unwrap(), 1);
        assert!(notary.round(NOW, 4).await.is_err(), "there are only such");
        assert_eq!(receipts::checkpoint(&db, damaged.scope, None).await.unwrap(), kept);
    }
    ended(&db, other, 10..12).await;
    ended(&db, third, 12..13).await;
    let round = notary.round(NOW, 4).await.unwrap();
    assert_eq!((round.issued, round.more), (3, false));
    assert!(receipts::inclusion(&db, damaged.scope, 0, 2).await.is_err(), "damage is no answer");
    assert_eq!(receipts::inclusion(&db, damaged.scope, 2, 2).await.unwrap(), None);
    assert_eq!(receipts::find(&db, damaged.scope, run(2)).await.unwrap(), None);
});

db_test!(a_run_that_cannot_be_read_gets_none_and_holds_nobody_up, async |db| {
    let (seeded, notary) = (seed(&db, tenant(4)).await.unwrap(), notary(&db));
    create(&db, seeded.scope, new_run(seeded, run(0), NOW)).await.unwrap();
    let claimed = claim_all(&db, process(9), NOW).await.remove(0);
    let mut append = two_events(&claimed);
    append.projection.finished_at = Some(NOW);
    journal::append(&db, seeded.scope, append).await.unwrap();
    ended(&db, seeded, 1..3).await;
    let round = notary.round(NOW, 10).await.unwrap();
    assert_eq!((round.issued, round.unreadable), (2, 1));
    assert_eq!(notary.receipt(seeded.scope, run(0), NOW).await.unwrap(), None);
    assert_eq!(notary.round(NOW, 10).await.unwrap(), receipts::Round::default());
});

db_test!(a_receipt_can_be_had_at_once_by_its_tenant_alone, async |db| {
    let (seeded, notary) = (seed(&db, tenant(5)).await.unwrap(), notary(&db));
    let other = seed(&db, tenant(6)).await.unwrap();
    ended(&db, seeded, 0..1).await;
    assert_eq!(notary.receipt(other.scope, run(0), NOW).await.unwrap(), None);
    assert_eq!(receipts::find(&db, seeded.scope, run(0)).await.unwrap(), None);
    let issued = notary.receipt(seeded.scope, run(0), NOW).await.unwrap().unwrap();
    assert_eq!(notary.receipt(seeded.scope, run(0), at(1)).await.unwrap(), Some(issued.clone()), "once");
    assert_eq!(receipts::find(&db, other.scope, run(0)).await.unwrap(), None);
    assert_eq!(receipts::checkpoint(&db, other.scope, None).await.unwrap(), None);
    let payload: lantern_receipts::Payload = serde_json::from_str(&issued.payload).unwrap();
    assert_eq!((payload.ended_by, payload.events, payload.appends), (EndedBy::Event, 3, 2));
    assert_eq!(
        (payload.cap_micro_usd, payload.cost_micro_usd),
        (MicroUsd::from_micros(50), MicroUsd::from_micros(5))
    );
    // A run that is deleted takes its receipt along, and leaves its number.
    let gone = db.write(seeded.scope, |tx| Box::pin(journal::delete(tx, run(0), NOW))).await.unwrap();
    assert!(gone.is_some());
    assert_eq!(receipts::find(&db, seeded.scope, run(0)).await.unwrap(), None);
    ended(&db, seeded, 1..2).await;
    let next = notary.receipt(seeded.scope, run(1), NOW).await.unwrap().unwrap();
    assert_eq!((next.index, next.size), (1, 2));
    let text = receipts::checkpoint(&db, seeded.scope, None).await.unwrap().unwrap();
    let Checkpoint { origin, size, .. } = note::Note::parse(&text).unwrap().checkpoint;
    assert_eq!(size, 2);
    assert!(origin.ends_with(&tenant(5).to_string()), "{origin}");
});
