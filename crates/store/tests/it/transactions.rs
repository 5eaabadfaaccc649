//! The three doors: what commits together, what is undone alone, and what is refused.

use futures_util::future::join_all;
use lantern_store::system::{find_setting, keep_setting};
use lantern_store::testing::{Seeded, seed};
use lantern_store::{Batch, Db, Error, Expect, db_test};

use crate::support::*;

const KEEP: &str =
    "INSERT INTO subject_keys (tenant_id, subject, wrapped, created_at) VALUES ($1, $2, $3, $4)";
const COUNT: &str = "SELECT count(*) AS n FROM subject_keys WHERE tenant_id = $1";
const SUM: &str = "SELECT CAST(sum(created_at) AS BIGINT) AS n FROM subject_keys WHERE tenant_id = $1";
const ADD: &str =
    "UPDATE subject_keys SET created_at = created_at + $3 WHERE tenant_id = $1 AND subject = $2";

async fn ready(db: &Db) -> Seeded {
    seed(db, tenant(1)).await.unwrap()
}

async fn keep(db: &Db, seeded: Seeded, subject: String) -> Result<u64, Error> {
    db.write(seeded.scope, move |tx| {
        Box::pin(async move { tx.exec(KEEP, &[subject.into(), vec![1].into(), 1_i64.into()]).await })
    })
    .await
}

async fn number(db: &Db, seeded: Seeded, sql: &'static str) -> i64 {
    let row = db.read(seeded.scope, move |tx| Box::pin(async move { tx.one(sql, &[]).await })).await;
    row.unwrap().unwrap().opt_int("n").unwrap().unwrap_or(0)
}

db_test!(a_crowd_commits_and_a_poisoned_job_hurts_only_itself, async |db| {
    let seeded = ready(&db).await;
    keep(&db, seeded, "taken".to_owned()).await.unwrap();
    let jobs = (0..256).map(async |n| match n {
        13 => keep(&db, seeded, "taken".to_owned()).await.map(drop),
        // Undone after it had written: the others of its group must not notice.
        100 => {
            let broken = db.write(seeded.scope, |tx| {
                Box::pin(async move {
                    tx.exec(KEEP, &["half".into(), vec![1].into(), 1_i64.into()]).await?;
                    Err::<(), _>(Error::Misuse("on purpose".to_owned()))
                })
            });
            broken.await
        }
        n => keep(&db, seeded, format!("job-{n}")).await.map(drop),
    });
    let outcomes = join_all(jobs).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            13 => assert!(matches!(outcome, Err(Error::Conflict)), "{outcome:?}"),
            100 => assert!(matches!(outcome, Err(Error::Misuse(_))), "{outcome:?}"),
            _ => assert!(outcome.is_ok(), "job {n}: {outcome:?}"),
        }
    }
    assert_eq!(number(&db, seeded, COUNT).await, 255);
});

db_test!(an_error_undoes_the_whole_transaction_even_when_swallowed, async |db| {
    let seeded = ready(&db).await;
    keep(&db, seeded, "taken".to_owned()).await.unwrap();
    let swallowed = db
        .write(seeded.scope, |tx| {
            Box::pin(async move {
                tx.exec(KEEP, &["first".into(), vec![1].into(), 1_i64.into()]).await?;
                let refused = tx.exec(KEEP, &["taken".into(), vec![1].into(), 1_i64.into()]).await;
                assert!(matches!(refused, Err(Error::Conflict)));
                Ok(())
            })
        })
        .await;
    assert!(matches!(swallowed, Err(Error::Misuse(_))), "{swallowed:?}");
    assert_eq!(number(&db, seeded, COUNT).await, 1);
});

db_test!(a_batch_is_all_or_nothing, async |db| {
    let seeded = ready(&db).await;
    keep(&db, seeded, "a".to_owned()).await.unwrap();
    let batch = |subject: &str, expect| {
        let mut batch = Batch::new();
        batch.add(KEEP, vec![format!("new-{subject}").into(), vec![1].into(), 1_i64.into()], Expect::Rows(1));
        batch.add(ADD, vec![subject.into(), 10_i64.into()], expect);
        batch
    };
    assert_eq!(db.submit(seeded.scope, batch("a", Expect::Rows(1))).await.unwrap(), [1, 1]);
    assert_eq!(db.submit(seeded.scope, batch("b", Expect::Any)).await.unwrap(), [1, 0]);
    for (subject, expect) in [("c", Expect::Rows(1)), ("a", Expect::Rows(2)), ("a", Expect::Rows(0))] {
        let refused = db.submit(seeded.scope, batch(subject, expect)).await;
        assert!(matches!(refused, Err(Error::Conflict)), "{subject} {expect:?}: {refused:?}");
    }
    assert_eq!(number(&db, seeded, COUNT).await, 3);
    assert_eq!(number(&db, seeded, SUM).await, 1 + 10 + 1 + 1);
});

db_test!(a_mistake_in_a_later_statement_undoes_the_earlier_ones, async |db| {
    let seeded = ready(&db).await;
    let row = |name: &str| vec![name.into(), vec![1].into(), 1_i64.into()];
    let too_few = vec!["b".into(), vec![1].into()];
    for wrong in [too_few, row("zero \0 character")] {
        let mut batch = Batch::new();
        batch.add(KEEP, row("a"), Expect::Rows(1));
        batch.add(KEEP, wrong, Expect::Rows(1));
        let refused = db.submit(seeded.scope, batch).await;
        assert!(matches!(refused, Err(Error::Misuse(_))), "{refused:?}");
        assert_eq!(number(&db, seeded, COUNT).await, 0);
    }
});

db_test!(a_refused_batch_in_a_crowd_is_undone_alone, async |db| {
    let seeded = ready(&db).await;
    let jobs = (0..64).map(async |n: u32| {
        if n.is_multiple_of(5) {
            return keep(&db, seeded, format!("closure-{n}")).await.is_ok();
        }
        let mut batch = Batch::new();
        let row = |name: String| vec![name.into(), vec![1].into(), 1_i64.into()];
        batch.add(KEEP, row(format!("batch-{n}")), Expect::Rows(1));
        // Three of them write first and only then find out that they must not.
        let subject = if [7, 21, 42].contains(&n) { "nobody".to_owned() } else { format!("batch-{n}") };
        batch.add(ADD, vec![subject.into(), 1_i64.into()], Expect::Rows(1));
        db.submit(seeded.scope, batch).await.is_ok()
    });
    let outcomes = join_all(jobs).await;
    let refused: Vec<_> =
        (0..).zip(&outcomes).filter(|(_, fine)| !**fine).map(|(n, _)| n).collect::<Vec<i32>>();
    assert_eq!(refused, [7, 21, 42]);
    assert_eq!(number(&db, seeded, COUNT).await, 61);
});

db_test!(no_update_is_lost_in_a_crowd, async |db| {
    let seeded = ready(&db).await;
    keep(&db, seeded, "sum".to_owned()).await.unwrap();
    let adds = (0..200).map(async |n: u32| {
        if n.is_multiple_of(2) {
            let mut batch = Batch::new();
            batch.add(ADD, vec!["sum".into(), 1_i64.into()], Expect::Rows(1));
            db.submit(seeded.scope, batch).await.map(drop)
        } else {
            let add = db.write(seeded.scope, |tx| {
                Box::pin(async move { tx.exec(ADD, &["sum".into(), 1_i64.into()]).await })
            });
            add.await.map(drop)
        }
    });
    assert!(join_all(adds).await.iter().all(Result::is_ok));
    assert_eq!(number(&db, seeded, SUM).await, 201);
});

db_test!(a_read_cannot_write, async |db| {
    let seeded = ready(&db).await;
    let wrote = db
        .read(seeded.scope, |tx| {
            Box::pin(async move { tx.exec(KEEP, &["x".into(), vec![1].into(), 1_i64.into()]).await })
        })
        .await;
    assert!(wrote.is_err());
    assert_eq!(number(&db, seeded, COUNT).await, 0);
});

db_test!(an_abandoned_transaction_does_not_poison_its_connection, async |db| {
    let seeded = ready(&db).await;
    for n in 0..20 {
        // Dropped while in flight, at whatever point it has reached.
        let write = keep(&db, seeded, format!("abandoned-{n}"));
        drop(futures_util::future::select(Box::pin(write), std::future::ready(())).await);
    }
    for _ in 0..20 {
        let read = db.read(seeded.scope, |tx| Box::pin(async move { tx.one(COUNT, &[]).await }));
        drop(futures_util::future::select(Box::pin(read), std::future::ready(())).await);
    }
    keep(&db, seeded, "after".to_owned()).await.unwrap();
    let reads = join_all((0..20).map(|_| number(&db, seeded, COUNT))).await;
    assert!(reads.iter().all(|count| *count >= 1));
});

#[test]
fn a_parameter_of_the_wrong_kind_or_number_is_refused() {
    lantern_store::testing::on_postgres(async |db| {
        let seeded = ready(&db).await;
        let wrong = db.write(seeded.scope, |tx| {
            Box::pin(async move { tx.exec(KEEP, &[5_i64.into(), vec![1].into(), 1_i64.into()]).await })
        });
        assert!(matches!(wrong.await, Err(Error::Misuse(_))));
        let few = db.write(seeded.scope, |tx| Box::pin(async move { tx.exec(KEEP, &["x".into()]).await }));
        assert!(matches!(few.await, Err(Error::Misuse(_))));
        keep(&db, seeded, "after".to_owned()).await.unwrap();
    });
}

db_test!(a_setting_is_kept_once_and_only_with_what_belongs_to_it, async |db| {
    let fails = || Err(Error::Misuse("on purpose".to_owned()));
    assert!(matches!(keep_setting(&db, "check", vec![1], fails).await, Err(Error::Misuse(_))));
    assert_eq!(find_setting(&db, "check").await.unwrap(), None);
    assert_eq!(keep_setting(&db, "check", vec![2], || Ok(())).await.unwrap(), [2]);
    assert_eq!(keep_setting(&db, "check", vec![3], fails).await.unwrap(), [2], "it was not the first");
    assert_eq!(find_setting(&db, "check").await.unwrap(), Some(vec![2]));
});
