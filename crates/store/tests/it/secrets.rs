//! Secrets: which version counts, what a moved ciphertext opens to, and keys that change while everybody goes on.

use std::sync::Arc;

use futures_util::future::join;
use lantern_policy::Scope;
use lantern_store::secrets::{self, Change, SecretRow};
use lantern_store::testing::{SeededIds, SetClock, seed};
use lantern_store::{Db, Error, Keys, Result, Sealer, Value, db_test};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

/// A process of the database: all have one master key, and randomness of their own.
fn process_of(db: &Db, n: u64) -> Sealer {
    let keys = Keys::from_ids(&SeededIds::new(1));
    Sealer::new(db.clone(), &keys, Arc::new(SeededIds::new(1_000 + n)), Arc::new(SetClock::at(at(5))))
        .unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn id(n: u128) -> SecretId {
    SecretId::from_uuid(Uuid::from_u128(n))
}

fn value(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

async fn create(sealer: &Sealer, scope: Scope, n: u128, called: &str, says: &str) {
    let made = secrets::create(sealer, scope, (id(n), &name(called)), &value(says), 100).await;
    assert!(made.unwrap(), "{called}");
}

async fn find(sealer: &Sealer, scope: Scope, called: &str) -> SecretRow {
    secrets::find(sealer, scope, &name(called)).await.unwrap().unwrap()
}

async fn resolve(sealer: &Sealer, scope: Scope, reference: &str) -> Result<Option<String>> {
    let reference = Reference::parse(reference).unwrap();
    let found = secrets::resolve(sealer, scope, &reference).await?;
    Ok(found.map(|found| found.value.expose().clone()))
}

async fn says(sealer: &Sealer, scope: Scope, called: &str) -> Option<String> {
    resolve(sealer, scope, &format!("lantern.secret://tenant/{called}")).await.unwrap()
}

async fn exec(db: &Db, scope: Scope, sql: &'static str, params: Vec<Value>) -> Result<u64> {
    db.write(scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await })).await
}

async fn bytes(db: &Db, scope: Scope, sql: &'static str, params: Vec<Value>) -> Vec<u8> {
    let row = db.read(scope, move |tx| Box::pin(async move { tx.one(sql, &params).await })).await.unwrap();
    row.unwrap().bytes("bytes").unwrap()
}

db_test!(the_newest_enabled_version_counts, async |db| {
    let (one, two) = (seed(&db, tenant(1)).await.unwrap().scope, seed(&db, tenant(2)).await.unwrap().scope);
    let sealer = process_of(&db, 1);
    assert_eq!(says(&sealer, one, "db").await, None, "nobody has handed one in");
    create(&sealer, one, 1, "db", "first").await;
    let row = find(&sealer, one, "db").await;
    assert_eq!(secrets::add(&sealer, one, &row, &value("second")).await.unwrap(), 2);
    assert_eq!(says(&sealer, one, "db").await.as_deref(), Some("second"));
    let stale = secrets::add(&sealer, one, &row, &value("third")).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    let twice = secrets::create(&sealer, one, (id(9), &name("db")), &value("x"), 100).await;
    assert!(matches!(twice, Err(Error::Conflict)), "{twice:?}");
    assert!(!secrets::create(&sealer, one, (id(9), &name("more")), &value("x"), 1).await.unwrap(), "full");

    for (version, change, counts) in [
        (2, Change::Enable(false), Some("first")),
        (1, Change::Enable(false), None),
        (2, Change::Enable(true), Some("second")),
        (1, Change::Enable(true), Some("second")),
        (2, Change::Remove, Some("first")),
    ] {
        let row = find(&sealer, one, "db").await;
        assert!(secrets::change(&sealer, one, &row, version, change).await.unwrap());
        assert_eq!(says(&sealer, one, "db").await.as_deref(), counts, "{version} {change:?}");
        let late = secrets::change(&sealer, one, &row, version, change).await;
        assert!(matches!(late, Err(Error::Conflict)), "{late:?}");
    }
    let row = find(&sealer, one, "db").await;
    assert!(!secrets::change(&sealer, one, &row, 7, Change::Remove).await.unwrap(), "no such version");
    let row = find(&sealer, one, "db").await;
    assert_eq!(secrets::add(&sealer, one, &row, &value("third")).await.unwrap(), 3, "numbers are used once");

    // References: one's own, by every spelling; another tenant's never.
    let own = tenant(1);
    for (reference, want) in [
        ("lantern.secret://tenant/db".to_owned(), Some("third")),
        ("lantern.secret://__tenant__/key/db".to_owned(), Some("third")),
        (format!("lantern.secret://tenant/{own}/key/db"), Some("third")),
        (format!("lantern.secret://tenant/{}/key/db", tenant(2)), None),
        ("lantern.secret://tenant/DB".to_owned(), None),
        ("lantern.secret/llm/db".to_owned(), None),
        ("lantern.secret/connector/db/oauth".to_owned(), None),
    ] {
        assert_eq!(resolve(&sealer, one, &reference).await.unwrap().as_deref(), want, "{reference}");
    }
    assert_eq!(resolve(&sealer, two, &format!("lantern.secret://tenant/{own}/key/db")).await.unwrap(), None);
    assert_eq!(says(&sealer, two, "db").await, None);
    let row = find(&sealer, one, "db").await;
    secrets::remove(&sealer, one, &row).await.unwrap();
    assert_eq!(says(&sealer, one, "db").await, None);
});

db_test!(a_providers_key_is_resolved_as_its_row_has_it, async |db| {
    let (one, two) = (seed(&db, tenant(1)).await.unwrap().scope, seed(&db, tenant(2)).await.unwrap().scope);
    let sealer = process_of(&db, 1);
    create(&sealer, one, 1, "models", "sk-of-secret").await;
    const SAVE: &str =
        "INSERT INTO llm_providers (tenant_id, provider, api_key, secret, models, created_at, updated_at)
        VALUES ($1, $2, $3, $4, '[]', 1, 1)";
    let place = lantern_store::seal::Place { purpose: "llm_provider", row: b"own" };
    let sealed = sealer.seal(one, place, b"sk-of-row").await.unwrap();
    for (provider, key, secret) in
        [("own", Some(sealed), Some("models")), ("named", None, Some("models")), ("gone", None, Some("none"))]
    {
        exec(&db, one, SAVE, vec![provider.into(), key.into(), secret.into()]).await.unwrap();
    }
    for (provider, want) in
        [("own", Some("sk-of-row")), ("named", Some("sk-of-secret")), ("gone", None), ("unknown", None)]
    {
        let reference = format!("lantern.secret/llm/{provider}");
        assert_eq!(resolve(&sealer, one, &reference).await.unwrap().as_deref(), want, "{provider}");
        assert_eq!(resolve(&sealer, two, &reference).await.unwrap(), None, "{provider}");
    }
});

const SEALED: &str =
    "SELECT sealed AS bytes FROM secret_versions WHERE tenant_id = $1 AND secret_id = $2 AND version = $3";
const WRAPPED: &str = "SELECT wrapped AS bytes FROM secret_keys WHERE tenant_id = $1 AND version = $2";
const MOVE: &str =
    "UPDATE secret_versions SET sealed = $4 WHERE tenant_id = $1 AND secret_id = $2 AND version = $3";

db_test!(a_ciphertext_opens_in_its_own_row_alone, async |db| {
    let (one, two) = (seed(&db, tenant(1)).await.unwrap().scope, seed(&db, tenant(2)).await.unwrap().scope);
    let sealer = process_of(&db, 1);
    create(&sealer, one, 1, "a", "of a").await;
    create(&sealer, one, 2, "b", "of b").await;
    create(&sealer, two, 1, "a", "of two").await;
    let row = find(&sealer, one, "a").await;
    secrets::add(&sealer, one, &row, &value("of a, later")).await.unwrap();
    let at_row = |n: u128, version: i64| vec![Value::from(id(n)), version.into()];
    let own = bytes(&db, one, SEALED, at_row(1, 1)).await;
    assert!(!own.windows(4).any(|window| window == b"of a"));

    // Into another version, another secret, and another tenant; each then put back.
    for (scope, n, version, called) in [(one, 1, 2, "a"), (one, 2, 1, "b"), (two, 1, 1, "a")] {
        let was = bytes(&db, scope, SEALED, at_row(n, version)).await;
        let put = async |sealed: Vec<u8>| {
            let params = [at_row(n, version), vec![sealed.into()]].concat();
            assert_eq!(exec(&db, scope, MOVE, params).await.unwrap(), 1);
        };
        put(own.clone()).await;
        let opened = resolve(&sealer, scope, &format!("lantern.secret://tenant/{called}")).await;
        assert!(matches!(opened, Err(Error::Sealed(_))), "{n} {version}: {opened:?}");
        put(was).await;
        assert!(says(&sealer, scope, called).await.is_some());
    }
    // With its key beside it.
    let key = bytes(&db, one, WRAPPED, vec![1_i64.into()]).await;
    const PLANT: &str =
        "INSERT INTO secret_keys (tenant_id, version, wrapped, created_at) VALUES ($1, 9, $2, 1)";
    exec(&db, two, PLANT, vec![key.clone().into()]).await.unwrap();
    const PLANTED: &str =
        "UPDATE secret_versions SET sealed = $3, key_version = 9 WHERE tenant_id = $1 AND secret_id = $2";
    exec(&db, two, PLANTED, vec![id(1).into(), own.clone().into()]).await.unwrap();
    let opened = resolve(&sealer, two, "lantern.secret://tenant/a").await;
    assert!(matches!(opened, Err(Error::Sealed(_))), "another tenant's key: {opened:?}");
    // The tenant's own key under another number is another key.
    exec(&db, one, PLANT, vec![key.into()]).await.unwrap();
    const RENUMBERED: &str =
        "UPDATE secret_versions SET key_version = 9 WHERE tenant_id = $1 AND secret_id = $2";
    exec(&db, one, RENUMBERED, vec![id(2).into()]).await.unwrap();
    let opened = resolve(&sealer, one, "lantern.secret://tenant/b").await;
    assert!(matches!(opened, Err(Error::Sealed(_))), "{opened:?}");
    // Under another name: refused by the role on one database, and opening nothing on the other.
    const RENAME: &str = "UPDATE secrets SET name = 'c' WHERE tenant_id = $1 AND id = $2";
    match exec(&db, one, RENAME, vec![id(1).into()]).await {
        Err(Error::Misuse(_)) => {}
        renamed => {
            assert_eq!(renamed.unwrap(), 1);
            let opened = resolve(&sealer, one, "lantern.secret://tenant/c").await;
            assert!(matches!(opened, Err(Error::Sealed(_))), "{opened:?}");
        }
    }
    // Changed in one bit.
    let mut changed = bytes(&db, one, SEALED, at_row(1, 2)).await;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    exec(&db, one, MOVE, [at_row(1, 2), vec![changed.into()]].concat()).await.unwrap();
    for called in ["a", "c"] {
        let reference = format!("lantern.secret://tenant/{called}");
        assert!(!matches!(resolve(&sealer, one, &reference).await, Ok(Some(_))), "{called}");
    }
});

db_test!(keys_change_while_everybody_goes_on, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap().scope;
    let two = seed(&db, tenant(2)).await.unwrap().scope;
    let sealer = process_of(&db, 1);
    let none = secrets::rekey(&sealer, one, None, 10).await.unwrap();
    assert_eq!((none.key, none.remaining), (0, 0), "there is nothing to seal");
    for n in 1..=7 {
        create(&sealer, one, n, &format!("s{n}"), &format!("value {n}")).await;
    }
    create(&sealer, two, 1, "s1", "of two").await;
    let before = bytes(&db, one, WRAPPED, vec![1_i64.into()]).await;

    let first = secrets::rekey(&sealer, one, None, 3).await.unwrap();
    assert_eq!((first.key, first.resealed, first.remaining), (2, 3, 4));
    // That process is gone. Others read both kinds, and write under the new key.
    let other = process_of(&db, 2);
    for n in 1..=7 {
        let want = format!("value {n}");
        assert_eq!(says(&other, one, &format!("s{n}")).await.as_deref(), Some(want.as_str()));
    }
    let row = find(&other, one, "s7").await;
    secrets::add(&other, one, &row, &value("newer")).await.unwrap();
    let under: Vec<(i64, i64)> =
        secrets::keys(&other, one).await.unwrap().iter().map(|key| (key.version, key.sealed)).collect();
    assert_eq!(under, [(2, 4), (1, 4)]);

    // It is gone on with, by one who does not know how far it was, and by another at the same time.
    let third = process_of(&db, 3);
    let (a, b) = join(secrets::rekey(&other, one, None, 3), secrets::rekey(&third, one, Some(2), 3)).await;
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.key, b.key), (2, 2), "no third key is made meanwhile");
    let mut last = b;
    while last.remaining > 0 {
        last = secrets::rekey(&other, one, Some(2), 3).await.unwrap();
    }
    let again = secrets::rekey(&other, one, Some(2), 3).await.unwrap();
    assert_eq!((again.key, again.resealed, again.remaining), (2, 0, 0), "done is done");
    let keys = secrets::keys(&other, one).await.unwrap();
    assert_eq!(keys.iter().map(|key| (key.version, key.sealed)).collect::<Vec<_>>(), [(2, 8)]);
    assert_ne!(bytes(&db, one, WRAPPED, vec![2_i64.into()]).await, before);
    for n in 1..=6 {
        let want = format!("value {n}");
        assert_eq!(says(&sealer, one, &format!("s{n}")).await.as_deref(), Some(want.as_str()));
    }
    assert_eq!(says(&sealer, one, "s7").await.as_deref(), Some("newer"));
    let next = secrets::rekey(&other, one, None, 100).await.unwrap();
    assert_eq!((next.key, next.resealed, next.remaining), (3, 8, 0), "another change begins");
    assert_eq!(says(&sealer, two, "s1").await.as_deref(), Some("of two"), "another tenant's keys stay");
    assert_eq!(secrets::keys(&sealer, two).await.unwrap().len(), 1);
});

db_test!(values_are_read_and_written_in_the_middle_of_a_change_of_keys, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap().scope;
    let sealer = process_of(&db, 1);
    for n in 1..=20 {
        create(&sealer, one, n, &format!("s{n}"), "old").await;
    }
    let (changes, reads) = (process_of(&db, 2), process_of(&db, 3));
    let rekeying = async {
        for round in 2..=4 {
            let mut to = None;
            loop {
                let done = secrets::rekey(&changes, one, to, 4).await.unwrap();
                to = Some(done.key);
                if done.remaining == 0 {
                    break;
                }
            }
            assert!(to >= Some(round));
        }
    };
    let using = async {
        for n in 1..=20 {
            let called = format!("s{n}");
            assert_eq!(says(&reads, one, &called).await.as_deref(), Some("old"));
            loop {
                let row = find(&reads, one, &called).await;
                match secrets::add(&reads, one, &row, &value("new")).await {
                    Ok(_) => break,
                    // Another key came in between.
                    Err(Error::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(says(&reads, one, &called).await.as_deref(), Some("new"));
        }
    };
    join(rekeying, using).await;
    for n in 1..=20 {
        assert_eq!(says(&sealer, one, &format!("s{n}")).await.as_deref(), Some("new"));
    }
});
