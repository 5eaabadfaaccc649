//! What only a cluster can do: be away, come back, and carry hints between processes.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join;
use lantern_policy::Scope;
use lantern_store::journal;
use lantern_store::notify::{Delta, Heard};
use lantern_store::testing::{
    Cluster, Folder, HeldTasks, Proxy, Seeded, SeededIds, SetClock, TestDatabase, block_on, seed,
};
use lantern_store::{Db, Error, Keys, PostgresOptions, Relay, migrate_postgres};
use lantern_types::*;

use crate::support::*;

#[test]
fn hints_reach_the_other_processes() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let here = Db::open_postgres(&database.options()).await.unwrap();
        let there = Db::open_postgres(&database.options()).await.unwrap();
        let seeded = seed(&here, tenant(1)).await.unwrap();
        let tasks = HeldTasks::default();
        for db in [&here, &there] {
            db.follow(&tasks, Arc::new(SetClock::at(at(1))), &lantern_net::Shutdown::new());
        }
        let (mut ours, mut workers) = (here.hub().workers(), there.hub().workers());
        let mut early = there.hub().subscribe(seeded.scope, run(1));
        tasks
            .beside(async {
                // The first wake says that a process listens now, and whoever waits looks for what it did not hear.
                join(ours.next(), workers.next()).await;
                early.changed().await;
                let mut watch = there.hub().subscribe(seeded.scope, run(1));
                create(&here, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
                workers.next().await;
                watch.changed().await;
                let claimed = claim_all(&there, process(2), at(20)).await.remove(0);
                let mut back = here.hub().subscribe(seeded.scope, run(1));
                journal::append(&there, seeded.scope, two_events(&claimed)).await.unwrap();
                back.changed().await;
            })
            .await;
        drop((here, there));
        database.discard().await;
    });
}

#[test]
fn text_of_a_model_call_reaches_the_process_that_watches() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let here = Db::open_postgres(&database.options()).await.unwrap();
        let there = Db::open_postgres(&database.options()).await.unwrap();
        let (tasks, stopping) = (HeldTasks::default(), lantern_net::Shutdown::new());
        for (seed, db) in [(10, &here), (20, &there)] {
            let clock = Arc::new(SetClock::at(at(1)));
            let keys = Keys::from_ids(&SeededIds::new(1));
            let relay = Relay::new(&keys, Arc::new(SeededIds::new(seed))).unwrap();
            db.relay(relay, &tasks, clock.clone(), &stopping);
            db.follow(&tasks, clock, &stopping);
        }
        let said = |offset, text: &str| Delta {
            run: run(1),
            step: "llm-1".to_owned(),
            generation: 1,
            offset,
            text: text.to_owned(),
        };
        let (mut ours, mut theirs) = (here.hub().workers(), there.hub().workers());
        tasks
            .beside(async {
                // The first wake says that a process listens.
                join(ours.next(), theirs.next()).await;
                let scope = Scope::of_lease(tenant(1));
                let (mut watch, mut other) =
                    (there.hub().subscribe(scope, run(1)), there.hub().subscribe(scope, run(2)));
                while !here.hub().is_watched(run(1)) {
                    tokio::task::yield_now().await;
                }
                here.hub().delta(said(0, "hel"));
                here.hub().delta(said(3, "lo"));
                let Heard::Delta(heard) = watch.next().await else { panic!("no text") };
                assert_eq!(*heard, said(0, "hello"), "gathered into one");
                let long = "é".repeat(10_000);
                here.hub().delta(said(5, &long));
                let mut whole = String::new();
                while whole.len() < long.len() {
                    let Heard::Delta(heard) = watch.next().await else { panic!("no text") };
                    assert_eq!(heard.offset, 5 + whole.len() as u64);
                    whole.push_str(&heard.text);
                }
                assert_eq!(whole, long);
                assert!(other.next().now_or_never().is_none(), "other runs hear nothing");
            })
            .await;
        drop((here, there));
        database.discard().await;
    });
}

#[test]
fn lost_connections_are_replaced() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let db = Db::open_postgres(&database.options()).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        for round in 0..3 {
            database.cut_connections().await;
            let mut tries = 0;
            // Each broken connection may fail one caller, who is told to try again.
            while let Err(e) = create(&db, seeded.scope, new_run(seeded, run(round), at(10))).await {
                assert!(matches!(e, Error::Unavailable(_)), "{e:?}");
                tries += 1;
                assert!(tries < 20, "the pool does not recover");
            }
        }
        assert_eq!(claim_all(&db, process(1), at(20)).await.len(), 3);
        drop(db);
        database.discard().await;
    });
}

/// A database behind a proxy. Its cluster stops with the test binary.
async fn behind_a_proxy() -> (TestDatabase, Proxy, Db, Seeded) {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::on_loopback(None)));
    let database = cluster.database().await;
    let (proxy, options) = Proxy::before(&database);
    let db = Db::open_postgres(&options).await.unwrap();
    let seeded = seed(&db, tenant(1)).await.unwrap();
    (database, proxy, db, seeded)
}

/// Tries until it is done; whatever keeps it from that passes.
async fn at_last(db: &Db, seeded: Seeded, id: RunId) {
    for _ in 0..20 {
        match create(db, seeded.scope, new_run(seeded, id, at(10))).await {
            // Made by a try that was not told so.
            Ok(_) | Err(Error::Conflict) => return,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
    panic!("the pool does not recover");
}

#[test]
fn a_database_that_says_nothing_is_waited_for_so_long_and_no_longer() {
    block_on(async {
        let (database, proxy, db, seeded) = behind_a_proxy().await;
        at_last(&db, seeded, run(1)).await;
        proxy.silent(true);
        // Nothing comes: what is waited for is the deadline, which is there at once.
        tokio::time::pause();
        for _ in 0..3 {
            let read = journal::head(&db, seeded.scope, run(1)).await;
            assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
            let wrote = create(&db, seeded.scope, new_run(seeded, run(2), at(10))).await;
            assert!(matches!(wrote, Err(Error::Unavailable(_))), "{wrote:?}");
        }
        tokio::time::resume();
        proxy.silent(false);
        at_last(&db, seeded, run(3)).await;
        assert!(journal::head(&db, seeded.scope, run(1)).await.unwrap().is_some());
        assert!(journal::head(&db, seeded.scope, run(2)).await.unwrap().is_none(), "it was never there");
        drop(db);
        database.discard().await;
    });
}

#[test]
fn transactions_that_are_cut_are_done_once_or_not_at_all() {
    block_on(async {
        let (database, proxy, db, seeded) = behind_a_proxy().await;
        proxy.cut_every(3);
        for n in 1..=12 {
            at_last(&db, seeded, run(n)).await;
        }
        assert!(proxy.cuts() >= 4, "{}", proxy.cuts());
        proxy.cut_every(0);
        let mut claimed = claim_all(&db, process(1), at(20)).await;
        assert_eq!(claimed.len(), 12);
        proxy.cut_every(2);
        for held in &claimed {
            let append = two_events(held);
            // Asked again like this until it stands, as the worker does.
            loop {
                match journal::append(&db, seeded.scope, append.clone()).await {
                    Ok(_) => break,
                    Err(Error::Conflict) => break,
                    Err(error) => assert!(error.is_transient(), "{error:?}"),
                }
            }
        }
        proxy.cut_every(0);
        claimed.sort_by_key(|held| held.run);
        for held in claimed {
            let head = journal::head(&db, seeded.scope, held.run).await.unwrap().unwrap();
            assert_eq!(head.version, 3, "the two events are there once");
            let rows = journal::read(&db, seeded.scope, held.run, 1, 100).await.unwrap();
            assert_eq!(rows.len(), 2);
        }
        drop(db);
        database.discard().await;
    });
}

#[test]
fn a_database_that_takes_no_writes_says_so_and_is_written_to_when_it_does_again() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let db = Db::open_postgres(&database.options()).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        database.read_only(true).await;
        database.cut_connections().await;
        let mut refused = create(&db, seeded.scope, new_run(seeded, run(2), at(10))).await;
        // Connections that were cut fail once each.
        while let Err(Error::Unavailable(_)) = refused {
            refused = create(&db, seeded.scope, new_run(seeded, run(2), at(10))).await;
        }
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
        assert!(db.is_read_only());
        while let Err(error) = journal::head(&db, seeded.scope, run(1)).await {
            assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        }
        database.read_only(false).await;
        // Nobody cuts the connections that were told to write nothing. The first that says so takes the others along.
        let mut made = create(&db, seeded.scope, new_run(seeded, run(2), at(10))).await;
        if let Err(Error::ReadOnly) = made {
            made = create(&db, seeded.scope, new_run(seeded, run(2), at(10))).await;
        }
        made.unwrap();
        assert!(!db.is_read_only());
        drop(db);
        database.discard().await;
    });
}

#[test]
fn a_missing_cluster_and_a_bad_address_say_so() {
    let nowhere = Folder::new("nowhere");
    let url = |text: String| Secret::new(text);
    let open = |text: String| {
        let options = PostgresOptions { app_url: url(text.clone()), system_url: url(text), connections: 1 };
        block_on(async move { Db::open_postgres(&options).await.err() })
    };
    let away = open(format!("host={} user=lantern_app dbname=x", nowhere.path().display()));
    assert!(matches!(away, Some(Error::Unavailable(_))), "{away:?}");
    let bad = open("not an address".to_owned());
    assert!(matches!(bad, Some(Error::Misuse(_))), "{bad:?}");
}

#[test]
fn a_schema_of_the_next_release_is_served_and_one_of_the_release_after_it_is_not() {
    block_on(async {
        let database = Cluster::shared().empty_database().await;
        migrate_postgres(&database.migrator_url(), at(1)).await.unwrap();
        let next = "INSERT INTO migrations (number, name, checksum, applied_at, goes_on)
            SELECT max(number) + 1, 'next', '\\x00', 1, max(number) FROM migrations";
        database.run(next).await;
        drop(Db::open_postgres(&database.options()).await.unwrap());
        migrate_postgres(&database.migrator_url(), at(2)).await.unwrap();
        database.run(next).await;
        assert!(matches!(Db::open_postgres(&database.options()).await.err(), Some(Error::TooNew { .. })));
        let refused = migrate_postgres(&database.migrator_url(), at(3)).await;
        assert!(matches!(refused, Err(Error::TooNew { .. })), "{refused:?}");
        database.discard().await;
    });
}
