//! Blobs that no row names: which are removed, when, and who wins when an append comes for one after all.

use std::sync::Arc;

use futures_util::future::join;
use lantern_store::journal::{self, Created};
use lantern_store::seal::Place;
use lantern_store::testing::{Folder, Seeded, SeededIds, SetClock, seed};
use lantern_store::{Blobs, Db, Error, Keys, Result, Sealed, Sealer, Vault, db_test};
use lantern_types::*;

use crate::bucket;
use crate::fake_bucket::{FakeBucket, Wrong};
use crate::support::*;

const HERE: Place<'static> = Place { purpose: "journal", row: b"run-1" };
const START: At = at(1_700_000_000_000_000);
const HOUR: Dur = Dur::from_secs(3_600);
const DAY: Dur = Dur::from_secs(86_400);
const COUNT: &str = "SELECT count(*) AS n FROM loose_blobs WHERE tenant_id = $1";

/// A tenant, and a vault that it is `START` at.
struct Stand {
    db: Db,
    seeded: Seeded,
    vault: Vault,
    clock: Arc<SetClock>,
}

impl Stand {
    async fn new(db: &Db, n: u128, blobs: Blobs) -> Self {
        let seeded = seed(db, tenant(n)).await.unwrap();
        let clock = Arc::new(SetClock::at(START));
        let keys = Keys::from_ids(&SeededIds::new(1));
        let sealer = Sealer::new(db.clone(), &keys, Arc::new(SeededIds::new(2)), clock.clone()).unwrap();
        Self { db: db.clone(), seeded, vault: Vault::new(sealer, blobs), clock }
    }

    async fn put(&self) -> Sealed {
        self.vault.seal(self.seeded.scope, HERE, &vec![7; 100_000]).await.unwrap()
    }

    /// Starts a run whose first append names the blob.
    async fn name(&self, id: RunId, blob: &Sealed) -> Result<Created> {
        let mut new = new_run(self.seeded, id, START);
        new.body = Some(blob.stored.clone());
        create(&self.db, self.seeded.scope, new).await
    }

    async fn is_there(&self, blob: &Sealed) -> bool {
        match self.vault.open(self.seeded.scope, HERE, &blob.stored).await {
            Err(Error::Missing(_)) => false,
            opened => opened.unwrap().len() == 100_000,
        }
    }

    async fn sweep(&self, now: At) {
        while self.vault.sweep(now, 10).await.unwrap() {}
    }

    async fn loose(&self) -> i64 {
        let scope = self.seeded.scope;
        let row = self.db.read(scope, |tx| Box::pin(async move { tx.one(COUNT, &[]).await })).await;
        row.unwrap().unwrap().int("n").unwrap()
    }
}

db_test!(what_no_row_names_is_removed_and_nothing_else, async |db| {
    let (fake, folder) = (FakeBucket::start().await, Folder::new("sweep"));
    let places = [
        Blobs::folder(folder.path()),
        bucket::blobs(fake.options(), &Folder::new("before")),
        Blobs::memory(),
    ];
    for (n, blobs) in (1..).zip(places) {
        let stand = Stand::new(&db, n, blobs).await;
        let (named, stray) = (stand.put().await, stand.put().await);
        stand.name(run(1), &named).await.unwrap();
        stand.clock.set(START + DAY);
        let young = stand.put().await;
        let early = DAY + Dur::from_secs(3_599);
        for (after, there) in [(HOUR, true), (DAY, true), (early, true), (DAY + HOUR, false)] {
            stand.sweep(START + after).await;
            assert_eq!(stand.is_there(&stray).await, there, "{n}: {} s", after.millis() / 1_000);
        }
        assert!(stand.is_there(&named).await && stand.is_there(&young).await);
        stand.name(run(2), &young).await.unwrap();
        assert_eq!(stand.loose().await, 0);
        stand.sweep(START + DAY.times(9)).await;
        assert!(stand.is_there(&named).await && stand.is_there(&young).await);
    }
    assert_eq!(fake.objects().len(), 2);
});

db_test!(a_round_is_bounded_and_a_tenant_is_not_anothers, async |db| {
    let blobs = Blobs::memory();
    let (one, two) = (Stand::new(&db, 1, blobs.clone()).await, Stand::new(&db, 2, blobs).await);
    let (kept, mut strays) = (two.put().await, Vec::new());
    two.name(run(1), &kept).await.unwrap();
    for _ in 0..5 {
        strays.push(one.put().await);
    }
    for after in [DAY, DAY + HOUR] {
        assert!(one.vault.sweep(START + after, 3).await.unwrap());
        assert!(!two.vault.sweep(START + after, 3).await.unwrap(), "any process sweeps for every tenant");
    }
    for stray in &strays {
        assert!(!one.is_there(stray).await);
    }
    assert!(two.is_there(&kept).await);
});

db_test!(a_doomed_blob_can_be_named_by_nobody, async |db| {
    let stand = Stand::new(&db, 1, Blobs::memory()).await;
    let (late, later) = (stand.put().await, stand.put().await);
    stand.sweep(START + DAY).await;
    stand.name(run(1), &late).await.unwrap();
    stand.sweep(START + DAY + HOUR).await;
    assert!(stand.is_there(&late).await && !stand.is_there(&later).await);
    let refused = stand.name(run(2), &later).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(journal::head(&db, stand.seeded.scope, run(2)).await.unwrap().is_none());
    let claimed = claim_all(&db, process(1), START).await.remove(0);
    let append = journal::Append { body: Some(later.stored.clone()), ..two_events(&claimed) };
    let refused = journal::append(&db, stand.seeded.scope, append.clone()).await;
    assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
    let anew = journal::Append { body: Some(stand.put().await.stored), ..append };
    journal::append(&db, stand.seeded.scope, anew).await.unwrap();
});

db_test!(an_append_and_the_sweep_never_both_have_a_blob, async |db| {
    let stand = Stand::new(&db, 1, Blobs::memory()).await;
    for n in 0..40 {
        let blob = stand.put().await;
        stand.sweep(START + DAY).await;
        let (named, ()) = if n % 2 == 0 {
            join(stand.name(run(n), &blob), stand.sweep(START + DAY + HOUR)).await
        } else {
            let (swept, named) = join(stand.sweep(START + DAY + HOUR), stand.name(run(n), &blob)).await;
            (named, swept)
        };
        assert_eq!(named.is_ok(), stand.is_there(&blob).await, "{n}: {named:?}");
    }
});

db_test!(what_cannot_be_removed_with_its_run_is_removed_later, async |db| {
    let (fake, folder) = (FakeBucket::start().await, Folder::new("before"));
    let stand = Stand::new(&db, 1, bucket::blobs(fake.options(), &folder)).await;
    let (scope, blob) = (stand.seeded.scope, stand.put().await);
    stand.name(run(1), &blob).await.unwrap();
    let mut last = two_events(&claim_all(&db, process(1), START).await.remove(0));
    last.projection.finished_at = Some(START);
    journal::append(&db, scope, last).await.unwrap();
    let deleted = db.write(scope, |tx| Box::pin(journal::delete(tx, run(1), START))).await.unwrap().unwrap();
    assert_eq!(deleted, [blob.digest]);
    fake.misbehave([Wrong::Status(403, "AccessDenied")]);
    assert!(stand.vault.discard(scope, &deleted).await.is_err());
    fake.misbehave([Wrong::Status(403, "AccessDenied")]);
    assert!(stand.vault.sweep(START + HOUR, 10).await.is_err());
    assert!(stand.is_there(&blob).await);
    assert!(stand.name(run(2), &blob).await.is_err(), "it may go at any time");
    stand.sweep(START + HOUR + HOUR).await;
    assert_eq!((stand.is_there(&blob).await, stand.loose().await), (false, 0));
});
