//! Watched runs are looked at all at once, and whoever listens to one is woken when it is not as before.

use futures_util::FutureExt as _;
use lantern_policy::Scope;
use lantern_store::notify::RunWatch;
use lantern_store::testing::{Cluster, Seeded, block_on, seed};
use lantern_store::{Db, db_test, system, watched};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

/// Changes a row and tells nobody, as a process does whose hints get lost.
async fn quietly(db: &Db, scope: Scope, sql: &'static str, run: RunId) {
    let changed = db.write(scope, move |tx| Box::pin(async move { tx.exec(sql, &[run.into()]).await }));
    assert_eq!(changed.await.unwrap(), 1);
}

const APPEND: &str = "UPDATE runs SET version = version + 1 WHERE tenant_id = $1 AND id = $2";
const GIVE_UP: &str = "UPDATE runs SET finished_at = 7 WHERE tenant_id = $1 AND id = $2";
const DELETE: &str = "DELETE FROM runs WHERE tenant_id = $1 AND id = $2";

const NOBODY: [usize; 0] = [];

/// Which of them have been woken since this was asked last.
fn woken(watches: &mut [RunWatch]) -> Vec<usize> {
    let woken = watches.iter_mut().map(|watch| watch.changed().now_or_never().is_some());
    woken.enumerate().filter(|(_, woken)| *woken).map(|(n, _)| n).collect()
}

/// So many runs of a tenant that somebody listens to, of which the first look has been.
async fn listening(db: &Db, seeded: Seeded, from: u128, to: u128) -> Vec<RunWatch> {
    let mut watches = Vec::new();
    for n in from..to {
        create(db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
        watches.push(db.hub().subscribe(seeded.scope, run(n)));
    }
    watches
}

db_test!(whoever_listens_is_woken_by_a_look_at_all_of_them, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    watched::look(&db).await.unwrap();
    // More than one statement looks for, of two tenants.
    let mut watches = listening(&db, one, 0, 130).await;
    watches.extend(listening(&db, two, 130, 205).await);
    watched::look(&db).await.unwrap();
    assert_eq!(woken(&mut watches).len(), 205, "nobody had looked, so anything may have happened");
    watched::look(&db).await.unwrap();
    assert_eq!(woken(&mut watches), NOBODY);

    quietly(&db, one.scope, APPEND, run(3)).await;
    quietly(&db, one.scope, GIVE_UP, run(101)).await;
    quietly(&db, two.scope, APPEND, run(130)).await;
    quietly(&db, two.scope, DELETE, run(204)).await;
    watched::look(&db).await.unwrap();
    assert_eq!(woken(&mut watches), [3, 101, 130, 204]);
    watched::look(&db).await.unwrap();
    assert_eq!(woken(&mut watches), NOBODY);
});

db_test!(a_run_of_another_tenant_is_no_run_of_this_one, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
    let mut watches = [db.hub().subscribe(two.scope, run(1))];
    watched::look(&db).await.unwrap();
    assert_eq!(woken(&mut watches), [0]);
    quietly(&db, one.scope, APPEND, run(1)).await;
    watched::look(&db).await.unwrap();
    assert_eq!(woken(&mut watches), NOBODY, "it is not there, as before");
});

db_test!(keys_are_looked_at_together, async |db| {
    const KEY: &str =
        "INSERT INTO api_keys (tenant_id, id, name, prefix, key_hash, scopes, created_at, revoked_at)
        VALUES ($1, $2, 'k', 'hlx_live_', $3, '[]', 1, $4)";
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    let id = |n: u128| ApiKeyId::from_uuid(Uuid::from_u128(n));
    for n in 0..150_u128 {
        let scope = if n % 2 == 0 { one.scope } else { two.scope };
        let revoked = (n == 120).then_some(at(50));
        let params = [id(n).into(), Digest::of(&n.to_be_bytes()).into(), revoked.into()];
        db.write(scope, move |tx| Box::pin(async move { tx.exec(KEY, &params).await })).await.unwrap();
    }
    let asked = (0..150).map(|n| (tenant(1), id(n))).collect();
    let mut found = system::keys(&db, asked).await.unwrap();
    found.sort_by_key(|key| key.id);
    assert_eq!(found.len(), 75, "the others are another tenant's");
    assert!(found.iter().all(|key| key.tenant == tenant(1)));
    let revoked: Vec<_> = found.iter().filter(|key| key.revoked_at.is_some()).map(|key| key.id).collect();
    assert_eq!(revoked, [id(120)]);
    assert_eq!(system::keys(&db, Vec::new()).await.unwrap(), []);
});

#[test]
fn what_another_process_did_is_found() {
    block_on(async {
        let database = Cluster::shared().database().await;
        // Nobody carries hints between these two.
        let here = Db::open_postgres(&database.options()).await.unwrap();
        let there = Db::open_postgres(&database.options()).await.unwrap();
        let seeded = seed(&here, tenant(1)).await.unwrap();
        let mut watches = listening(&here, seeded, 0, 2).await;
        watched::look(&here).await.unwrap();
        woken(&mut watches);
        quietly(&there, seeded.scope, APPEND, run(1)).await;
        assert_eq!(woken(&mut watches), NOBODY);
        watched::look(&here).await.unwrap();
        assert_eq!(woken(&mut watches), [1]);
        drop((here, there));
        database.discard().await;
    });
}
