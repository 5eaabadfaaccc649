//! What only a cluster can do: be away, come back, and carry hints between processes.

use std::sync::Arc;

use lantern_store::journal;
use lantern_store::testing::{Cluster, Folder, HeldTasks, SetClock, block_on, seed};
use lantern_store::{Db, Error, PostgresOptions};
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
        let (mut workers, mut watch) = (there.hub().workers(), there.hub().subscribe(run(1)));
        tasks
            .beside(async {
                // The first wake says that the other process listens now.
                workers.next().await;
                create(&here, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
                workers.next().await;
                watch.changed().await;
                let claimed = claim_all(&there, process(2), at(20)).await.remove(0);
                let mut back = here.hub().subscribe(run(1));
                journal::append(&there, seeded.scope, two_events(&claimed)).await.unwrap();
                back.changed().await;
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
