//! A private, throw-away PostgreSQL cluster from the installed binaries: one for each test binary, a database for
//! each test, on a unix socket that nobody else can reach.
//!
//! Invariant: nothing is left behind. A small shell process owns the server; it reads from a pipe that ends with the
//! test binary, however that dies, and then stops the server and removes its folder. PostgreSQL refuses to run as
//! root, so root runs it as another user.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use lantern_types::{At, Secret};
use tokio::sync::OnceCell;

use crate::db::{PostgresOptions, create_roles, migrate_postgres, migrate_postgres_to, run_as_owner};

/// Starts the server, says so, waits for the end of the pipe, and cleans up.
const WATCHDOG: &str = r#"
"$1/pg_ctl" -s -w -D "$2/data" -l "$2/log" -o "-k $2 -c listen_addresses= $3" start || exit 1
echo ready
read -r _
"$1/pg_ctl" -s -D "$2/data" -m immediate stop
rm -rf "$2"
"#;
const OPTIONS: &str = "-c max_connections=300 -c shared_buffers=64MB -c jit=off";
const THROW_AWAY: &str = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off";
const INSTALL: &str =
    "PostgreSQL 15 or newer is needed for this test: `apt-get install postgresql` installs it";

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    // On the loopback interface as well, when it was asked for.
    port: Option<u16>,
    template: OnceCell<()>,
    databases: AtomicU64,
    // Its standard input is the pipe whose end stops the server.
    watchdog: Child,
}

/// A migrated database of its own for one test.
#[derive(Debug)]
pub struct TestDatabase {
    cluster: &'static Cluster,
    name: String,
}

static SHARED: OnceLock<Cluster> = OnceLock::new();

impl Cluster {
    /// This test binary's cluster, started on first use. Does not sync: what a crash of the machine loses is a test.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(false))
    }

    /// Starts a cluster. A durable one syncs as in production, for measurements.
    pub fn start(durable: bool) -> Self {
        let options = if durable { OPTIONS.to_owned() } else { format!("{OPTIONS} {THROW_AWAY}") };
        Self::run(&options, None, None)
    }

    /// Starts a cluster that listens on the loopback interface too; with a certificate and its key, it offers TLS.
    pub fn on_loopback(certificate: Option<(&Path, &Path)>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let port = free.local_addr().expect("the port").port();
        drop(free);
        let ssl = if certificate.is_some() { "on" } else { "off" };
        let listening = format!("-c listen_addresses=127.0.0.1 -c port={port} -c ssl={ssl}");
        Self::run(&format!("{OPTIONS} {THROW_AWAY} {listening}"), Some(port), certificate)
    }

    fn run(options: &str, port: Option<u16>, certificate: Option<(&Path, &Path)>) -> Self {
        let bin = binaries().expect(INSTALL);
        let user = unprivileged();
        let folder = super::Folder::new("postgres");
        let template = template(&bin, user);
        let data = folder.path().join("data");
        copy(&template, &data);
        if let Some((certificate, key)) = certificate {
            fs::copy(certificate, data.join("server.crt")).expect("copy the certificate");
            fs::copy(key, data.join("server.key")).expect("copy the key");
            let closed = fs::Permissions::from_mode(0o600);
            fs::set_permissions(data.join("server.key"), closed).expect("close the key");
        }
        own(folder.path(), user);
        let mut watchdog = as_user(Command::new("sh"), user);
        watchdog.arg("-c").arg(WATCHDOG).arg("sh").arg(&bin).arg(folder.path()).arg(options);
        // A group of its own: an interrupt at the terminal must not stop the one who cleans up.
        watchdog.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut watchdog = watchdog.spawn().expect("start sh");
        let mut ready = String::new();
        let stdout = watchdog.stdout.take().expect("the watchdog's output");
        BufReader::new(stdout).read_line(&mut ready).expect("hear from the watchdog");
        let path = folder.path().to_owned();
        if ready.trim() != "ready" {
            let log = fs::read_to_string(path.join("log")).unwrap_or_default();
            panic!("PostgreSQL did not start:\n{log}");
        }
        // From here on the watchdog removes it.
        std::mem::forget(folder);
        Self { folder: path, port, template: OnceCell::new(), databases: AtomicU64::new(0), watchdog }
    }

    /// A new migrated database.
    pub async fn database(&'static self) -> TestDatabase {
        self.template.get_or_init(|| self.prepare()).await;
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.owner(format!("CREATE DATABASE {name} TEMPLATE lantern_template")).await;
        TestDatabase { cluster: self, name }
    }

    /// A new database without anything in it, for tests of migrations.
    pub async fn empty_database(&'static self) -> TestDatabase {
        self.template.get_or_init(|| self.prepare()).await;
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.owner(format!("CREATE DATABASE {name} OWNER lantern_owner")).await;
        TestDatabase { cluster: self, name }
    }

    async fn prepare(&self) {
        let password = || Secret::new("it's a 'test'".to_owned());
        // As docs/serve.md has it: the owner makes roles and is no superuser.
        self.owner("CREATE ROLE lantern_owner LOGIN CREATEROLE".to_owned()).await;
        let owner = self.url("lantern_owner", "postgres");
        create_roles(&owner, &password(), &password()).await.expect("make the roles");
        // Twice: the second time only sets the passwords.
        create_roles(&owner, &password(), &password()).await.expect("set the passwords");
        self.owner("CREATE DATABASE lantern_template OWNER lantern_owner".to_owned()).await;
        let template = self.url("lantern_owner", "lantern_template");
        migrate_postgres(&template, At::from_micros(1)).await.expect("migrate");
    }

    async fn owner(&self, sql: String) {
        run_as_owner(&self.url("postgres", "postgres"), sql).await.expect("run as the owner");
    }

    fn url(&self, user: &str, database: &str) -> Secret<String> {
        self.url_at(&self.folder.display().to_string(), user, database, "")
    }

    fn url_at(&self, host: &str, user: &str, database: &str, more: &str) -> Secret<String> {
        let port = self.port.unwrap_or(5432);
        let password = "password='it\\'s a \\'test\\''";
        Secret::new(format!("host={host} port={port} user={user} dbname={database} {password} {more}"))
    }

    /// The process id of the one that stops the server and cleans up.
    pub fn watchdog(&self) -> u32 {
        self.watchdog.id()
    }
}

impl TestDatabase {
    /// How the roles that serve connect. Few connections, since many tests share the cluster.
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions {
            app_url: self.url("lantern_app"),
            system_url: self.url("lantern_system"),
            connections: 8,
        }
    }

    /// The same by the name of a host and with more settings, for a cluster on the loopback interface.
    pub fn options_at(&self, host: &str, more: &str) -> PostgresOptions {
        let url = |user: &str| self.cluster.url_at(host, user, &self.name, more);
        PostgresOptions { app_url: url("lantern_app"), system_url: url("lantern_system"), connections: 8 }
    }

    /// Where its cluster listens on the loopback interface.
    pub(super) const fn port(&self) -> Option<u16> {
        self.cluster.port
    }

    /// How the owner connects by the name of a host.
    pub fn owner_url_at(&self, host: &str, more: &str) -> Secret<String> {
        self.cluster.url_at(host, "postgres", &self.name, more)
    }

    /// How the owner connects.
    pub fn owner_url(&self) -> Secret<String> {
        self.url("postgres")
    }

    /// How a new role connects that has the rights of `lantern_app` and these attributes besides.
    pub async fn like_app(&self, attributes: &str) -> Secret<String> {
        let name = format!("{}_{}", self.name, attributes.to_lowercase());
        self.cluster.owner(format!("CREATE ROLE {name} LOGIN {attributes} IN ROLE lantern_app")).await;
        self.url(&name)
    }

    fn url(&self, user: &str) -> Secret<String> {
        self.cluster.url(user, &self.name)
    }

    /// How the one connects who may make tables and is no superuser.
    pub fn migrator_url(&self) -> Secret<String> {
        self.url("lantern_owner")
    }

    /// Brings an empty database to the schema of an earlier build.
    pub async fn migrate_to(&self, last: i64) {
        migrate_postgres_to(&self.migrator_url(), last, At::from_micros(1)).await.expect("migrate");
    }

    /// Runs statements as somebody who may do everything.
    pub async fn run(&self, sql: &str) {
        run_as_owner(&self.owner_url(), sql.to_owned()).await.expect("run as the owner");
    }

    /// Counts rows for the planner, as the server does by itself after a while.
    pub async fn analyze(&self) {
        self.run("ANALYZE").await;
    }

    /// Ends every connection to the database, as a failover would.
    pub async fn cut_connections(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname =";
        self.cluster.owner(format!("{sql} '{}'", self.name)).await;
    }

    /// Lets new connections write nothing, as a standby's, or everything again. Those that are there stay as they are.
    pub async fn read_only(&self, read_only: bool) {
        let on = if read_only { "on" } else { "off" };
        self.cluster
            .owner(format!("ALTER DATABASE {} SET default_transaction_read_only = {on}", self.name))
            .await;
    }

    /// Drops the database, also under connections that are still closing.
    pub async fn discard(self) {
        self.cluster.owner(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// The folder of the newest installed server's programs.
fn binaries() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let newest =
        installed.map(|entry| entry.path()).filter(|path| version(path) >= Some(15)).max_by_key(version);
    let asked = || {
        let answer = Command::new("pg_config").arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim()))
    };
    newest.map(|path| path.join("bin")).or_else(asked).filter(|bin| bin.join("initdb").exists())
}

/// Whom to run the server as: nobody else when we are not root.
fn unprivileged() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map_while(|id| id.parse().ok());
        Some((ids.next()?, ids.next()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    // Not the caller's folder, which another user may be unable to enter.
    command.current_dir("/");
    command
}

/// A new cluster's files, made once for each server version and kept beside the test binaries.
fn template(bin: &Path, user: Option<(u32, u32)>) -> PathBuf {
    let answer = Command::new(bin.join("initdb")).arg("--version").output().expect("ask initdb");
    let version: String =
        String::from_utf8_lossy(&answer.stdout).chars().filter(char::is_ascii_alphanumeric).collect();
    let binary = std::env::current_exe().expect("our own path");
    let kept = binary.parent().unwrap_or_else(|| Path::new("/")).join(format!("test-cluster-{version}"));
    if kept.exists() {
        return kept;
    }
    let made = super::Folder::new("initdb");
    own(made.path(), user);
    let mut initdb = as_user(Command::new(bin.join("initdb")), user);
    initdb.arg("-D").arg(made.path().join("data"));
    initdb.args(["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
    let answer = initdb.output().expect("run initdb");
    assert!(answer.status.success(), "initdb failed: {}", String::from_utf8_lossy(&answer.stderr));
    // Whole or not at all: another test binary may be doing the same.
    let partial = kept.with_extension(std::process::id().to_string());
    copy(&made.path().join("data"), &partial);
    if fs::rename(&partial, &kept).is_err() {
        drop(fs::remove_dir_all(&partial));
    }
    kept
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("close a folder");
    for entry in fs::read_dir(from).expect("list a folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copy a file");
        }
    }
}

fn own(path: &Path, user: Option<(u32, u32)>) {
    let Some((uid, gid)) = user else { return };
    chown(path, Some(uid), Some(gid)).expect("hand over a file");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("list a folder").flatten() {
            own(&entry.path(), user);
        }
    }
}
