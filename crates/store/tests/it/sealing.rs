//! Keys, sealing and blobs: what opens, what does not, and what lies on the disk.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use lantern_store::seal::Place;
use lantern_store::testing::{Folder, SeededIds, SetClock, block_on, seed};
use lantern_store::{Blobs, Db, Error, Keys, Sealer, Vault, blob, db_test};
use lantern_types::*;

use crate::support::*;

const HERE: Place<'static> = Place { purpose: "journal", row: b"run-1" };

/// The ids of one seed make the master key; those of another data keys and nonces.
fn drawing(db: &Db, master: u64, ids: u64) -> Sealer {
    let keys = Keys::from_ids(&SeededIds::new(master));
    let clock = Arc::new(SetClock::at(at(1)));
    Sealer::new(db.clone(), &keys, Arc::new(SeededIds::new(ids)), clock).unwrap()
}

fn sealer(db: &Db, seed: u64) -> Sealer {
    drawing(db, seed, seed + 100)
}

db_test!(what_is_sealed_opens_only_in_its_place, async |db| {
    let (one, two) = (seed(&db, tenant(1)).await.unwrap().scope, seed(&db, tenant(2)).await.unwrap().scope);
    let first = sealer(&db, 1);
    let sealed = first.seal(one, HERE, b"a prompt").await.unwrap();
    assert!(!sealed.windows(8).any(|window| window == b"a prompt"));
    assert_ne!(sealed, first.seal(one, HERE, b"a prompt").await.unwrap(), "a fresh nonce each time");
    assert_eq!(first.open(one, HERE, &sealed).await.unwrap(), b"a prompt");
    // After a restart the data key is found again, wrapped.
    assert_eq!(sealer(&db, 1).open(one, HERE, &sealed).await.unwrap(), b"a prompt");

    first.seal(two, HERE, b"makes the other tenant's key").await.unwrap();
    let refused = async |scope, place, bytes: &[u8]| {
        matches!(first.open(scope, place, bytes).await, Err(Error::Sealed(_)))
    };
    assert!(refused(two, HERE, &sealed).await, "another tenant");
    assert!(refused(one, Place { purpose: "inbox", ..HERE }, &sealed).await, "another purpose");
    assert!(refused(one, Place { row: b"run-2", ..HERE }, &sealed).await, "another row");
    for position in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        assert!(refused(one, HERE, &changed).await, "byte {position}");
    }
    for length in 0..sealed.len() {
        assert!(refused(one, HERE, &sealed[..length]).await, "cut to {length}");
    }
    let other_master = sealer(&db, 2).open(one, HERE, &sealed).await;
    assert!(matches!(other_master, Err(Error::Sealed(_))), "{other_master:?}");
    assert!(matches!(sealer(&db, 2).seal(one, HERE, b"x").await, Err(Error::Sealed(_))));
});

db_test!(a_shredded_key_opens_nothing, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap().scope;
    let sealed = sealer(&db, 1).seal(one, HERE, b"a prompt").await.unwrap();
    const SHRED: &str = "DELETE FROM subject_keys WHERE tenant_id = $1";
    db.write(one, |tx| Box::pin(async move { tx.exec(SHRED, &[]).await })).await.unwrap();
    // Started since: a process knows the keys that it has used.
    let sealer = drawing(&db, 1, 102);
    assert!(matches!(sealer.open(one, HERE, &sealed).await, Err(Error::Sealed(_))));
    let anew = sealer.seal(one, HERE, b"later").await.unwrap();
    assert_eq!(sealer.open(one, HERE, &anew).await.unwrap(), b"later");
    assert!(matches!(sealer.open(one, HERE, &sealed).await, Err(Error::Sealed(_))));
});

db_test!(a_crowd_of_first_seals_agrees_on_one_key, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap().scope;
    let sealers = [sealer(&db, 1), sealer(&db, 1), sealer(&db, 1)];
    let sealed =
        futures_util::future::join_all(sealers.iter().map(|sealer| sealer.seal(one, HERE, b"x"))).await;
    for sealed in sealed {
        assert_eq!(sealers[0].open(one, HERE, &sealed.unwrap()).await.unwrap(), b"x");
    }
});

#[test]
fn large_bodies_live_in_blobs_and_small_ones_in_their_row() {
    let folder = Folder::new("blobs");
    block_on(async {
        let db = Db::inline_sqlite().unwrap();
        let one = seed(&db, tenant(1)).await.unwrap().scope;
        let two = seed(&db, tenant(2)).await.unwrap().scope;
        for blobs in [Blobs::folder(folder.path()), Blobs::memory()] {
            let vault = Vault::new(sealer(&db, 1), blobs);
            for (size, inline) in [(0, true), (10, true), (blob::INLINE_MAX, false), (1 << 20, false)] {
                let plain = vec![b'x'; size];
                let sealed = vault.seal(one, HERE, &plain).await.unwrap();
                assert_eq!(sealed.stored.len() != 33, inline, "{size}");
                assert_eq!(Vault::digest(&sealed.stored).unwrap(), sealed.digest);
                assert_eq!(vault.open(one, HERE, &sealed.stored).await.unwrap(), plain);
                if !inline {
                    let foreign = vault.open(two, HERE, &sealed.stored).await;
                    assert!(matches!(foreign, Err(Error::Missing(_))), "another tenant's folder");
                    vault.discard(one, &[sealed.digest]).await.unwrap();
                    vault.discard(one, &[sealed.digest]).await.unwrap();
                    assert!(vault.open(one, HERE, &sealed.stored).await.is_err());
                }
            }
        }
    });
}

#[test]
fn a_changed_blob_is_found_out() {
    let folder = Folder::new("blobs");
    block_on(async {
        let one = lantern_policy::Scope::of_lease(tenant(1));
        let blobs = Blobs::folder(folder.path());
        let sealed = vec![7; blob::INLINE_MAX + 1];
        let stored = blobs.park(one, sealed.clone()).await.unwrap();
        assert_eq!(blobs.park(one, sealed.clone()).await.unwrap(), stored, "twice is once");
        let name = Digest::of(&sealed).to_string();
        let path = folder.path().join("blobs").join(tenant(1).to_string()).join(&name[..2]).join(&name);
        let listed = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(listed, 1, "no partial file is left");
        std::fs::write(&path, b"something else").unwrap();
        assert!(matches!(blobs.fetch(one, &stored).await, Err(Error::Corrupt(_))));
        std::fs::remove_file(&path).unwrap();
        let gone = blobs.fetch(one, &stored).await.unwrap_err();
        assert_eq!(gone.to_string(), format!("the payload {name} is missing"));
        assert!(matches!(blobs.fetch(one, b"").await, Err(Error::Corrupt(_))));
    });
}

#[test]
fn a_key_file_is_made_once_closed_and_never_guessed() {
    let folder = Folder::new("keys");
    let find = || Keys::find(None, folder.path());
    assert!(find().unwrap().is_none());
    let path = folder.path().join("lantern.key");
    assert!(!path.exists(), "to look makes nothing");
    let made = Keys::from_ids(&SeededIds::new(1));
    Keys::from_ids(&SeededIds::new(3)).prepare_file(folder.path()).unwrap();
    made.prepare_file(folder.path()).unwrap();
    assert!(find().unwrap().is_none(), "no database has begun with it yet");
    let prepared = Keys::prepared(folder.path()).unwrap().unwrap();
    assert_eq!(prepared.derive("x").unwrap().expose(), made.derive("x").unwrap().expose());
    for _ in 0..2 {
        Keys::keep_file(folder.path()).unwrap();
    }
    assert!(Keys::prepared(folder.path()).unwrap().is_none());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = Keys::from_ids(&SeededIds::new(2)).prepare_file(folder.path());
    assert!(matches!(second, Err(Error::Conflict)), "{second:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
    let again = find().unwrap().unwrap();
    assert_eq!(made.derive("x").unwrap().expose(), again.derive("x").unwrap().expose());
    assert_ne!(made.derive("x").unwrap().expose(), made.derive("y").unwrap().expose());

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(find().err(), Some(Error::Key(_))), "readable by others");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "short").unwrap();
    assert!(matches!(find().err(), Some(Error::Key(_))), "never written over");
}

#[test]
fn an_operators_key_is_read_in_either_form_or_refused() {
    let folder = Folder::new("keys");
    let derived = |text: &str| {
        let key = Secret::new(text.to_owned());
        let keys = Keys::find(Some(&key), folder.path())?;
        keys.unwrap().derive("x").map(|key| *key.expose())
    };
    let hex = derived(&"00".repeat(32)).unwrap();
    assert_eq!(derived("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap(), hex);
    assert_eq!(derived("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap(), hex);
    for bad in ["", "secret", "00", &"00".repeat(31), &"zz".repeat(32)] {
        assert!(matches!(derived(bad), Err(Error::Key(_))), "{bad:?}");
    }
    assert!(!folder.path().join("lantern.key").exists(), "no file is made beside an operator's key");
}
