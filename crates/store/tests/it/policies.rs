//! Policies of tenants: versions that nobody changes, and what is in force in a process.

use lantern_cedar::Otherwise;
use lantern_policy::Scope;
use lantern_store::policies::{self, After, Mode, Version};
use lantern_store::testing::seed;
use lantern_store::{Db, Error, Standing, db_test};

use crate::support::*;

const NONE: &str = "forbid(principal, action, resource);";

async fn save(db: &Db, scope: Scope, text: &str, mode: Mode) -> Result<Version, Error> {
    let text = text.to_owned();
    db.write(scope, move |tx| {
        Box::pin(async move {
            let newest = policies::newest_in(tx).await?;
            let version =
                Version::after(newest.as_ref(), (text, Otherwise::Allow), mode, "ada".to_owned(), at(7));
            policies::add(tx, &version).await.map(|()| version)
        })
    })
    .await
}

db_test!(the_newest_version_is_in_force_for_its_tenant_alone, async |db| {
    let (a, b) = (seed(&db, tenant(1)).await.unwrap().scope, seed(&db, tenant(2)).await.unwrap().scope);
    let (one, other) = (Standing::default(), Standing::none());
    assert!(one.of(a.tenant()).is_err(), "nobody has looked yet");
    one.refresh(&db).await.unwrap();
    assert!(one.of(a.tenant()).unwrap().is_none());

    let first = save(&db, a, NONE, Mode::Enforce).await.unwrap();
    assert!(one.of(a.tenant()).unwrap().is_none(), "nothing changes before it is read");
    for standing in [&one, &other] {
        standing.refresh(&db).await.unwrap();
        let set = standing.of(a.tenant()).unwrap().unwrap();
        assert_eq!((set.version, set.digest, set.observes), (1, first.digest, false));
        assert!(set.policies.is_some() && standing.of(b.tenant()).unwrap().is_none());
    }
    save(&db, a, NONE, Mode::Observe).await.unwrap();
    save(&db, b, "", Mode::Enforce).await.unwrap();
    one.refresh(&db).await.unwrap();
    assert!(one.of(a.tenant()).unwrap().unwrap().observes);
    assert_eq!(one.of(b.tenant()).unwrap().unwrap().version, 1);
    save(&db, a, NONE, Mode::Off).await.unwrap();
    one.refresh(&db).await.unwrap();
    assert!(one.of(a.tenant()).unwrap().is_none());
    assert!(other.of(a.tenant()).unwrap().is_some(), "who has not looked goes by what it knows");

    let versions = policies::list(&db, a, i64::MAX, 2).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(policies::list(&db, a, 2, 9).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(policies::get(&db, a, 1).await.unwrap(), Some(first));
    assert_eq!(policies::get(&db, b, 3).await.unwrap(), None);
});

db_test!(what_cannot_be_read_is_not_left_out, async |db| {
    let a = seed(&db, tenant(1)).await.unwrap().scope;
    let standing = Standing::none();
    // As a later build may write it; and as no build does.
    for (text, mode) in
        [("forbid(principal, action, resource) when { later() };", Mode::Enforce), ("?", Mode::Observe)]
    {
        save(&db, a, text, mode).await.unwrap();
        standing.refresh(&db).await.unwrap();
        let set = standing.of(a.tenant()).unwrap().unwrap();
        assert!(set.policies.is_none() && !set.observes);
    }
    // Words and digests that are not what they should be.
    let good = policies::newest(&db, a).await.unwrap().unwrap();
    let good =
        Version { text: NONE.to_owned(), digest: lantern_cedar::digest(NONE, Otherwise::Allow), ..good };
    assert!(policies::Set::of(&good).unwrap().policies.is_some());
    for bad in [
        Version { mode: None, ..good.clone() },
        Version { otherwise: None, ..good.clone() },
        Version { otherwise: Some(Otherwise::Deny), ..good.clone() },
        Version { text: String::new(), ..good.clone() },
    ] {
        let set = policies::Set::of(&bad).unwrap();
        assert!(set.policies.is_none() && !set.observes, "{bad:?}");
    }
});

db_test!(two_who_save_at_once_do_not_share_a_version, async |db| {
    let a = seed(&db, tenant(1)).await.unwrap().scope;
    let version = save(&db, a, NONE, Mode::Enforce).await.unwrap();
    let again = db.write(a, move |tx| {
        let version = version.clone();
        Box::pin(async move { policies::add(tx, &version).await })
    });
    assert!(again.await.is_err());
});

db_test!(runs_of_the_past_come_in_pages_with_their_journals, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let other = seed(&db, tenant(2)).await.unwrap();
    create(&db, other.scope, new_run(other, run(99), at(10))).await.unwrap();
    for n in 1..=5_u128 {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10 + i64::try_from(n).unwrap() / 2)))
            .await
            .unwrap();
    }
    let all = policies::past(&db, seeded.scope, None, (at(0), at(100)), None).await.unwrap();
    let ids: Vec<_> = all.runs.iter().map(|run| run.id).collect();
    assert_eq!(ids, (1..=5).map(run).collect::<Vec<_>>());
    assert!(!all.more && all.runs.iter().all(|run| run.appends.len() == 1 && run.agent == "digest"));
    let after = Some(After { at: all.runs[2].at, run: all.runs[2].id });
    let rest =
        policies::past(&db, seeded.scope, Some("digest".to_owned()), (at(0), at(100)), after).await.unwrap();
    assert_eq!(rest.runs.iter().map(|run| run.id).collect::<Vec<_>>(), [run(4), run(5)]);
    let some = policies::past(&db, seeded.scope, None, (at(11), at(12)), None).await.unwrap();
    assert_eq!(some.runs.len(), 2);
    assert!(
        policies::past(&db, seeded.scope, Some("x".to_owned()), (at(0), at(100)), None)
            .await
            .unwrap()
            .runs
            .is_empty()
    );
});
