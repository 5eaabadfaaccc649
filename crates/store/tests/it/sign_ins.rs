//! Sign-ins: renewed by one of all who try, ended, swept.

use futures_util::future::join;
use lantern_policy::Scope;
use lantern_store::sign_ins::{self, FIRST, LASTING_MAX, NewSignIn};
use lantern_store::testing::seed;
use lantern_store::{Db, db_test, system};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

const USER: &str =
    "INSERT INTO users (tenant_id, id, email, email_key, name, role, password_hash, created_at)
    VALUES ($1, $2, $3, $3, 'Ada', 'member', 'none', 1)";
const LEFT: &str = "SELECT id FROM sign_ins WHERE tenant_id = $1 ORDER BY id";

fn id(n: u32) -> SignInId {
    SignInId::from_uuid(Uuid::from_u128(n.into()))
}

/// A tenant in which one person may sign in.
async fn house(db: &Db, n: u8) -> Scope {
    let scope = seed(db, tenant(n.into())).await.unwrap().scope;
    let email = format!("ada@{n}.example.com");
    let made = db.write(scope, move |tx| {
        Box::pin(async move { tx.exec(USER, &[DEV_USER.into(), email.into()]).await })
    });
    made.await.unwrap();
    scope
}

async fn begin(db: &Db, scope: Scope, n: u32, now: i64) {
    let new = NewSignIn { id: id(n), user: DEV_USER, expires_at: at(now + 100) };
    db.write(scope, move |tx| Box::pin(async move { sign_ins::begin(tx, new, at(now)).await }))
        .await
        .unwrap();
}

async fn renew(db: &Db, scope: Scope, n: u32, generation: u32, now: i64) -> bool {
    let renewed = db.write(scope, move |tx| {
        Box::pin(async move { sign_ins::renew(tx, id(n), generation, at(now), at(now + 100)).await })
    });
    renewed.await.unwrap()
}

async fn left(db: &Db, scope: Scope) -> Vec<SignInId> {
    let rows = db.read(scope, |tx| Box::pin(async move { tx.all(LEFT, &[]).await })).await.unwrap();
    rows.iter().map(|row| row.id("id").unwrap()).collect()
}

db_test!(a_sign_in_is_renewed_by_its_last_token_alone, async |db| {
    let (one, two) = (house(&db, 1).await, house(&db, 2).await);
    begin(&db, one, 1, 10).await;
    let found = system::sign_in(&db, tenant(1), id(1)).await.unwrap().unwrap();
    assert_eq!((found.user, found.role.as_str(), found.created_at), (DEV_USER, "member", at(10)));
    assert_eq!((found.generation, found.expires_at), (i64::from(FIRST), at(110)));
    assert_eq!(system::sign_in(&db, tenant(2), id(1)).await.unwrap(), None);
    assert!(!renew(&db, two, 1, FIRST, 20).await, "another tenant's");
    let (first, second) = join(renew(&db, one, 1, FIRST, 20), renew(&db, one, 1, FIRST, 20)).await;
    assert!(first != second, "of two at once one has it");
    assert!(!renew(&db, one, 1, FIRST, 30).await && !renew(&db, one, 1, FIRST + 2, 30).await);
    assert!(renew(&db, one, 1, FIRST + 1, 119).await);
    assert!(!renew(&db, one, 1, FIRST + 2, 219).await, "over");
    let all = system::sign_ins(&db, vec![(tenant(1), id(1)), (tenant(2), id(1))]).await.unwrap();
    assert_eq!(all, [((tenant(1), id(1)), at(219))]);
});

db_test!(what_is_over_is_swept_and_so_is_one_too_many, async |db| {
    let (one, two) = (house(&db, 1).await, house(&db, 2).await);
    begin(&db, two, 1, 10).await;
    begin(&db, one, 1, 10).await;
    begin(&db, one, 2, 60).await;
    assert_eq!(left(&db, one).await, [id(1), id(2)]);
    begin(&db, one, 3, 110).await;
    assert_eq!((left(&db, one).await, left(&db, two).await), (vec![id(2), id(3)], vec![id(1)]));
    for n in 4..=LASTING_MAX + 1 {
        begin(&db, one, n, 120).await;
    }
    assert_eq!(left(&db, one).await.len(), LASTING_MAX as usize);
    begin(&db, one, LASTING_MAX + 2, 121).await;
    let kept = left(&db, one).await;
    assert_eq!((kept.len(), kept[0]), (LASTING_MAX as usize, id(3)), "the one used longest ago went");
});
