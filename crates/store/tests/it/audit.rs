//! The audit log: chained, whoever appends at the same time, and broken by whatever the database's owner does to it.

use futures_util::future::join_all;
use lantern_policy::Scope;
use lantern_store::audit::{self, Entry, Filter, Marks};
use lantern_store::testing::{SeededIds, seed};
use lantern_store::{Db, Keys, db_test};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

fn entry(n: i64) -> Entry {
    Entry {
        at: at(n),
        actor: "user".to_owned(),
        principal: Some(Uuid::from_u128(7)),
        action: if n % 2 == 0 { "agents.create" } else { "agents.update" }.to_owned(),
        resource: format!("/v1/agents/{n}"),
        outcome: "succeeded".to_owned(),
        status: 200,
        code: None,
        times: 1,
        before: None,
        after: Some(Digest::of(&n.to_be_bytes())),
        request: RequestId::from_uuid(Uuid::from_u128(1)),
        source: None,
    }
}

fn marks(seed: u64) -> Marks {
    Marks::new(&Keys::from_ids(&SeededIds::new(seed))).unwrap()
}

async fn broken(db: &Db, scope: Scope) -> Option<i64> {
    audit::verify(db, scope, &marks(1)).await.unwrap().broken.map(|broken| broken.id)
}

db_test!(groups_that_meet_make_one_chain, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    let marks = marks(1);
    assert_eq!(audit::verify(&db, scope, &marks).await.unwrap().entries, 0);
    let groups = (0..4).map(|g| {
        let (db, marks) = (&db, &marks);
        async move {
            let entries: Vec<Entry> = (0..5).map(|n| entry(g * 5 + n)).collect();
            audit::append(db, scope, marks, &entries).await.unwrap();
        }
    });
    join_all(groups).await;
    let verified = audit::verify(&db, scope, &marks).await.unwrap();
    assert_eq!((verified.entries, verified.broken), (20, None));
    let all = audit::after(&db, scope, 0).await.unwrap();
    assert_eq!(all.iter().map(|kept| kept.id).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let mut said: Vec<i64> = all.iter().map(|kept| kept.entry.at.micros()).collect();
    said.sort_unstable();
    assert_eq!(said, (0..20).collect::<Vec<_>>());
    // Another tenant has a log of its own, and another instance's marks are none.
    let other = seed(&db, tenant(2)).await.unwrap().scope;
    assert!(audit::after(&db, other, 0).await.unwrap().is_empty());
    assert!(audit::verify(&db, scope, &self::marks(2)).await.unwrap().broken.is_some());
});

db_test!(a_list_is_filtered_and_goes_back, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    let entries: Vec<Entry> = (1..=9).map(entry).collect();
    audit::append(&db, scope, &marks(1), &entries).await.unwrap();
    let ids = async |filter: Filter| {
        let found = audit::list(&db, scope, Filter { limit: 3, ..filter }).await.unwrap();
        found.iter().map(|kept| kept.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Filter::default()).await, [9, 8, 7]);
    assert_eq!(ids(Filter { before: Some(3), ..Filter::default() }).await, [2, 1]);
    let even = vec!["agents.create".to_owned()];
    assert_eq!(ids(Filter { actions: even, ..Filter::default() }).await, [8, 6, 4]);
    assert_eq!(ids(Filter { since: Some(at(2)), until: Some(at(4)), ..Filter::default() }).await, [3, 2]);
    assert_eq!(ids(Filter { resource: Some("/v1/agents/5".to_owned()), ..Filter::default() }).await, [5]);
    assert!(ids(Filter { principal: Some(Uuid::nil()), ..Filter::default() }).await.is_empty());
    assert!(ids(Filter { outcomes: vec!["denied".to_owned()], ..Filter::default() }).await.is_empty());
});

#[test]
fn the_first_entry_that_was_tampered_with_is_named() {
    lantern_store::testing::on_sqlite(async |db| {
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        let entries: Vec<Entry> = (1..=8).map(entry).collect();
        audit::append(&db, scope, &marks(1), &entries).await.unwrap();
        let exec = async |sql: &'static str| {
            db.write(scope, move |tx| Box::pin(async move { tx.exec(sql, &[]).await })).await.unwrap();
        };
        assert_eq!(broken(&db, scope).await, None);
        for (tamper, mend, want) in [
            (
                "UPDATE audit_entries SET outcome = 'denied' WHERE tenant_id = $1 AND id = 4",
                "UPDATE audit_entries SET outcome = 'succeeded' WHERE tenant_id = $1 AND id = 4",
                4,
            ),
            (
                "UPDATE audit_entries SET id = -3 WHERE tenant_id = $1 AND id = 3",
                "UPDATE audit_entries SET id = 3 WHERE tenant_id = $1 AND id = -3",
                3,
            ),
            (
                "UPDATE audit_entries SET id = 100 WHERE tenant_id = $1 AND id = 8",
                "UPDATE audit_entries SET id = 8 WHERE tenant_id = $1 AND id = 100",
                8,
            ),
            (
                "UPDATE audit_entries SET after_digest = NULL WHERE tenant_id = $1 AND id >= 6",
                "UPDATE audit_entries SET after_digest = hash WHERE tenant_id = $1 AND id >= 7",
                6,
            ),
        ] {
            exec(tamper).await;
            assert_eq!(broken(&db, scope).await, Some(want), "{tamper}");
            exec(mend).await;
        }
    });
}

db_test!(a_chain_that_somebody_else_made_is_not_ours, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    audit::append(&db, scope, &marks(1), &[entry(1), entry(2)]).await.unwrap();
    // Whoever has the database and not the key writes entry after entry as we would.
    audit::append(&db, scope, &marks(9), &[entry(3)]).await.unwrap();
    assert_eq!(broken(&db, scope).await, Some(3));
});

#[test]
fn the_role_that_serves_changes_no_entry() {
    lantern_store::testing::on_postgres(async |db| {
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        audit::append(&db, scope, &marks(1), &[entry(1)]).await.unwrap();
        for sql in [
            "UPDATE audit_entries SET outcome = 'x' WHERE tenant_id = $1",
            "DELETE FROM audit_entries WHERE tenant_id = $1",
            "DELETE FROM audit_heads WHERE tenant_id = $1",
        ] {
            let refused = db.write(scope, move |tx| Box::pin(async move { tx.exec(sql, &[]).await })).await;
            assert!(refused.is_err(), "{sql}");
        }
        assert_eq!(broken(&db, scope).await, None);
    });
}
