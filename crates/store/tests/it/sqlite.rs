//! What only a data folder can do: be locked, full, damaged, foreign, newer, and reopened after a crash.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{FutureExt as _, join_all};
use lantern_store::journal;
use lantern_store::testing::{Folder, block_on, seed};
use lantern_store::{Db, Error, SqliteOptions};

use crate::support::*;

const FILL: &str =
    "INSERT INTO subject_keys (tenant_id, subject, wrapped, created_at) VALUES ($1, $2, $3, 1)";
const EMPTY: &str = "DELETE FROM subject_keys WHERE tenant_id = $1";
const COUNT: &str = "SELECT count(*) AS n FROM subject_keys WHERE tenant_id = $1";

fn options() -> SqliteOptions {
    SqliteOptions::at(at(1))
}

async fn open(folder: &Folder) -> Result<Db, Error> {
    Db::open_sqlite(folder.path(), options()).await
}

#[test]
fn a_folder_has_one_holder_and_is_free_again_after_it() {
    let folder = Folder::new("lock");
    block_on(async {
        let db = open(&folder).await.unwrap();
        let second = open(&folder).await.err();
        assert!(matches!(second, Some(Error::Locked { holder: Some(pid) }) if pid == std::process::id()));
        drop(db);
        open(&folder).await.unwrap();
    });
}

#[test]
fn what_was_answered_is_there_after_a_crash() {
    let (live, copy) = (Folder::new("live"), Folder::new("copy"));
    block_on(async {
        let db = open(&live).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        let runs = (0..50).map(|n| create(&db, seeded.scope, new_run(seeded, run(n), at(10))));
        assert!(join_all(runs).await.iter().all(Result::is_ok));
        // What a killed process leaves: the files as they are, unclosed, with a WAL that nobody folded in.
        for file in ["lantern.db", "lantern.db-wal"] {
            std::fs::copy(live.path().join(file), copy.path().join(file)).unwrap();
        }
        let again = open(&copy).await.unwrap();
        for n in 0..50 {
            assert_eq!(journal::read(&again, seeded.scope, run(n), 1, 9).await.unwrap().len(), 1);
        }
        assert_eq!(claim_all(&again, process(1), at(20)).await.len(), 50);
    });
}

#[test]
fn a_torn_last_write_loses_nothing_before_it() {
    let (live, copy) = (Folder::new("live"), Folder::new("torn"));
    block_on(async {
        let db = open(&live).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        std::fs::copy(live.path().join("lantern.db"), copy.path().join("lantern.db")).unwrap();
        let mut wal = std::fs::read(live.path().join("lantern.db-wal")).unwrap();
        wal.extend_from_slice(&wal.clone()[32..5_000]);
        std::fs::write(copy.path().join("lantern.db-wal"), wal).unwrap();
        let again = open(&copy).await.unwrap();
        assert!(journal::head(&again, seeded.scope, run(1)).await.unwrap().is_some());
    });
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let folder = Folder::new("full");
    block_on(async {
        let small = SqliteOptions { pages_max: Some(300), ..options() };
        let db = Db::open_sqlite(folder.path(), small).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        let fill = |n: u32| {
            db.write(seeded.scope, move |tx| {
                let params = [format!("{n}").into(), vec![7; 20_000].into()];
                Box::pin(async move { tx.exec(FILL, &params).await })
            })
        };
        let outcomes = join_all((0..100).map(fill)).await;
        let kept = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!((1..100).contains(&kept), "{kept}");
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(matches!(refused, Error::Full | Error::Unavailable(_)), "{refused:?}");
        }
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(Error::Full))));
        let row = db.read(seeded.scope, |tx| Box::pin(async move { tx.one(COUNT, &[]).await })).await;
        assert_eq!(row.unwrap().unwrap().int("n").unwrap(), i64::try_from(kept).unwrap());

        let emptied = db.write(seeded.scope, |tx| Box::pin(async move { tx.exec(EMPTY, &[]).await })).await;
        assert_eq!(emptied.unwrap(), kept as u64);
        fill(1_000).await.unwrap();
    });
}

#[test]
fn callers_that_commit_for_themselves_and_a_crowd_get_along() {
    let folder = Folder::new("crowd");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let keep = |db: Db, scope, n: u32| async move {
        let params = [format!("{n}").into(), vec![7].into()];
        db.write(scope, move |tx| Box::pin(async move { tx.exec(FILL, &params).await })).await
    };
    runtime.block_on(async {
        let db = open(&folder).await.unwrap();
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        for n in 0..20 {
            assert_eq!(keep(db.clone(), scope, n).await.unwrap(), 1, "alone");
        }
        let crowd = (20..420).map(|n| runtime.handle().spawn(keep(db.clone(), scope, n)));
        for kept in join_all(crowd).await {
            assert_eq!(kept.unwrap().unwrap(), 1);
        }
        assert!(matches!(keep(db.clone(), scope, 7).await, Err(Error::Conflict)));
        let row = db.read(scope, |tx| Box::pin(async move { tx.one(COUNT, &[]).await })).await;
        assert_eq!(row.unwrap().unwrap().int("n").unwrap(), 420);
        drop(db);
        open(&folder).await.unwrap();
    });
}

#[test]
fn a_damaged_file_says_so() {
    for damage in [0_usize, 4_096] {
        let folder = Folder::new("damaged");
        block_on(async {
            drop(open(&folder).await.unwrap());
            let path = folder.path().join("lantern.db");
            let mut bytes = std::fs::read(&path).unwrap();
            let end = bytes.len().min(damage + 200_000);
            bytes[damage..end].fill(0xAA);
            std::fs::write(&path, bytes).unwrap();
            let refused = match open(&folder).await {
                Err(refused) => refused,
                Ok(db) => seed(&db, tenant(1)).await.map(drop).unwrap_err(),
            };
            assert!(matches!(refused, Error::Corrupt(_)), "{refused:?}");
        });
    }
}

/// What is only in the log would be gone with a database that is put back whole.
#[test]
fn the_log_beside_a_damaged_file_is_left_alone() {
    let (live, copy) = (Folder::new("whole"), Folder::new("hurt"));
    let file = |folder: &Folder, name: &str| folder.path().join(name);
    block_on(async {
        // Closed once, so that all but the run is in the file.
        let db = open(&live).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        drop(db);
        let db = open(&live).await.unwrap();
        create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        for name in ["lantern.db", "lantern.db-wal"] {
            std::fs::copy(file(&live, name), file(&copy, name)).unwrap();
        }
        let (whole, log) = (file(&copy, "lantern.db"), file(&copy, "lantern.db-wal"));
        let (before, said) = (std::fs::read(&whole).unwrap(), std::fs::read(&log).unwrap());
        let mut hurt = before.clone();
        hurt[4_096..].fill(0x5A);
        std::fs::write(&whole, &hurt).unwrap();
        assert!(matches!(open(&copy).await.err(), Some(Error::Corrupt(_))));
        assert!(std::fs::read(&log).unwrap() == said, "the log is as it was");
        assert!(std::fs::read(&whole).unwrap() == hurt, "and so is the file");
        std::fs::write(&whole, before).unwrap();
        let again = open(&copy).await.unwrap();
        assert!(journal::head(&again, seeded.scope, run(1)).await.unwrap().is_some());
    });
}

#[test]
fn a_file_that_is_no_database_is_not_touched() {
    let folder = Folder::new("foreign");
    block_on(async {
        let path = folder.path().join("lantern.db");
        let text = "these are my notes, not a database\n".repeat(40);
        std::fs::write(&path, &text).unwrap();
        assert!(matches!(open(&folder).await.err(), Some(Error::Corrupt(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    });
}

#[test]
fn an_application_mark_tells_our_files_from_others() {
    let folder = Folder::new("marked");
    block_on(async {
        drop(open(&folder).await.unwrap());
        let path = folder.path().join("lantern.db");
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[68..72], b"Lntn");
        bytes[68..72].copy_from_slice(b"Othr");
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(open(&folder).await.err(), Some(Error::Foreign)));
    });
}

#[test]
fn a_newer_schema_is_left_alone() {
    let folder = Folder::new("newer");
    block_on(async {
        let db = open(&folder).await.unwrap();
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        let newer = "INSERT INTO migrations (number, name, checksum, applied_at)
            SELECT 999, 'later', tenant_id, 1 FROM tenants WHERE tenant_id = $1";
        db.write(scope, move |tx| Box::pin(async move { tx.exec(newer, &[]).await })).await.unwrap();
        drop(db);
        assert!(matches!(open(&folder).await.err(), Some(Error::TooNew { found: 999, .. })));
    });
}

#[test]
fn a_schema_of_the_next_release_is_gone_on_with_and_one_of_the_release_after_it_is_not() {
    let folder = Folder::new("next");
    block_on(async {
        let db = open(&folder).await.unwrap();
        let scope = seed(&db, tenant(1)).await.unwrap().scope;
        let next = "INSERT INTO migrations (number, name, checksum, applied_at, goes_on)
            SELECT (SELECT max(number) FROM migrations) + 1, 'next', tenant_id, 1, (SELECT max(number) FROM migrations)
            FROM tenants WHERE tenant_id = $1";
        db.write(scope, move |tx| Box::pin(async move { tx.exec(next, &[]).await })).await.unwrap();
        drop(db);
        let db = open(&folder).await.unwrap();
        db.write(scope, move |tx| Box::pin(async move { tx.exec(next, &[]).await })).await.unwrap();
        drop(db);
        assert!(matches!(open(&folder).await.err(), Some(Error::TooNew { .. })));
    });
}

#[test]
fn a_panic_in_a_closure_is_an_error_and_the_writer_lives() {
    let folder = Folder::new("panic");
    block_on(async {
        let db = open(&folder).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        let fine = |n: u32| {
            db.write(seeded.scope, move |tx| {
                let params = [format!("{n}").into(), vec![7].into()];
                Box::pin(async move { tx.exec(FILL, &params).await })
            })
        };
        let broken = db.write::<()>(seeded.scope, |tx| {
            Box::pin(async move {
                tx.exec(FILL, &["half".into(), vec![7].into()]).await?;
                panic!("a defect")
            })
        });
        let (before, broken, after) = futures_util::future::join3(fine(1), broken, fine(2)).await;
        assert!(before.is_ok() && after.is_ok());
        assert!(matches!(broken, Err(Error::Internal(_))));
        let row = db.read(seeded.scope, |tx| Box::pin(async move { tx.one(COUNT, &[]).await })).await;
        assert_eq!(row.unwrap().unwrap().int("n").unwrap(), 2);
    });
}

#[test]
fn a_closure_that_waits_for_something_else_is_refused() {
    static REACHED: AtomicBool = AtomicBool::new(false);
    let db = Db::inline_sqlite().unwrap();
    block_on(async {
        let seeded = seed(&db, tenant(1)).await.unwrap();
        let waited = db.write(seeded.scope, |tx| {
            Box::pin(async move {
                tx.exec(FILL, &["half".into(), vec![7].into()]).await?;
                tokio::task::yield_now().await;
                REACHED.store(true, Ordering::Relaxed);
                Ok(())
            })
        });
        assert!(matches!(waited.await, Err(Error::Misuse(_))));
        assert!(!REACHED.load(Ordering::Relaxed));
        let row = db.read(seeded.scope, |tx| Box::pin(async move { tx.one(COUNT, &[]).await })).await;
        assert_eq!(row.unwrap().unwrap().int("n").unwrap(), 0);
    });
}

#[test]
fn the_inline_database_does_what_the_others_do() {
    let db = Db::inline_sqlite().unwrap();
    // No runtime at all: every transaction ends on this thread, at the first poll.
    let now = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        assert!(futures_util::FutureExt::now_or_never(future).is_some());
    };
    now(Box::pin(async move {
        let seeded = seed(&db, tenant(1)).await.unwrap();
        create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
        let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
        journal::append(&db, seeded.scope, two_events(&claimed)).await.unwrap();
        let stale = journal::append(&db, seeded.scope, two_events(&claimed)).await;
        assert!(matches!(stale, Err(Error::Conflict)));
        assert_eq!(journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap().version, 3);
    }));
}

#[test]
fn the_files_of_a_data_folder_are_their_owners_alone() {
    let folder = Folder::new("modes");
    block_on(async {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let db = open(&folder).await.unwrap();
        seed(&db, tenant(1)).await.unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.file_name().display());
        }
    });
}

/// Callers that wait for several things poll some of them later: nobody else may have to wait for that.
#[test]
fn a_caller_that_is_not_polled_keeps_nobody_of_its_group_waiting() {
    let folder = Folder::new("unpolled");
    block_on(async {
        let db = open(&folder).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        let (open_gate, gate) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(db.write(seeded.scope, move |_| {
            let gone = gate.recv();
            Box::pin(async move { gone.map_err(|e| Error::Internal(e.into())) })
        }));
        let mut group: Vec<_> = (0..4)
            .map(|n: i64| {
                Box::pin(db.write(seeded.scope, move |tx| {
                    let params = [format!("s{n}").into(), vec![1].into()];
                    Box::pin(async move { tx.exec(FILL, &params).await })
                }))
            })
            .collect();
        assert!(first.as_mut().now_or_never().is_none(), "the gate is shut");
        for write in &mut group {
            assert!(write.as_mut().now_or_never().is_none(), "queued behind the gate");
        }
        open_gate.send(()).unwrap();
        let last = group.pop().unwrap();
        let answered = tokio::time::timeout(std::time::Duration::from_secs(20), last).await;
        assert_eq!(answered.expect("the others are not polled").unwrap(), 1);
    });
}
