//! Limits that the operator sets for one tenant.

use lantern_store::testing::{on_postgres, seed};
use lantern_store::{InForce, db_test, limits};
use lantern_types::{At, Limits};
use serde_json::{Value, json};

use crate::support::*;

fn own(value: &Value) -> limits::Own {
    value.as_object().unwrap().clone()
}

db_test!(a_tenant_has_its_own_and_nobody_elses, async |db| {
    let (a, b) = (tenant(1), tenant(2));
    for tenant in [a, b] {
        seed(&db, tenant).await.unwrap();
    }
    let (now, by) = (At::from_micros(1), || "ada".to_owned());
    let in_force = InForce::new(Limits::default());
    in_force.refresh(&db).await.unwrap();
    assert_eq!(*in_force.of(a), Limits::default());
    assert!(in_force.bounds().own.is_empty());

    let set = own(&json!({"turnsPerRunMax": 3, "runsAtWorkPerTenantMax": 2}));
    limits::set(&db, a, set.clone(), by(), now).await.unwrap();
    assert_eq!(limits::own(&db, a).await.unwrap(), set);
    assert_eq!(in_force.of(a).turns_per_run_max, 40, "nothing changes before it is read");
    in_force.refresh(&db).await.unwrap();
    let want = Limits { turns_per_run_max: 3, runs_at_work_per_tenant_max: 2, ..Limits::default() };
    assert_eq!((&*in_force.of(a), in_force.own(a)), (&want, set));
    assert_eq!(*in_force.of(b), Limits::default());
    assert_eq!(in_force.bounds().own.get(&a), Some(&Some(2)));

    // What the server says now shows through where the tenant has nothing of its own.
    in_force.rebase(Limits { turns_per_run_max: 9, steps_per_run_max: 9, ..Limits::default() });
    let (of_a, of_b) = (in_force.of(a), in_force.of(b));
    assert_eq!((of_a.turns_per_run_max, of_a.steps_per_run_max), (3, 9));
    assert_eq!((of_b.turns_per_run_max, of_b.steps_per_run_max), (9, 9));

    // A later build wrote what this one does not know, or cannot mean: the rest holds.
    let later = own(&json!({"turnsPerRunMax": 4, "tasteMax": 1, "waitMax": "long"}));
    limits::set(&db, a, later, by(), now).await.unwrap();
    in_force.refresh(&db).await.unwrap();
    assert_eq!((in_force.of(a).turns_per_run_max, in_force.of(a).wait_max), (4, of_b.wait_max));

    limits::set(&db, a, limits::Own::new(), by(), now).await.unwrap();
    in_force.refresh(&db).await.unwrap();
    assert_eq!(in_force.of(a).turns_per_run_max, 9);
});

db_test!(a_tenant_is_found_by_its_id_and_its_slug, async |db| {
    let a = tenant(1);
    seed(&db, a).await.unwrap();
    // The seed's slug is the id, which is no slug to this: it is read as an id.
    for (named, want) in
        [(&*a.to_string(), Some(a)), (&*tenant(2).to_string(), None), ("b", None), ("", None)]
    {
        assert_eq!(limits::tenant(&db, named).await.unwrap(), want, "{named}");
    }
});

/// On PostgreSQL by its grants; SQLite has none, and no statement for it.
#[test]
fn no_tenant_writes_its_own() {
    on_postgres(async |db| {
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        let written = db.write(scope, |tx| {
            Box::pin(async move {
                let sql =
                    "INSERT INTO tenant_limits (tenant_id, limits, set_by, set_at) VALUES ($1, '{}', 'a', 1)";
                tx.exec(sql, &[]).await
            })
        });
        assert!(written.await.is_err());
    });
}
