//! Archives and sealed bodies in which something was changed: what they were or refused, and nothing is left behind.

use lantern_store::seal::Place;
use lantern_store::testing::{Folder, SeededIds, SetClock, block_on, seed};
use lantern_store::{Db, Error, Keys, Sealer, SqliteOptions, backup, journal};
use proptest::prelude::*;

use crate::support::*;

const PLACE: Place<'static> = Place { purpose: "journal", row: b"run-1" };

#[test]
fn a_sealed_body_in_which_anything_was_changed_is_refused() {
    block_on(async {
        let db = Db::inline_sqlite().unwrap();
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        let keys = Keys::from_ids(&SeededIds::new(1));
        let clock = std::sync::Arc::new(SetClock::at(at(1)));
        let sealer = Sealer::new(db, &keys, std::sync::Arc::new(SeededIds::new(2)), clock).unwrap();
        let open = |bytes: Vec<u8>| {
            let opened = futures_util::FutureExt::now_or_never(sealer.open(scope, PLACE, &bytes));
            opened.expect("the key is known")
        };
        let seal = |plain: &[u8]| {
            futures_util::FutureExt::now_or_never(sealer.seal(scope, PLACE, plain)).unwrap().unwrap()
        };
        proptest!(ProptestConfig::with_cases(256), |(
            plain in proptest::collection::vec(any::<u8>(), 0..80),
            bits in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
            more in proptest::collection::vec(any::<u8>(), 1..20),
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        )| {
            let sealed = seal(&plain);
            prop_assert_eq!(open(sealed.clone()).unwrap(), plain);
            let mut flipped = sealed.clone();
            for bit in bits {
                let bit = bit.index(sealed.len() * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
            }
            for wrong in [flipped, [sealed.clone(), more].concat(), noise] {
                let opened = open(wrong.clone());
                prop_assert!(wrong == sealed || matches!(opened, Err(Error::Sealed(_))), "{:?}", opened);
            }
        });
    });
}

#[test]
fn an_archive_in_which_anything_was_changed_is_what_it_was_or_refused() {
    let (live, place) = (Folder::new("archived"), Folder::new("archives"));
    let file = place.path().join("backup.tar");
    let (held, scope) = block_on(async {
        let db = Db::open_sqlite(live.path(), SqliteOptions::at(at(1))).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        (backup::make(live.path(), &file, false, at(2)).unwrap(), seeded.scope)
    });
    let good = std::fs::read(&file).unwrap();
    let (changed, fresh) = (place.path().join("changed.tar"), place.path().join("fresh"));
    let config = ProptestConfig { max_shrink_iters: 20, ..ProptestConfig::with_cases(48) };
    proptest!(config, |(
        // As often in the heads of its parts as in what they hold.
        at_all in any::<proptest::sample::Index>(),
        at_head in 0_usize..1_024,
        head in any::<bool>(),
        with in any::<u8>(),
        cut in proptest::bool::weighted(0.2),
    )| {
        let mut bytes = good.clone();
        let spot = if head { at_head } else { at_all.index(bytes.len()) };
        if cut { bytes.truncate(spot) } else { bytes[spot] = with }
        std::fs::write(&changed, &bytes).unwrap();
        match backup::restore(&changed, &fresh) {
            Ok(restored) => {
                prop_assert_eq!(restored, held);
                let rows = block_on(async {
                    let db = Db::open_sqlite(&fresh, SqliteOptions::at(at(3))).await.unwrap();
                    journal::read(&db, scope, run(1), 1, 9).await.unwrap().len()
                });
                prop_assert_eq!(rows, 1);
                std::fs::remove_dir_all(&fresh).unwrap();
            }
            Err(_) => prop_assert!(!fresh.exists(), "byte {spot} left something behind"),
        }
    });
}
