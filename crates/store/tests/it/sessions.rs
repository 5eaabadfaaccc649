//! Sessions: of claims at once one holds, what is going on is read from runs, and stopping is for good.

use lantern_store::sessions::{self, Claim, NewSession, SessionRow};
use lantern_store::testing::{Seeded, seed};
use lantern_store::{Db, db_test, journal};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

fn session(n: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(0x6000 + n))
}

async fn make(db: &Db, seeded: Seeded, n: u128, micros: i64) {
    let new = NewSession {
        cost_max: None,
        id: session(n),
        agent_id: seeded.current().agent,
        agent_name: "digest".to_owned(),
        created_by: [7; 16],
        at: at(micros),
    };
    db.write(seeded.scope, move |tx| Box::pin(sessions::create(tx, new))).await.unwrap();
}

/// Claims the session for a message, and makes its run when that holds.
async fn send(db: &Db, seeded: Seeded, claim: Claim) -> bool {
    let new = journal::NewRun {
        trigger_kind: sessions::TRIGGER.to_owned(),
        session_id: Some(claim.session),
        ..new_run(seeded, claim.run, claim.at)
    };
    db.write(seeded.scope, move |tx| {
        Box::pin(async move {
            let taken = sessions::claim(tx, claim).await?;
            if taken {
                journal::create(tx, new).await?;
            }
            Ok(taken)
        })
    })
    .await
    .unwrap()
}

async fn row(db: &Db, seeded: Seeded, n: u128) -> SessionRow {
    sessions::find(db, seeded.scope, session(n)).await.unwrap().unwrap()
}

db_test!(a_message_is_taken_by_one_and_only_between_exchanges, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let other = seed(&db, tenant(2)).await.unwrap();
    make(&db, seeded, 1, 5).await;
    let claim = |run_no, exchanges, micros| Claim {
        session: session(1),
        exchanges,
        run: run(run_no),
        at: at(micros),
    };
    assert!(!send(&db, other, claim(9, 0, 10)).await, "another tenant's is not there");
    assert!(!send(&db, seeded, claim(9, 1, 10)).await, "somebody came in between");
    let both = (send(&db, seeded, claim(1, 0, 10)), send(&db, seeded, claim(2, 0, 10)));
    let (one, two) = futures_util::future::join(both.0, both.1).await;
    assert!(one != two, "one of them");
    let taken = row(&db, seeded, 1).await;
    let first = taken.last_run.unwrap();
    assert_eq!((taken.exchanges, taken.busy, taken.updated_at, taken.answered_at), (1, true, at(10), None));
    assert!(!send(&db, seeded, claim(3, 1, 20)).await, "an exchange is going on");

    let held = claim_all(&db, process(1), at(20)).await.into_iter().find(|held| held.run == first).unwrap();
    let mut over = two_events(&held);
    over.projection = journal::Projection { status: "succeeded", finished_at: Some(at(30)), ..running() };
    journal::append(&db, seeded.scope, over).await.unwrap();
    let idle = row(&db, seeded, 1).await;
    assert_eq!((idle.busy, idle.asked_at, idle.answered_at), (false, Some(at(10)), Some(at(30))));
    assert!(send(&db, seeded, claim(4, 1, 40)).await);
    let exchanges = sessions::exchanges(&db, seeded.scope, session(1), 2, 10).await.unwrap();
    assert_eq!(exchanges, [(2, run(4)), (1, first)]);
    assert_eq!(sessions::exchanges(&db, seeded.scope, session(1), 1, 10).await.unwrap(), [(1, first)]);
    assert_eq!(sessions::runs(&db, seeded.scope, session(1), 10).await.unwrap(), [first, run(4)]);
    assert!(sessions::exchanges(&db, other.scope, session(1), 2, 10).await.unwrap().is_empty());
});

db_test!(a_session_stops_once_and_goes_whole, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let other = seed(&db, tenant(2)).await.unwrap();
    for (n, micros) in [(1, 5), (2, 6), (3, 6)] {
        make(&db, seeded, n, micros).await;
    }
    make(&db, other, 4, 9).await;
    let stop =
        |micros| db.write(seeded.scope, move |tx| Box::pin(sessions::stop(tx, session(1), at(micros))));
    stop(7).await.unwrap();
    stop(8).await.unwrap();
    assert_eq!(row(&db, seeded, 1).await.stopped_at, Some(at(7)));
    assert!(!send(&db, seeded, Claim { session: session(1), exchanges: 0, run: run(1), at: at(9) }).await);
    let list = |before, limit| sessions::list(&db, seeded.scope, before, limit);
    let ids = |rows: Vec<SessionRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(list(None, 2).await.unwrap()), [session(1), session(3)]);
    assert_eq!(ids(list(Some((at(6), session(3))), 2).await.unwrap()), [session(2)]);
    db.write(seeded.scope, |tx| Box::pin(sessions::remove(tx, session(1)))).await.unwrap();
    assert!(sessions::find(&db, seeded.scope, session(1)).await.unwrap().is_none());
    assert_eq!(list(None, 9).await.unwrap().len(), 2);
});
