//! Backups of a folder that is written to all the while, and of what is wrong in one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lantern_store::testing::{Folder, block_on, seed, sqlite_file};
use lantern_store::{Db, Error, SqliteOptions, backup, journal};

use crate::support::*;

#[test]
fn a_backup_is_of_one_moment_while_others_write() {
    let (live, place) = (Folder::new("live"), Folder::new("backup"));
    block_on(async {
        let db = Db::open_sqlite(live.path(), SqliteOptions::at(at(1))).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        for n in 0..20 {
            create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
        }
        let (folder, file) = (live.path().to_owned(), place.path().join("backup.tar"));
        let done = Arc::new(AtomicBool::new(false));
        let (told, to) = (done.clone(), file.clone());
        let making = tokio::task::spawn_blocking(move || {
            let made = backup::make(&folder, &to, false, at(2));
            told.store(true, Ordering::Release);
            made
        });
        let mut written = 20;
        while !done.load(Ordering::Acquire) {
            create(&db, seeded.scope, new_run(seeded, run(written), at(10))).await.unwrap();
            written += 1;
        }
        let made = making.await.unwrap().unwrap();
        assert!(made.runs >= 20 && u128::try_from(made.runs).unwrap() <= written, "{made:?} of {written}");

        let fresh = place.path().join("fresh");
        assert_eq!(backup::restore(&file, &fresh).unwrap(), made);
        let again = Db::open_sqlite(&fresh, SqliteOptions::at(at(3))).await.unwrap();
        for n in 0..20 {
            assert_eq!(journal::read(&again, seeded.scope, run(n), 1, 9).await.unwrap().len(), 1);
        }
    });
}

#[test]
fn what_a_journal_lacks_is_found() {
    for (sql, want) in [
        ("DELETE FROM journal WHERE run_id IN (SELECT min(id) FROM runs)", "ends at event 0"),
        ("DELETE FROM runs WHERE id IN (SELECT min(id) FROM runs)", "belong to no run"),
        ("UPDATE runs SET chain = zeroblob(32)", "ends at event"),
        ("UPDATE runs SET version = version + 1", "ends at event"),
        ("UPDATE journal SET first_seq = first_seq + 1", "has no event 1"),
        ("UPDATE journal SET bytes = x'7b7d0a'", "breaks its chain at event 1"),
    ] {
        let folder = Folder::new("damaged");
        block_on(async {
            let db = Db::open_sqlite(folder.path(), SqliteOptions::at(at(1))).await.unwrap();
            let seeded = seed(&db, tenant(1)).await.unwrap();
            for n in 0..2 {
                create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
            }
        });
        sqlite_file(folder.path(), 0, &format!("PRAGMA foreign_keys = OFF; {sql}"));
        let to = folder.path().join("backup.tar");
        let Err(Error::Corrupt(why)) = backup::make(folder.path(), &to, false, at(2)) else {
            panic!("{sql} is not found")
        };
        assert!(why.to_string().contains(want), "{sql}: {why}");
        assert!(!to.exists());
    }
}
