//! Tickets: kept as a hash, found by it, used once, swept.

use futures_util::future::join;
use lantern_policy::{Principal, Role, Scope};
use lantern_store::sign_ins::{self, NewSignIn};
use lantern_store::system::{self, Bearer};
use lantern_store::testing::{Cluster, block_on, seed};
use lantern_store::tickets::{self, NewTicket};
use lantern_store::{Db, db_test};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

const KEY: &str =
    "INSERT INTO api_keys (tenant_id, id, name, prefix, key_hash, scopes, created_at, expires_at)
    VALUES ($1, $2, 'k', 'hlx_live_', $3, '[\"read\"]', 1, 90)";
const USER: &str =
    "INSERT INTO users (tenant_id, id, email, email_key, name, role, password_hash, created_at)
    VALUES ($1, $2, 'ada@example.com', 'ada@example.com', 'Ada', 'member', 'none', 1)";
const SIGN_IN: SignInId = SignInId::from_uuid(Uuid::from_u128(8));
const REVOKE: &str = "UPDATE api_keys SET revoked_at = 50 WHERE tenant_id = $1";
const LEFT: &str = "SELECT hash FROM tickets WHERE tenant_id = $1";

fn person() -> Principal {
    let (email, name) = ("ada@example.com".to_owned(), "Ada".to_owned());
    Principal::User { id: DEV_USER, email, name, role: Role::Member, sign_in: SIGN_IN }
}

/// Signs the person in, at time 1.
async fn sign_in(db: &Db, scope: Scope) {
    let new = NewSignIn { id: SIGN_IN, user: DEV_USER, expires_at: at(1_000) };
    db.write(scope, move |tx| {
        Box::pin(async move {
            tx.exec(USER, &[DEV_USER.into()]).await?;
            sign_ins::begin(tx, new, at(1)).await
        })
    })
    .await
    .unwrap();
}

fn key() -> Principal {
    Principal::Key { id: ApiKeyId::from_uuid(Uuid::from_u128(7)), scopes: vec!["write".to_owned()] }
}

fn hash(n: u8) -> Digest {
    Digest::of(&[n])
}

/// Issues ticket `n` at time 10, good until 70, as one of at most three.
async fn issue(db: &Db, scope: Scope, n: u8, bearer: Principal, now: i64) -> bool {
    let session_ends_at = matches!(bearer, Principal::User { .. }).then_some(at(500));
    let new = NewTicket { hash: hash(n), bearer, session_ends_at, expires_at: at(now + 60) };
    db.write(scope, move |tx| Box::pin(tickets::issue(tx, new, at(now), 3))).await.unwrap()
}

db_test!(a_ticket_is_found_with_whom_it_speaks_for_and_used_once, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    assert!(issue(&db, one.scope, 1, person(), 10).await);
    assert_eq!(system::ticket_by_hash(&db, hash(1)).await.unwrap(), None, "nobody is signed in");
    sign_in(&db, one.scope).await;
    let found = system::ticket_by_hash(&db, hash(1)).await.unwrap().unwrap();
    assert_eq!((found.tenant, found.expires_at), (tenant(1), at(70)));
    let Bearer::Person(person, until) = found.bearer else { panic!("{:?}", found.bearer) };
    assert_eq!(
        (person.id, person.user, person.email.as_str(), person.role.as_str(), until),
        (SIGN_IN, DEV_USER, "ada@example.com", "member", at(500))
    );
    assert_eq!(system::ticket_by_hash(&db, hash(2)).await.unwrap(), None);

    assert!(!tickets::spend(&db, two.scope, hash(1)).await.unwrap(), "another tenant cannot use it up");
    let (first, second) =
        join(tickets::spend(&db, one.scope, hash(1)), tickets::spend(&db, one.scope, hash(1))).await;
    assert!(first.unwrap() != second.unwrap(), "of two at once one has it");
    assert!(!tickets::spend(&db, one.scope, hash(1)).await.unwrap());
    assert_eq!(system::ticket_by_hash(&db, hash(1)).await.unwrap(), None);
});

db_test!(a_keys_ticket_comes_with_the_key_as_it_is_now, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let exec = async |sql, params: Vec<lantern_store::Value>| {
        db.write(one.scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await })).await.unwrap()
    };
    assert!(issue(&db, one.scope, 1, key(), 10).await);
    assert_eq!(system::ticket_by_hash(&db, hash(1)).await.unwrap(), None, "a key that is gone");
    exec(KEY, vec![ApiKeyId::from_uuid(Uuid::from_u128(7)).into(), hash(9).into()]).await;
    let presented = async || match system::ticket_by_hash(&db, hash(1)).await.unwrap().unwrap().bearer {
        Bearer::Key(key) => key,
        other @ Bearer::Person(..) => panic!("{other:?}"),
    };
    let now = presented().await;
    assert_eq!((now.scopes.as_str(), now.expires_at, now.revoked_at), ("[\"read\"]", Some(at(90)), None));
    exec(REVOKE, vec![]).await;
    assert_eq!(presented().await.revoked_at, Some(at(50)));
});

db_test!(so_many_tickets_wait_and_old_ones_are_swept, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    for n in 1..=3 {
        assert!(issue(&db, one.scope, n, person(), 10).await);
    }
    assert!(!issue(&db, one.scope, 4, person(), 69).await, "three wait");
    assert!(issue(&db, two.scope, 5, key(), 69).await, "another tenant's are its own");
    assert!(tickets::spend(&db, one.scope, hash(2)).await.unwrap());
    assert!(issue(&db, one.scope, 6, person(), 69).await, "a used one waits no more");
    assert!(issue(&db, one.scope, 7, person(), 70).await);
    let left = async |scope: Scope| {
        let rows = db.read(scope, |tx| Box::pin(async move { tx.all(LEFT, &[]).await })).await.unwrap();
        let mut left: Vec<Digest> = rows.iter().map(|row| row.digest("hash").unwrap()).collect();
        left.sort_by_key(|hash| *hash.bytes());
        left
    };
    let mut want = [hash(6), hash(7)];
    want.sort_by_key(|hash| *hash.bytes());
    assert_eq!((left(one.scope).await, left(two.scope).await), (want.to_vec(), vec![hash(5)]));
});

#[test]
fn of_two_processes_one_uses_a_ticket() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let here = Db::open_postgres(&database.options()).await.unwrap();
        let there = Db::open_postgres(&database.options()).await.unwrap();
        let one = seed(&here, tenant(1)).await.unwrap();
        sign_in(&here, one.scope).await;
        for n in 0..20 {
            assert!(issue(&here, one.scope, n, person(), 10).await);
            assert!(system::ticket_by_hash(&there, hash(n)).await.unwrap().is_some());
            let (first, second) =
                join(tickets::spend(&here, one.scope, hash(n)), tickets::spend(&there, one.scope, hash(n)))
                    .await;
            assert!(first.unwrap() != second.unwrap(), "{n}");
        }
        drop((here, there));
        database.discard().await;
    });
}
