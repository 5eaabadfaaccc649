//! TLS to PostgreSQL, against a server that has a certificate and one that has none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lantern_store::testing::{Cluster, Folder, HeldTasks, SetClock, TestDatabase, block_on, seed};
use lantern_store::{Db, Error, create_roles, migrate_postgres};
use lantern_types::*;

use crate::support::*;

/// Authorities and a server's certificate, made for one test.
struct Certificates(Folder);

impl Certificates {
    /// `server` is vouched for by `ours`, under the name `localhost`; `own` vouches for itself; `other` for nobody.
    fn make() -> Self {
        let made = Self(Folder::new("certificates"));
        let (authority, server) = ("basicConstraints=critical,CA:TRUE", "basicConstraints=critical,CA:FALSE");
        made.certificate("ours", "our authority", authority, None);
        made.certificate("other", "another authority", authority, None);
        made.certificate("server", "a server", server, Some("ours"));
        made.certificate("own", "localhost", server, None);
        made
    }

    fn certificate(&self, name: &str, subject: &str, extension: &str, by: Option<&str>) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args(["-days", "2", "-subj", &format!("/CN={subject}"), "-addext", extension]);
        openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
        openssl.arg("-keyout").arg(self.key(name)).arg("-out").arg(self.pem(name));
        if let Some(by) = by {
            openssl.arg("-CA").arg(self.pem(by)).arg("-CAkey").arg(self.key(by));
        }
        let output = openssl.output().unwrap_or_else(|e| {
            panic!("{e}: openssl 3 is needed for this test: `.ci/install test` installs it")
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn pem(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.pem"))
    }
    fn key(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.key"))
    }
}

/// The cluster stops with the test binary, as the shared one does.
fn cluster(certificate: Option<(&Path, &Path)>) -> &'static Cluster {
    Box::leak(Box::new(Cluster::on_loopback(certificate)))
}

async fn open(database: &TestDatabase, host: &str, more: &str) -> Result<Db, Error> {
    Db::open_postgres(&database.options_at(host, more)).await
}

/// How many of the app role's connections are encrypted, and how many are not.
async fn connections(db: &Db) -> (i64, i64) {
    let sql = "SELECT count(*) FILTER (WHERE ssl) AS closed, count(*) FILTER (WHERE NOT ssl) AS open
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = current_user AND datname = current_database()";
    let rows = db.rows_of_nobody(sql).await.unwrap();
    (rows[0].int("closed").unwrap(), rows[0].int("open").unwrap())
}

#[test]
fn a_connection_is_as_trustworthy_as_its_url_says() {
    let made = Certificates::make();
    let cluster = cluster(Some((&made.pem("server"), &made.key("server"))));
    let (ours, other) = (made.pem("ours"), made.pem("other"));
    let (ours, other) =
        (format!("sslrootcert='{}'", ours.display()), format!("sslrootcert='{}'", other.display()));
    block_on(async {
        let database = cluster.database().await;
        for (host, more, want) in [
            ("localhost", format!("sslmode=verify-full {ours}"), Ok(true)),
            ("127.0.0.1", format!("sslmode=verify-full {ours}"), Err("NotValidForName")),
            ("localhost", format!("sslmode=verify-full {other}"), Err("UnknownIssuer")),
            ("localhost", "sslmode=verify-full".to_owned(), Err("UnknownIssuer")),
            ("127.0.0.1", format!("sslmode=verify-ca {ours}"), Ok(true)),
            ("127.0.0.1", format!("sslmode=verify-ca {other}"), Err("UnknownIssuer")),
            ("127.0.0.1", "sslmode=require".to_owned(), Ok(true)),
            ("127.0.0.1", format!("sslmode=require {ours}"), Ok(true)),
            ("127.0.0.1", format!("sslmode=require {other}"), Err("UnknownIssuer")),
            // Elsewhere by name: what is offered is taken.
            ("db.example", "hostaddr=127.0.0.1".to_owned(), Ok(true)),
            ("db.example", format!("hostaddr=127.0.0.1 sslmode=verify-full {ours}"), Err("NotValidForName")),
            ("db.example", "hostaddr=127.0.0.1 sslmode=disable".to_owned(), Ok(false)),
            ("127.0.0.1", "sslmode=disable".to_owned(), Ok(false)),
            ("127.0.0.1", "sslmode=prefer".to_owned(), Ok(false)),
            ("127.0.0.1", String::new(), Ok(false)),
        ] {
            match (open(&database, host, &more).await, want) {
                (Ok(db), Ok(closed)) => {
                    seed(&db, tenant(1)).await.ok();
                    let (encrypted, plain) = connections(&db).await;
                    assert_eq!((encrypted > 0, plain > 0), (closed, !closed), "{host} {more}");
                }
                (Err(error @ Error::Unavailable(_)), Err(words)) => {
                    let error = format!("{error:?}");
                    assert!(error.contains(words), "{host} {more}: {error}");
                }
                (outcome, want) => panic!("{host} {more}: {:?} and not {want:?}", outcome.err()),
            }
        }
        database.discard().await;
    });
}

#[test]
fn every_connection_of_a_process_is_encrypted() {
    let made = Certificates::make();
    let cluster = cluster(Some((&made.pem("own"), &made.key("own"))));
    let more = format!("sslmode=verify-full sslrootcert='{}'", made.pem("own").display());
    block_on(async {
        let database = cluster.empty_database().await;
        let owner = database.owner_url_at("localhost", &more);
        let password = || Secret::new("it's a 'test'".to_owned());
        create_roles(&owner, &password(), &password()).await.unwrap();
        migrate_postgres(&owner, at(1)).await.unwrap();
        let (here, there) = (
            open(&database, "localhost", &more).await.unwrap(),
            open(&database, "localhost", &more).await.unwrap(),
        );
        let seeded = seed(&here, tenant(1)).await.unwrap();
        let tasks = HeldTasks::default();
        for db in [&here, &there] {
            db.follow(&tasks, Arc::new(SetClock::at(at(1))), &lantern_net::Shutdown::new());
        }
        let mut workers = there.hub().workers();
        tasks
            .beside(async {
                // The first wake says that the other process listens, over its own connection.
                workers.next().await;
                create(&here, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
                workers.next().await;
                assert_eq!(claim_all(&there, process(2), at(20)).await.len(), 1);
                let (encrypted, plain) = connections(&here).await;
                assert!(encrypted >= 4 && plain == 0, "{encrypted} {plain}");
            })
            .await;
        drop((here, there));
        database.discard().await;
    });
}

#[test]
fn a_server_without_tls_is_refused_when_tls_was_asked_for() {
    let made = Certificates::make();
    let cluster = cluster(None);
    let root = format!("sslrootcert='{}'", made.pem("ours").display());
    block_on(async {
        let database = cluster.database().await;
        for more in [
            "sslmode=require".to_owned(),
            format!("sslmode=verify-ca {root}"),
            format!("sslmode=verify-full {root}"),
        ] {
            let refused = open(&database, "localhost", &more).await.err();
            let words = format!("{refused:?}");
            assert!(
                words.contains("Unavailable") && words.contains("does not support TLS"),
                "{more}: {words}"
            );
            let owner = migrate_postgres(&database.owner_url_at("localhost", &more), at(1)).await;
            assert!(matches!(owner, Err(Error::Unavailable(_))), "{more}");
        }
        for more in ["", "sslmode=prefer", "sslmode=disable"] {
            assert_eq!(connections(&open(&database, "localhost", more).await.unwrap()).await.0, 0);
            let elsewhere = format!("hostaddr=127.0.0.1 {more}");
            assert_eq!(connections(&open(&database, "db.example", &elsewhere).await.unwrap()).await.0, 0);
        }
        database.discard().await;
    });
}
