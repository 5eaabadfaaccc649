//! Emergency stops: nothing that one halts is written once it is set, and lifting one wakes what it halted.

use std::cell::Cell;

use futures_util::future::{join, join_all};
use lantern_policy::Scope;
use lantern_store::journal::{self, Append};
use lantern_store::lease::{self, Held};
use lantern_store::stops::server;
use lantern_store::stops::{self, Halt, NewStop, StopFilter};
use lantern_store::testing::{Cluster, Folder, block_on, seed};
use lantern_store::{Db, Error, SqliteOptions, db_test};
use lantern_types::*;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::*;

fn stop(n: u128) -> StopId {
    StopId::from_uuid(Uuid::from_u128(0x7000 + n))
}

fn new_stop(n: u128, agent: Option<&str>) -> NewStop {
    let at = at(100 + i64::try_from(n).unwrap());
    let (agent_name, reason) = (agent.map(ToOwned::to_owned), "too dear".to_owned());
    NewStop { id: stop(n), agent_name, reason, by: "ada@example.com".to_owned(), at }
}

/// Which appends of a run are refused: one that heeds stops, and one that has no need to.
async fn refused(db: &Db, scope: Scope, append: &Append) -> bool {
    let heeding = Append { heeds_stops: true, ..append.clone() };
    match journal::append(db, scope, heeding).await {
        Ok(_) => false,
        Err(Error::Conflict) => true,
        Err(error) => panic!("{error:?}"),
    }
}

async fn holding(db: &Db, scope: Scope) -> Option<StopId> {
    stops::holding(db, scope, agent_name(db, scope).await).await.unwrap().map(|stop| stop.id)
}

async fn agent_name(db: &Db, scope: Scope) -> String {
    journal::head(db, scope, run(1)).await.unwrap().unwrap().agent_name
}

db_test!(a_stop_refuses_what_it_halts_and_nothing_else, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
    create(&db, two.scope, new_run(two, run(2), at(11))).await.unwrap();
    let mut claimed = claim_all(&db, process(1), at(20)).await;
    claimed.sort_by_key(|claimed| claimed.run);
    let (mine, theirs) = (two_events(&claimed[0]), two_events(&claimed[1]));
    let agent = agent_name(&db, one.scope).await;

    // Of no agent of this tenant: it would halt nothing.
    assert!(!stops::set(&db, one.scope, new_stop(1, Some("nobody"))).await.unwrap());
    for (n, name) in [(1, Some(agent.as_str())), (2, None)] {
        assert!(stops::set(&db, one.scope, new_stop(n, name)).await.unwrap());
        assert!(refused(&db, one.scope, &mine).await, "{name:?}");
        assert_eq!(holding(&db, one.scope).await, Some(stop(n)));
        assert!(!stops::lift(&db, two.scope, stop(n), "eve".into(), at(199)).await.unwrap());
        assert!(stops::lift(&db, one.scope, stop(n), "ada".into(), at(200)).await.unwrap());
        assert!(!stops::lift(&db, one.scope, stop(n), "ada".into(), at(201)).await.unwrap(), "once");
        let row = stops::find(&db, one.scope, stop(n)).await.unwrap().unwrap();
        assert_eq!((row.lifted_by.as_deref(), row.lifted_at), (Some("ada"), Some(at(200))));
    }
    assert_eq!(holding(&db, one.scope).await, None);

    // Of the other tenant, and of the server.
    assert!(stops::set(&db, two.scope, new_stop(3, None)).await.unwrap());
    assert!(refused(&db, two.scope, &theirs).await);
    assert_eq!(holding(&db, one.scope).await, None);
    server::set(&db, new_stop(4, None)).await.unwrap();
    assert!(refused(&db, one.scope, &mine).await);
    assert_eq!(holding(&db, one.scope).await, Some(stop(4)));
    let held = server::count(&db).await.unwrap();
    assert_eq!((held.agents, held.tenants, held.server), (0, 1, 1));
    assert_eq!(journal::head(&db, one.scope, run(1)).await.unwrap().unwrap().version, 1);
    // What halts nothing is written all the same.
    let pure = journal::append(&db, one.scope, mine.clone()).await.unwrap();
    assert_eq!(pure.version, 3);
    assert!(server::lift(&db, stop(4), "ops".into(), at(300)).await.unwrap());
    assert!(!server::lift(&db, stop(4), "ops".into(), at(300)).await.unwrap());
    let later = Append { expected_version: 3, chain: mine.chain, ..mine };
    assert!(!refused(&db, one.scope, &later).await);
});

db_test!(a_list_has_the_stops_of_a_tenant_and_of_the_server, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    for n in [1, 3, 5] {
        assert!(stops::set(&db, one.scope, new_stop(n, None)).await.unwrap());
    }
    assert!(stops::set(&db, two.scope, new_stop(2, None)).await.unwrap());
    server::set(&db, new_stop(4, None)).await.unwrap();
    assert!(stops::lift(&db, one.scope, stop(3), "ada".into(), at(200)).await.unwrap());
    let ids = async |holding, before, limit| {
        let filter = StopFilter { holding, before, limit };
        let rows = stops::list(&db, one.scope, filter).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, 9).await, [5, 4, 3, 1].map(stop));
    assert_eq!(ids(None, None, 2).await, [5, 4].map(stop));
    assert_eq!(ids(None, Some((at(104), stop(4))), 2).await, [3, 1].map(stop));
    assert_eq!(ids(Some(true), None, 9).await, [5, 4, 1].map(stop));
    assert_eq!(ids(Some(false), None, 9).await, [stop(3)]);
    assert!(stops::find(&db, one.scope, stop(2)).await.unwrap().is_none(), "another tenant's");
    assert!(stops::find(&db, one.scope, stop(4)).await.unwrap().is_none(), "nobody's");
    assert_eq!(server::list(&db, 9).await.unwrap().len(), 1);
});

db_test!(lifting_wakes_what_was_halted, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for n in 1..=3 {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    }
    let mut claimed = claim_all(&db, process(1), at(20)).await;
    claimed.sort_by_key(|claimed| claimed.run);
    assert!(stops::set(&db, seeded.scope, new_stop(1, None)).await.unwrap());
    server::set(&db, new_stop(2, None)).await.unwrap();
    let mut held = Vec::new();
    for (claimed, by) in claimed.iter().zip([1, 2, 1]) {
        let append = Append { halt: Some(Halt::By(stop(by))), ..two_events(claimed) };
        let version = journal::append(&db, seeded.scope, append).await.unwrap().version;
        held.push(Held { run: claimed.run, epoch: claimed.epoch, version, pokes: 0 });
    }
    // The last one is still in somebody's hands.
    for held in &held[..2] {
        assert!(lease::release(&db, seeded.scope, *held, None).await.unwrap());
    }
    let due = async || {
        let work = lease::look(&db, process(1), READER, at(500), 9).await.unwrap();
        work.claimed.into_iter().map(|claimed| claimed.run).collect::<Vec<_>>()
    };
    assert_eq!(due().await, []);
    assert!(stops::lift(&db, seeded.scope, stop(1), "ada".into(), at(400)).await.unwrap());
    assert!(!lease::release(&db, seeded.scope, held[2], None).await.unwrap(), "it must look first");
    assert_eq!(due().await, [run(1)]);
    assert!(server::lift(&db, stop(2), "ops".into(), at(400)).await.unwrap());
    assert_eq!(due().await, [run(2)]);
    // One that was lifted already halts nobody: there would be nobody to wake the run.
    let again = Append { expected_version: 3, ..two_events(&claimed[2]) };
    journal::append(&db, seeded.scope, again).await.unwrap();
    let noted = "SELECT id FROM runs WHERE tenant_id = $1 AND stop_id = $2 AND epoch = 1";
    let of = async |n| {
        let read = db.read(seeded.scope, move |tx| {
            Box::pin(async move { Ok(tx.all(noted, &[stop(n).into()]).await?.len()) })
        });
        read.await.unwrap()
    };
    assert_eq!(of(1).await, 1, "by the append before it was lifted");
    let over = Append { expected_version: 5, halt: Some(Halt::Over), ..two_events(&claimed[2]) };
    journal::append(&db, seeded.scope, over).await.unwrap();
    assert_eq!(of(1).await, 0);
    let late = Append { expected_version: 7, halt: Some(Halt::By(stop(1))), ..two_events(&claimed[2]) };
    journal::append(&db, seeded.scope, late).await.unwrap();
    assert_eq!(of(1).await, 0, "it was lifted already");
});

/// Appends of many runs are under way in one process while another sets a stop. Once that answers, no run moves.
#[test]
fn a_stop_that_is_set_in_one_process_holds_in_another_for_the_next_append() {
    const RUNS: u128 = 24;
    block_on(async {
        let database = Cluster::shared().database().await;
        let here = Db::open_postgres(&database.options()).await.unwrap();
        let there = Db::open_postgres(&database.options()).await.unwrap();
        let seeded = seed(&here, tenant(1)).await.unwrap();
        for n in 0..RUNS {
            create(&here, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
        }
        let claimed = claim_all(&there, process(1), at(20)).await;
        for server_wide in [false, true] {
            let versions = async || {
                let mut versions = Vec::new();
                for n in 0..RUNS {
                    versions.push(journal::head(&here, seeded.scope, run(n)).await.unwrap().unwrap().version);
                }
                versions
            };
            let before = versions().await;
            let append = async |claimed: &lease::Claimed, known: i64| {
                let mut version = known;
                loop {
                    // Those of odd runs drain their inbox, which is another way to the same guard.
                    let drained = if claimed.run.bytes()[15] % 2 == 1 { vec![input(1)] } else { vec![] };
                    let next = Append {
                        expected_version: version,
                        heeds_stops: true,
                        drained,
                        ..two_events(claimed)
                    };
                    match journal::append(&there, seeded.scope, next).await {
                        Ok(appended) => version = appended.version,
                        Err(Error::Conflict) => return version,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            };
            let all = join_all(claimed.iter().map(|claimed| {
                let n = claimed.run.uuid().as_u128() - run(0).uuid().as_u128();
                append(claimed, before[usize::try_from(n).unwrap()])
            }));
            let set = async {
                // Once they are under way.
                while versions().await.iter().sum::<i64>() < before.iter().sum::<i64>() + 200 {}
                if server_wide {
                    server::set(&here, new_stop(2, None)).await.unwrap();
                } else {
                    assert!(stops::set(&here, seeded.scope, new_stop(1, None)).await.unwrap());
                }
                versions().await
            };
            let (ended, at_the_answer) = join(all, set).await;
            assert_eq!(versions().await, at_the_answer, "no run has moved since");
            assert_eq!(ended.iter().sum::<i64>(), at_the_answer.iter().sum::<i64>());
            assert!(
                stops::lift(&here, seeded.scope, stop(1), "ada".into(), at(300)).await.unwrap()
                    != server_wide
            );
        }
        drop((here, there));
        database.discard().await;
    });
}

/// An append has taken its view of the stops and waits for its run's row. Whoever sets a stop meanwhile is answered after it.
#[test]
fn who_sets_a_stop_waits_for_an_append_that_cannot_see_it() {
    const HOLD: &str = "UPDATE runs SET pokes = pokes WHERE tenant_id = $1";
    const WAITING: &str = "SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    lantern_store::testing::on_postgres(async |db| {
        let seeded = seed(&db, tenant(1)).await.unwrap();
        create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
        let (held, is_held) = oneshot::channel();
        let (go, may_go) = oneshot::channel::<()>();
        let (blocked, is_blocked) = oneshot::channel();
        let hold = db.write(seeded.scope, move |tx| {
            Box::pin(async move {
                tx.exec(HOLD, &[]).await?;
                held.send(()).unwrap();
                may_go.await.unwrap();
                Ok(())
            })
        });
        let append = async {
            is_held.await.unwrap();
            refused(&db, seeded.scope, &two_events(&claimed)).await
        };
        let answered = Cell::new(false);
        let set = async {
            is_blocked.await.unwrap();
            assert!(stops::set(&db, seeded.scope, new_stop(1, None)).await.unwrap());
            answered.set(true);
            journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap().version
        };
        let conduct = async {
            let waiting = async || db.rows_of_nobody(WAITING).await.unwrap()[0].int("n").unwrap();
            while waiting().await < 1 {}
            blocked.send(()).unwrap();
            while waiting().await < 2 && !answered.get() {}
            go.send(()).unwrap();
        };
        let (hold, refused, at_the_answer, ()) = futures_util::join!(hold, append, set, conduct);
        hold.unwrap();
        assert!(!refused, "it was under way already");
        assert_eq!(at_the_answer, 3, "and durable when the stop is answered");
    });
}

#[test]
fn no_tenant_writes_a_stop_of_another_or_of_the_server() {
    lantern_store::testing::on_postgres(async |db| {
        let one = seed(&db, tenant(1)).await.unwrap();
        let two = seed(&db, tenant(2)).await.unwrap();
        assert!(stops::set(&db, two.scope, new_stop(1, None)).await.unwrap());
        server::set(&db, new_stop(2, None)).await.unwrap();
        let exec = async |sql: &'static str| {
            let params = [tenant(2).into(), stop(9).into()];
            db.write(one.scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await })).await
        };
        let lift = "UPDATE stops SET lifted_at = 1 WHERE (tenant_id <> $1 OR tenant_id = $2) AND id <> $3";
        assert_eq!(exec(lift).await.unwrap(), 0);
        for sql in [
            "INSERT INTO stops (tenant_id, id, reason, set_by, set_at) SELECT $2, $3, 'x', 'x', 1 WHERE $1 <> $2",
            "INSERT INTO server_stops (id, reason, set_by, set_at) SELECT $3, 'x', 'x', 1
                FROM tenants WHERE tenant_id = $1 AND $2 <> $3",
            "UPDATE server_stops SET lifted_at = 1 WHERE id <> $1 AND id <> $2 AND id <> $3 -- tenant_id",
            "DELETE FROM stops WHERE tenant_id = $1 AND id <> $2 AND id <> $3",
        ] {
            assert!(matches!(exec(sql).await, Err(Error::Misuse(_))), "{sql}");
        }
    });
}

#[test]
fn the_operator_stops_a_data_folder_that_a_server_has_in_use() {
    block_on(async {
        let folder = Folder::new("stops");
        assert!(Db::open_sqlite_beside(folder.path()).await.is_err(), "there is nothing yet");
        let server = Db::open_sqlite(folder.path(), SqliteOptions::at(at(1))).await.unwrap();
        let seeded = seed(&server, tenant(1)).await.unwrap();
        create(&server, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        let claimed = claim_all(&server, process(1), at(20)).await.remove(0);
        let beside = Db::open_sqlite_beside(folder.path()).await.unwrap();
        server::set(&beside, new_stop(1, None)).await.unwrap();
        drop(beside);
        assert!(refused(&server, seeded.scope, &two_events(&claimed)).await);
        let beside = Db::open_sqlite_beside(folder.path()).await.unwrap();
        assert!(server::lift(&beside, stop(1), "ops".into(), at(30)).await.unwrap());
        assert!(!refused(&server, seeded.scope, &two_events(&claimed)).await);
    });
}
