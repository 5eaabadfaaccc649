//! Appends: what is written, and what the guard refuses.

use futures_util::future::{join, join_all};
use lantern_store::journal::{self, Created};
use lantern_store::lease::{self, Claimed, Held};
use lantern_store::testing::{Seeded, seed};
use lantern_store::usage::{self, Days};
use lantern_store::{Db, Error, db_test, inbox, outbox};
use lantern_types::call::Period;
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

db_test!(an_append_is_read_back_as_written, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let new = new_run(seeded, run(1), at(10));
    assert_eq!(create(&db, seeded.scope, new.clone()).await.unwrap(), Created::New);
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    assert_eq!((claimed.version, claimed.epoch, claimed.chain), (1, 1, new.chain));
    let append = two_events(&claimed);
    let appended = journal::append(&db, seeded.scope, append.clone()).await.unwrap();
    assert_eq!(appended.version, 3);

    let stored = journal::read(&db, seeded.scope, run(1), 1, 100).await.unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!((stored[0].first_seq, stored[0].n, &stored[0].bytes), (1, 1, &new.bytes));
    assert_eq!((stored[1].first_seq, stored[1].n, &stored[1].bytes), (2, 2, &append.bytes));
    assert_eq!((stored[1].body.as_deref(), stored[1].chain), (Some(&b"body"[..]), append.chain));
    assert_eq!(stored[1].format, journal::FORMAT);
    for (from, first) in [(1, Some(1)), (2, Some(2)), (3, Some(2)), (4, None)] {
        let read = journal::read(&db, seeded.scope, run(1), from, 1).await.unwrap();
        assert_eq!(read.first().map(|s| s.first_seq), first, "from {from}");
    }
    let ends = journal::ends(&db, seeded.scope, vec![run(1), run(9)]).await.unwrap();
    assert_eq!(ends, [Some((stored[0].clone(), stored[1].clone())), None]);

    let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((head.status.as_str(), head.version, head.chain), ("running", 3, append.chain));
    assert_eq!((head.spent.micros(), head.held.micros(), head.tokens_in, head.tokens_out), (5, 7, 11, 13));
    assert_eq!((head.created_at, head.started_at, head.finished_at), (at(10), Some(at(20)), None));
    assert_eq!(head.owner, Some(process(1)));
});

db_test!(the_guard_refuses_and_then_nothing_is_written, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let fine = two_events(&claimed);
    for (what, wrong) in [
        ("an earlier epoch", journal::Append { epoch: fine.epoch - 1, ..fine.clone() }),
        ("a later epoch", journal::Append { epoch: fine.epoch + 1, ..fine.clone() }),
        ("an earlier version", journal::Append { expected_version: 0, ..fine.clone() }),
        ("a later version", journal::Append { expected_version: 2, ..fine.clone() }),
        ("another run", journal::Append { run: run(2), ..fine.clone() }),
    ] {
        let refused = journal::append(&db, seeded.scope, wrong).await;
        assert!(matches!(refused, Err(Error::Conflict)), "{what}: {refused:?}");
    }
    assert_eq!(journal::read(&db, seeded.scope, run(1), 1, 100).await.unwrap().len(), 1);
    assert_eq!(journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap().version, 1);

    journal::append(&db, seeded.scope, fine.clone()).await.unwrap();
    let twice = journal::append(&db, seeded.scope, fine).await;
    assert!(matches!(twice, Err(Error::Conflict)), "the same append again: {twice:?}");
    assert_eq!(journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap().version, 3);
});

db_test!(appends_that_come_together_stand_or_fall_by_themselves, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in 0..24 {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    }
    let mut claimed = claim_all(&db, process(1), at(20)).await;
    claimed.sort_by_key(|claimed| claimed.run);
    let mut appends: Vec<_> = claimed.iter().map(two_events).collect();
    appends[5].epoch -= 1;
    appends[20].projection.finished_at = Some(at(30));
    // Without `poison` they are refused or done inside one transaction; with it that transaction comes to nothing.
    for poison in [None, Some(9)] {
        if let Some(n) = poison {
            appends[n].projection.error_code = Some("no\0text".to_owned());
        }
        let all = appends.iter().map(|append| journal::append(&db, seeded.scope, append.clone()));
        for (n, outcome) in join_all(all).await.into_iter().enumerate() {
            let fine = match &outcome {
                Ok(appended) => {
                    n != 5 && poison != Some(n) && appended.version == appends[n].expected_version + 2
                }
                Err(Error::Conflict) => n == 5 || (poison.is_some() && n == 20),
                Err(Error::Misuse(_)) => poison == Some(n),
                Err(_) => false,
            };
            assert!(fine, "run {n}, poison {poison:?}: {outcome:?}");
            let id = appends[n].run;
            let head = journal::head(&db, seeded.scope, id).await.unwrap().unwrap();
            let rows = journal::read(&db, seeded.scope, id, 1, 100).await.unwrap();
            let last = rows.last().unwrap();
            assert_eq!((last.first_seq + last.n - 1, last.chain), (head.version, head.chain), "run {n}");
        }
        for append in &mut appends {
            append.expected_version += 2;
        }
    }
});

db_test!(an_append_whose_caller_has_gone_takes_nobody_along, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in 0..12 {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    }
    let claimed = claim_all(&db, process(1), at(20)).await;
    let append = |claimed| Box::pin(journal::append(&db, seeded.scope, two_events(claimed)));
    let mut all: Vec<_> = claimed.iter().map(append).collect();
    // Each is on its way; then those go that would have committed for the others, and one of those who wait.
    for append in &mut all {
        assert!(futures_util::poll!(append.as_mut()).is_pending());
    }
    all.drain(..3);
    for appended in join_all(all).await {
        assert_eq!(appended.unwrap().version, 3);
    }
});

db_test!(nothing_follows_the_end, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    assert_eq!(put(&db, seeded.scope, run(1), input(2), "just before", at(25)).await, inbox::Put::Stored);
    let mut last = two_events(&claimed);
    last.projection.finished_at = Some(at(30));
    last.projection.error_code = Some("run_budget_exceeded".to_owned());
    journal::append(&db, seeded.scope, last.clone()).await.unwrap();
    let (_, left) = inbox::list(&db, seeded.scope, run(1)).await.unwrap();
    assert_eq!(left, [], "nobody would ever read it");
    let more = journal::Append { expected_version: 3, ..last };
    assert!(matches!(journal::append(&db, seeded.scope, more).await, Err(Error::Conflict)));
    assert_eq!(put(&db, seeded.scope, run(1), input(1), "late", at(40)).await, inbox::Put::Closed);
    let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
    assert_eq!(head.error_code.as_deref(), Some("run_budget_exceeded"));
});

db_test!(a_run_is_given_up_only_when_it_was_asked_to_stop_and_nobody_could, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let mut append = two_events(&claimed);
    append.outbox = vec![outbox::NewOutbox {
        id: Uuid::from_u128(1),
        key: "3.0".to_owned(),
        kind: outbox::Kind::Start,
        payload: b"sealed".to_vec(),
        due_at: at(30),
    }];
    journal::append(&db, seeded.scope, append).await.unwrap();
    let end = journal::GiveUp {
        run: run(1),
        epoch: claimed.epoch,
        version: 3,
        at: at(90),
        error_code: "run_unreadable",
        asked: "cancel",
    };
    let give_up = async |end| journal::give_up(&db, seeded.scope, end, Vec::new()).await.unwrap();
    let park_until = async |wake_at| {
        let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
        let held = Held { run: run(1), epoch: head.epoch, version: head.version, pokes: head.pokes };
        assert!(lease::release(&db, seeded.scope, held, wake_at).await.unwrap());
    };
    let park = async || park_until(None).await;
    assert!(!give_up(end).await, "somebody holds it");
    park().await;
    assert!(!give_up(end).await, "nobody asked it to stop");
    put(&db, seeded.scope, run(1), input(1), "signal:x", at(40)).await;
    claim_all(&db, process(2), at(50)).await;
    park().await;
    assert!(!give_up(end).await, "nor now, and the epoch is another");
    put(&db, seeded.scope, run(1), input(2), "cancel", at(60)).await;
    let end = journal::GiveUp { epoch: 2, ..end };
    assert!(!give_up(end).await, "nobody has looked since");
    claim_all(&db, process(3), at(70)).await;
    let end = journal::GiveUp { epoch: 3, ..end };
    assert!(!give_up(end).await, "somebody is looking");
    park_until(Some(at(80))).await;
    assert!(!give_up(end).await, "somebody is to look at it");
    claim_all(&db, process(5), at(80)).await;
    let end = journal::GiveUp { epoch: 4, ..end };
    park_until(Some(at(150))).await;
    for wrong in [journal::GiveUp { epoch: 3, ..end }, journal::GiveUp { version: 2, ..end }] {
        assert!(!give_up(wrong).await);
    }
    assert!(give_up(end).await);
    let day = Period::Day.began(end.at);
    let days = Days { from: day, to: day + Dur::from_secs(86_400) };
    let told = usage::of(&db, seeded.scope, days).await.unwrap().sum;
    assert_eq!((told.runs, told.failed), (1, 1), "its end is counted");
    assert!(!give_up(end).await, "once");
    let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((head.status.as_str(), head.error_code.as_deref()), ("failed", Some("run_unreadable")));
    assert_eq!((head.spent.micros(), head.held.micros(), head.finished_at), (12, 0, Some(at(90))));
    assert_eq!(head.version, 3, "its journal stays as it is");
    assert_eq!(put(&db, seeded.scope, run(1), input(3), "late", at(91)).await, inbox::Put::Closed);
    assert!(claim_all(&db, process(4), at(1_000)).await.is_empty());
    let deleted =
        db.write(seeded.scope, |tx| Box::pin(async move { journal::delete(tx, run(1), at(91)).await })).await;
    assert!(deleted.unwrap().is_some(), "what it owed to others is dropped, so that it can be deleted");
});

/// A run that nobody can go on with, which was asked to stop and owes one start.
async fn parked(db: &Db, seeded: Seeded, n: u128, parent: Option<RunId>) -> (journal::GiveUp, Uuid) {
    let parent = parent.map(|parent| (parent, "sub".to_owned()));
    create(db, seeded.scope, journal::NewRun { parent, ..new_run(seeded, run(n), at(10)) }).await.unwrap();
    let claimed = claim_all(db, process(n), at(20)).await.remove(0);
    let mut append = two_events(&claimed);
    let row = Uuid::from_u128(n);
    append.outbox = vec![outbox::NewOutbox {
        id: row,
        key: "3.0".to_owned(),
        kind: outbox::Kind::Start,
        payload: b"sealed".to_vec(),
        due_at: at(30),
    }];
    journal::append(db, seeded.scope, append).await.unwrap();
    put(db, seeded.scope, run(n), input(n), "cancel", at(60)).await;
    let head = journal::head(db, seeded.scope, run(n)).await.unwrap().unwrap();
    let held = Held { run: run(n), epoch: head.epoch, version: head.version, pokes: head.pokes };
    assert!(lease::release(db, seeded.scope, held, None).await.unwrap());
    let (epoch, version) = (head.epoch, head.version);
    let end = journal::GiveUp { run: run(n), epoch, version, at: at(90), error_code: "x", asked: "cancel" };
    (end, row)
}

/// What was refused, or could not be done at once; panics when it was ended because of a circle of waits.
fn no_circle<T>(done: lantern_store::Result<T>) -> Option<T> {
    done.map_err(|error| assert!(!format!("{error:?}").contains("deadlock"), "{error:?}")).ok()
}

db_test!(giving_up_and_refusing_a_start_never_wait_for_each_other, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in 1..=40 {
        let (end, row) = parked(&db, seeded, n, None).await;
        let told = new_input(n, run(n), "told");
        let refuse = db.write(seeded.scope, move |tx| {
            Box::pin(async move {
                if outbox::done_in(tx, row).await? {
                    inbox::put(tx, told, 9).await?;
                }
                Ok(())
            })
        });
        let (refused, given_up) = join(refuse, journal::give_up(&db, seeded.scope, end, Vec::new())).await;
        assert!(no_circle(refused).is_some());
        no_circle(given_up);
    }
});

db_test!(a_parent_and_its_child_are_given_up_together, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in 1..=20 {
        let (parent, _) = parked(&db, seeded, 2 * n, None).await;
        let (child, _) = parked(&db, seeded, 2 * n + 1, Some(parent.run)).await;
        let unheard = journal::give_up(&db, seeded.scope, parent, Vec::new()).await;
        assert!(unheard.is_err_and(|error| error.is_transient()), "its child would not hear of it");
        let tell = |to: RunId, key: &str| vec![new_input(1_000 + n, to, key)];
        let down = journal::give_up(&db, seeded.scope, parent, tell(child.run, "down"));
        let up = journal::give_up(&db, seeded.scope, child, tell(parent.run, "up"));
        let (down, up) = join(down, up).await;
        no_circle(down);
        no_circle(up);
    }
});

db_test!(an_append_drains_its_inbox_and_fills_its_outbox, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    put(&db, seeded.scope, run(1), input(1), "a", at(21)).await;
    put(&db, seeded.scope, run(1), input(2), "b", at(22)).await;
    let send = |key: &str, id| outbox::NewOutbox {
        id: Uuid::from_u128(id),
        key: key.to_owned(),
        kind: outbox::Kind::Start,
        payload: b"sealed".to_vec(),
        due_at: at(50),
    };
    let append = journal::Append {
        drained: vec![input(1)],
        outbox: vec![send("child-1", 1), send("child-1", 2)],
        ..two_events(&claimed)
    };
    // A refused append neither drains nor sends.
    let stale = journal::Append { epoch: 0, ..append.clone() };
    assert!(journal::append(&db, seeded.scope, stale).await.is_err());
    assert_eq!(inbox::list(&db, seeded.scope, run(1)).await.unwrap().1.len(), 2);
    let mut turns = outbox::Turns::default();
    let mut take =
        async |now| outbox::take(&db, &mut turns, at(now), Dur::from_micros(10), 10).await.unwrap();
    assert!(take(50).await.is_empty());

    journal::append(&db, seeded.scope, append).await.unwrap();
    let (pokes, waiting) = inbox::list(&db, seeded.scope, run(1)).await.unwrap();
    assert_eq!((pokes, waiting.len(), waiting[0].id), (2, 1, input(2)));
    assert!(take(49).await.is_empty(), "not due yet");
    let due = take(50).await;
    assert_eq!(due.len(), 1, "one row for each key");
    assert_eq!((due[0].run, due[0].key.as_str(), due[0].scope), (run(1), "child-1", seeded.scope));
    assert!(take(50).await.is_empty(), "taken");
    assert_eq!(take(60).await[0].attempts, 1);
    outbox::done(&db, seeded.scope, due[0].id).await.unwrap();
    assert!(take(99).await.is_empty());
});

db_test!(one_run_for_each_idempotency_key, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    let keyed = |seeded, id| journal::NewRun {
        idempotency_key: Some("order-7".to_owned()),
        ..new_run(seeded, id, at(10))
    };
    assert_eq!(create(&db, one.scope, keyed(one, run(1))).await.unwrap(), Created::New);
    assert_eq!(create(&db, one.scope, keyed(one, run(2))).await.unwrap(), Created::Existing(run(1)));
    assert!(journal::head(&db, one.scope, run(2)).await.unwrap().is_none());
    assert_eq!(
        create(&db, two.scope, keyed(two, run(3))).await.unwrap(),
        Created::New,
        "another tenant's key"
    );
    let same_id = create(&db, one.scope, new_run(one, run(1), at(10))).await;
    assert!(matches!(same_id, Err(Error::Conflict)), "{same_id:?}");
    let no_agent = new_run(one, run(5), at(10));
    let no_agent = journal::NewRun { agent_id: two.agent, ..no_agent };
    assert!(matches!(create(&db, one.scope, no_agent).await, Err(Error::Conflict)), "another tenant's agent");
});

db_test!(a_finished_run_is_deleted_whole, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let delete =
        async || db.write(seeded.scope, |tx| Box::pin(journal::delete(tx, run(1), at(40)))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    put(&db, seeded.scope, run(1), input(1), "a", at(21)).await;
    assert_eq!(delete().await, None, "it has not finished");
    let mut last = two_events(&claimed);
    last.projection.finished_at = Some(at(30));
    let blob = Digest::of(b"large");
    const PUT: &str = "INSERT INTO loose_blobs (tenant_id, digest, stage, due_at) VALUES ($1, $2, 0, 0)";
    db.write(seeded.scope, move |tx| Box::pin(async move { tx.exec(PUT, &[blob.into()]).await }))
        .await
        .unwrap();
    last.body = Some([&[1], &blob.bytes()[..]].concat());
    journal::append(&db, seeded.scope, last).await.unwrap();
    assert_eq!(delete().await, Some(vec![blob]));
    assert_eq!(delete().await, None);
    assert!(journal::head(&db, seeded.scope, run(1)).await.unwrap().is_none());
    assert!(journal::read(&db, seeded.scope, run(1), 1, 10).await.unwrap().is_empty());
});

/// In this test a run goes on as the one that is numbered after it.
fn next(run: RunId) -> RunId {
    RunId::from_uuid(Uuid::from_u128(run.uuid().as_u128() + 1))
}

async fn order(db: &Db, seeded: Seeded, to: u128, n: u128, key: &str) -> (RunId, inbox::Put) {
    let new = new_input(n, run(to), key);
    db.write(seeded.scope, move |tx| Box::pin(inbox::order(tx, new, 9, next))).await.unwrap()
}

async fn keys(db: &Db, seeded: Seeded, n: u128) -> Vec<String> {
    let (_, rows) = inbox::list(db, seeded.scope, run(n)).await.unwrap();
    rows.into_iter().map(|row| row.key).collect()
}

/// Ends a run that goes on as a new one, which has yet to begin. This append took those rows in.
async fn goes_on(db: &Db, seeded: Seeded, claimed: &Claimed, drained: Vec<InboxId>) -> Uuid {
    let mut last = two_events(claimed);
    let id = Uuid::from_u128(claimed.run.uuid().as_u128());
    last.projection.finished_at = Some(at(30));
    last.drained = drained;
    last.outbox = vec![outbox::NewOutbox {
        id,
        key: outbox::start_key(next(claimed.run)),
        kind: outbox::Kind::Continue,
        payload: b"sealed".to_vec(),
        due_at: at(30),
    }];
    journal::append(db, seeded.scope, last).await.unwrap();
    id
}

/// Begins the run that another one goes on as, as the worker does.
async fn goes_on_as(db: &Db, seeded: Seeded, row: Uuid, n: u128) {
    let trigger_kind = inbox::CONTINUES.to_owned();
    let new = journal::NewRun { trigger_kind, ..new_run(seeded, run(n), at(40)) };
    let begin = db.write(seeded.scope, move |tx| {
        Box::pin(async move {
            assert!(outbox::done_in(tx, row).await?);
            journal::create(tx, new).await?;
            inbox::pass_on(tx, (run(n - 1), run(n)), at(40)).await
        })
    });
    begin.await.unwrap();
}

db_test!(an_order_stays_with_a_chain_whenever_it_comes, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    // While it runs, and it does not take them in; or does, when it is over already.
    assert_eq!(order(&db, seeded, 1, 1, "cancel").await, (run(1), inbox::Put::Stored));
    assert_eq!(order(&db, seeded, 1, 1, "cancel").await, (run(1), inbox::Put::Duplicate));
    assert_eq!(order(&db, seeded, 1, 2, "resume:2").await, (run(1), inbox::Put::Stored));
    for (n, key) in [(3, "signal-x"), (4, "approval:pause:"), (5, "stop:a|2.0"), (6, "signal:a:cancel")] {
        put(&db, seeded.scope, run(1), input(n << 40), key, at(24)).await;
    }
    let row = goes_on(&db, seeded, &claimed, vec![input(2 << 32)]).await;
    assert_eq!(keys(&db, seeded, 1).await, ["cancel", "resume:2"], "what means that run alone is gone");
    // Between the two.
    assert_eq!(order(&db, seeded, 1, 7, "pause:7").await, (run(1), inbox::Put::Stored));
    assert_eq!(put(&db, seeded.scope, run(1), input(8), "signal-y", at(35)).await, inbox::Put::Closed);
    goes_on_as(&db, seeded, row, 2).await;
    assert_eq!(keys(&db, seeded, 1).await, [""; 0]);
    assert_eq!(keys(&db, seeded, 2).await, ["cancel", "resume:2", "pause:7"]);
    let claimed = claim_all(&db, process(2), at(50)).await.remove(0);
    assert_eq!((claimed.run, claimed.pokes > 0), (run(2), true), "whoever takes it up looks there");
    // To one that is over, when the next has begun.
    assert_eq!(order(&db, seeded, 1, 9, "pause:9").await, (run(2), inbox::Put::Stored));
    let row = goes_on(&db, seeded, &claimed, Vec::new()).await;
    goes_on_as(&db, seeded, row, 3).await;
    assert_eq!(order(&db, seeded, 1, 10, "cancel").await, (run(3), inbox::Put::Duplicate));
    assert_eq!(keys(&db, seeded, 3).await.len(), 4);
    let mut last = two_events(&claim_all(&db, process(3), at(60)).await.remove(0));
    last.projection.finished_at = Some(at(70));
    journal::append(&db, seeded.scope, last).await.unwrap();
    assert_eq!(order(&db, seeded, 1, 11, "cancel").await, (run(3), inbox::Put::Closed), "the chain is over");
    assert_eq!(order(&db, seeded, 8, 12, "cancel").await, (run(8), inbox::Put::Closed), "nobody knows it");
});

db_test!(an_order_is_not_given_to_a_child_that_has_the_number_of_a_continuation, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in [1, 2] {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    }
    let claimed = claim_all(&db, process(1), at(20)).await;
    let mut last = two_events(claimed.iter().find(|claimed| claimed.run == run(1)).unwrap());
    last.projection.finished_at = Some(at(30));
    journal::append(&db, seeded.scope, last).await.unwrap();
    assert_eq!(order(&db, seeded, 1, 1, "cancel").await, (run(1), inbox::Put::Closed));
    assert_eq!(keys(&db, seeded, 2).await, [""; 0]);
});

db_test!(orders_and_starts_that_meet_miss_each_other_never, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in (10..90).step_by(10) {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
        let claimed = claim_all(&db, process(n), at(20)).await.remove(0);
        let row = goes_on(&db, seeded, &claimed, Vec::new()).await;
        let order = order(&db, seeded, n, n, "cancel");
        let ((_, done), ()) = futures_util::join!(order, goes_on_as(&db, seeded, row, n + 1));
        assert_eq!(done, inbox::Put::Stored);
        assert_eq!(keys(&db, seeded, n + 1).await, ["cancel"], "{n}");
    }
});

db_test!(a_run_says_how_many_signals_it_keeps, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let most = inbox::Kept { count: 3, bytes: 30 };
    let signal = async |n: u128, bytes: usize| {
        let new = inbox::NewInput { input: vec![0; bytes], ..new_input(n, run(1), &format!("signal-{n}")) };
        db.write(seeded.scope, move |tx| Box::pin(inbox::put_signal(tx, new, 9, most))).await.unwrap()
    };
    assert_eq!(signal(1, 31).await, inbox::Put::Enough);
    assert_eq!(signal(2, 10).await, inbox::Put::Stored);
    put(&db, seeded.scope, run(1), input(7), "approval:s", at(24)).await;
    assert_eq!(signal(3, 21).await, inbox::Put::Enough, "with the one that is there");
    assert_eq!(signal(2, 10).await, inbox::Put::Duplicate, "a repeat is no other");
    let claimed = claim_all(&db, process(1), at(80)).await.remove(0);
    let mut taken = two_events(&claimed);
    taken.drained = vec![input(2 << 32)];
    taken.kept = Some(inbox::Kept { count: 2, bytes: 25 });
    journal::append(&db, seeded.scope, taken).await.unwrap();
    assert_eq!(signal(4, 6).await, inbox::Put::Enough, "with those that the run keeps");
    assert_eq!(signal(5, 5).await, inbox::Put::Stored);
    assert_eq!(signal(6, 0).await, inbox::Put::Enough, "the fourth");
});
