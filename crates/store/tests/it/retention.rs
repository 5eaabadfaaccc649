//! What is left of a run once its content is removed, whose content that is, and what nobody may do to a journal.

use std::sync::Arc;

use lantern_store::journal::{self, Append, NewRun, RunFilter};
use lantern_store::outbox::{Kind, NewOutbox};
use lantern_store::record::{self, Record};
use lantern_store::retention::{self, Preview, Round};
use lantern_store::testing::{Seeded, SeededIds, SetClock, seed};
use lantern_store::{Blobs, Db, Error, Keys, Sealer, Vault, db_test};
use lantern_types::*;

use crate::support::*;

const HOUR: Dur = Dur::from_secs(3_600);
const START: At = at(1_700_000_000_000_000);
const WORDS: &str = r#"{"team":"secret plans"}"#;

struct Stand {
    db: Db,
    seeded: Seeded,
    vault: Vault,
}

impl Stand {
    async fn new(db: &Db, n: u128) -> Self {
        let seeded = seed(db, tenant(n)).await.unwrap();
        let keys = Keys::from_ids(&SeededIds::new(1));
        let clock = Arc::new(SetClock::at(START));
        let sealer = Sealer::new(db.clone(), &keys, Arc::new(SeededIds::new(2)), clock).unwrap();
        Self { db: db.clone(), seeded, vault: Vault::new(sealer, Blobs::memory()) }
    }

    /// A run with these bodies, one an append, the last of which ends it then.
    async fn ended(&self, id: RunId, end: At, bodies: &[usize]) {
        self.with(id, Some(end), bodies, false).await;
    }

    async fn with(&self, id: RunId, end: Option<At>, bodies: &[usize], owes: bool) {
        let (scope, vault) = (self.seeded.scope, &self.vault);
        let (mut chain, mut held) = (ChainHead::genesis(), None);
        for (seq, size) in (1_i64..).zip(bodies) {
            let plain = (format!("{{\"seq\":{seq}}}\n").into_bytes(), (*size > 0).then(|| vec![7; *size]));
            let record = Record::seal(vault, scope, (id, seq), chain, plain).await.unwrap();
            chain = record.chain;
            let Some(claimed) = held.clone() else {
                let new = self.seeded.current().queued_run(id, record, START);
                create(&self.db, scope, NewRun { labels: WORDS.to_owned(), ..new }).await.unwrap();
                let claimed = claim_all(
                    &self.db,
                    process(self.seeded.scope.tenant().uuid().as_u128() << 64 | id.uuid().as_u128()),
                    START,
                )
                .await;
                held = claimed.into_iter().find(|claimed| claimed.run == id);
                continue;
            };
            let last = usize::try_from(seq).unwrap() == bodies.len();
            let mut append =
                Append { n: 1, bytes: record.bytes, body: record.body, chain, ..two_events(&claimed) };
            append.expected_version = seq - 1;
            append.projection.finished_at = end.filter(|_| last);
            if owes && last {
                let kind = Kind::Tell;
                let id = id.uuid();
                append.outbox =
                    vec![NewOutbox { id, key: "k".to_owned(), kind, payload: vec![1], due_at: START }];
            }
            journal::append(&self.db, scope, append).await.unwrap();
        }
    }

    async fn mark(&self, run: RunId, now: At) -> bool {
        self.db.write(self.seeded.scope, move |tx| Box::pin(retention::mark(tx, run, now))).await.unwrap()
    }

    /// The run's row and its appends, whose chain holds to the end that the row has.
    async fn checked(&self, run: RunId) -> (journal::RunRow, Vec<journal::Stored>) {
        let row = journal::head(&self.db, self.seeded.scope, run).await.unwrap().unwrap();
        let stored = journal::read(&self.db, self.seeded.scope, run, 1, 1_000).await.unwrap();
        let mut head = ChainHead::genesis();
        for append in &stored {
            head = record::verify(head, append).unwrap();
        }
        assert_eq!((head, stored.last().unwrap().first_seq), (row.chain, row.version));
        (row, stored)
    }

    async fn content(&self, run: RunId, stored: &[journal::Stored]) -> usize {
        let mut there = 0;
        for append in stored {
            let body = record::open(&self.vault, self.seeded.scope, run, append).await.unwrap();
            there += usize::from(body.is_some());
        }
        there
    }
}

db_test!(what_was_said_goes_and_the_chain_holds, async |db| {
    let stand = Stand::new(&db, 1).await;
    let many: Vec<usize> = (0..150).map(|n| if n == 3 { 100_000 } else { n % 5 }).collect();
    stand.ended(run(1), START + HOUR, &many).await;
    let (_, before) = stand.checked(run(1)).await;
    assert_eq!(stand.content(run(1), &before).await, 120);
    let now = START + HOUR.times(2);
    assert!(stand.mark(run(1), now).await);
    assert!(!stand.mark(run(1), now).await, "once");
    let bodies = retention::finish(&db, &stand.vault, stand.seeded.scope, run(1), now).await.unwrap();
    assert_eq!(bodies, 120);
    let (row, after) = stand.checked(run(1)).await;
    assert_eq!((row.content_removed_at, row.labels.as_str()), (Some(now), "{}"));
    assert_eq!(stand.content(run(1), &after).await, 0);
    for (was, is) in before.iter().zip(&after) {
        assert_eq!((&was.bytes, was.chain), (&is.bytes, is.chain), "the facts are as they were");
        assert_eq!(record::removed_at(is), was.body.as_ref().map(|_| now));
        assert!(is.body.as_ref().is_none_or(|body| body.len() == 41));
    }
    let large = record::open(&stand.vault, stand.seeded.scope, run(1), &before[3]).await;
    assert!(matches!(large, Err(Error::Missing(_))), "the blob is gone: {large:?}");
    let labelled = RunFilter {
        labels: vec![lantern_store::labels::Label {
            key: "team".to_owned(),
            value: "secret plans".to_owned(),
        }],
        limit: 9,
        ..RunFilter::default()
    };
    assert!(journal::list(&db, stand.seeded.scope, labelled).await.unwrap().is_empty());
    let gone =
        db.write(stand.seeded.scope, move |tx| Box::pin(journal::delete(tx, run(1), now))).await.unwrap();
    assert_eq!(gone, Some(vec![]), "it can be deleted, and names no blob");
});

db_test!(only_what_is_over_and_owes_nothing_loses_its_content, async |db| {
    let stand = Stand::new(&db, 1).await;
    stand.with(run(1), None, &[1, 1], false).await;
    stand.with(run(2), Some(START), &[1, 1], true).await;
    for id in [run(1), run(2), run(3)] {
        assert!(!stand.mark(id, START + HOUR).await, "{id}");
    }
    let round = retention::round(&db, &stand.vault, Some(HOUR), START + HOUR.times(9), 9).await.unwrap();
    assert_eq!(round, Round::default());
    let (_, stored) = stand.checked(run(2)).await;
    assert_eq!(stand.content(run(2), &stored).await, 2);
});

db_test!(a_round_keeps_to_each_tenants_time_and_to_its_limit, async |db| {
    let (one, two, three) = (Stand::new(&db, 1).await, Stand::new(&db, 2).await, Stand::new(&db, 3).await);
    for stand in [&one, &two, &three] {
        for n in 1..=3 {
            stand.ended(run(n), START + HOUR.times(u64::try_from(n).unwrap()), &[1, 10]).await;
        }
    }
    let keep = async |stand: &Stand, kept| {
        db.write(stand.seeded.scope, move |tx| Box::pin(retention::set_own(tx, kept, START))).await.unwrap();
        assert_eq!(retention::own(&db, stand.seeded.scope).await.unwrap(), kept);
    };
    keep(&two, Some(Some(HOUR))).await;
    keep(&three, Some(None)).await;
    assert_eq!(retention::own(&db, one.seeded.scope).await.unwrap(), None);
    let removed = async |stand: &Stand| {
        let filter = RunFilter { limit: 9, ..RunFilter::default() };
        let runs = journal::list(&db, stand.seeded.scope, filter).await.unwrap();
        runs.iter().filter(|run| run.content_removed_at.is_some()).count()
    };
    // Two hours and a bit after the start: of the second tenant one run is over for an hour.
    let now = START + HOUR.times(2) + Dur::from_secs(60);
    let cutoff = START + HOUR + Dur::from_secs(60);
    let found = retention::preview(&db, two.seeded.scope, cutoff).await.unwrap();
    let oldest = Some(START + HOUR);
    assert_eq!(
        found,
        Preview { runs: 1, oldest, newest: oldest, measured: 1, bodies: 2, bytes: found.bytes, large: 0 }
    );
    assert!((70..200).contains(&found.bytes), "two small bodies, sealed: {}", found.bytes);
    let round = retention::round(&db, &one.vault, None, now, 9).await.unwrap();
    assert_eq!(round, Round { runs: 1, bodies: 2, more: false });
    assert_eq!((removed(&one).await, removed(&two).await, removed(&three).await), (0, 1, 0));
    assert_eq!(retention::preview(&db, two.seeded.scope, cutoff).await.unwrap(), Preview::default());
    // Much later, with a time of the server's: nothing more than the limit at once, and nothing of who keeps all.
    let late = START + HOUR.times(100);
    let (mut rounds, mut runs) = (0, 0);
    loop {
        let round = retention::round(&db, &one.vault, Some(HOUR.times(10)), late, 2).await.unwrap();
        assert!(round.runs <= 2);
        (rounds, runs) = (rounds + 1, runs + round.runs);
        if !round.more {
            break;
        }
    }
    assert_eq!((runs, rounds), (5, 3));
    assert_eq!((removed(&one).await, removed(&two).await, removed(&three).await), (3, 3, 0));
    keep(&two, None).await;
});

db_test!(what_was_begun_is_gone_on_with, async |db| {
    let stand = Stand::new(&db, 1).await;
    stand.ended(run(1), START, &[1, 1, 1]).await;
    assert!(stand.mark(run(1), START + HOUR).await);
    // The process dies here.
    let round = retention::round(&db, &stand.vault, None, START + HOUR.times(2), 9).await.unwrap();
    assert_eq!(round, Round { runs: 0, bodies: 3, more: false });
    let (row, stored) = stand.checked(run(1)).await;
    assert_eq!(row.content_removed_at, Some(START + HOUR));
    assert!(stored.iter().all(|append| record::removed_at(append) == Some(START + HOUR)));
    let again = retention::round(&db, &stand.vault, None, START + HOUR.times(2), 9).await.unwrap();
    assert_eq!(again, Round::default());
});

/// The database itself refuses every other change, whoever forgot it.
#[test]
fn a_body_becomes_its_digest_and_nothing_else() {
    lantern_store::testing::on_postgres(async |db| {
        let stand = Stand::new(&db, 1).await;
        stand.ended(run(1), START, &[1, 100_000]).await;
        let (_, stored) = stand.checked(run(1)).await;
        let digest = |n: usize| Vault::digest(stored[n].body.as_ref().unwrap()).unwrap();
        let left = |digest: Digest, tag: u8| [&[tag][..], digest.bytes(), &7_i64.to_be_bytes()].concat();
        const BODY: &str =
            "UPDATE journal SET body = $4 WHERE tenant_id = $1 AND run_id = $2 AND first_seq = $3";
        let write = async |seq: i64, body: Vec<u8>| {
            let params = [run(1).into(), seq.into(), body.into()];
            db.write(stand.seeded.scope, move |tx| Box::pin(async move { tx.exec(BODY, &params).await }))
                .await
        };
        for (seq, body) in [
            (1, b"other".to_vec()),
            (1, Vec::new()),
            (1, left(digest(1), 2)),
            (1, left(digest(0), 0)),
            (1, left(digest(0), 3)),
            (1, [left(digest(0), 2), vec![0]].concat()),
            (2, left(digest(0), 2)),
        ] {
            assert!(write(seq, body.clone()).await.is_err(), "{seq} {body:?}");
        }
        const REST: [&str; 4] = [
            "UPDATE journal SET bytes = body WHERE tenant_id = $1",
            "UPDATE journal SET chain = chain WHERE tenant_id = $1",
            "UPDATE journal SET first_seq = first_seq + 1 WHERE tenant_id = $1",
            "UPDATE journal SET body = NULL WHERE tenant_id = $1",
        ];
        for sql in REST {
            let done = db
                .write(stand.seeded.scope, move |tx| Box::pin(async move { tx.exec(sql, &[]).await }))
                .await;
            assert!(done.is_err(), "{sql}");
        }
        assert_eq!(write(1, left(digest(0), 2)).await.unwrap(), 1);
        assert_eq!(write(2, left(digest(1), 2)).await.unwrap(), 1);
        assert!(write(1, left(digest(0), 2)).await.is_err(), "not even again");
        stand.checked(run(1)).await;
        let other = seed(&db, tenant(2)).await.unwrap();
        let done = db.write(other.scope, move |tx| {
            Box::pin(async move { tx.exec(BODY, &[run(1).into(), 1_i64.into(), vec![2].into()]).await })
        });
        assert_eq!(done.await.unwrap(), 0, "another tenant's");
    });
}

db_test!(two_who_meet_over_the_same_runs_both_know_of_more, async |db| {
    let stand = Stand::new(&db, 1).await;
    for n in 1..=8 {
        stand.ended(run(n), START + HOUR, &[1, 1]).await;
    }
    let now = START + HOUR.times(9);
    let round = || retention::round(&db, &stand.vault, Some(HOUR), now, 4);
    let (one, other) = tokio::join!(round(), round());
    let (one, other) = (one.unwrap(), other.unwrap());
    // Each found as many as it may take, whoever took them.
    assert!(one.more && other.more, "{one:?} {other:?}");
    assert!((4..=8).contains(&(one.runs + other.runs)), "{one:?} {other:?}");
    while round().await.unwrap().more {}
    assert_eq!(retention::preview(&db, stand.seeded.scope, now - HOUR).await.unwrap().runs, 0);
});
