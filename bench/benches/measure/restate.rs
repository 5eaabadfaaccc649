//! Restate, the peer: its server and a service with a workflow of ten steps, both from npm, on loopback and on the
//! same disk.
//!
//! Invariant: nothing of it outlives the measurement. Server and service each hang on a pipe that ends with this
//! process, however that dies. Install scripts of its packages are not run, and it is told to send no telemetry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use lantern_store::testing::Folder;
use lantern_types::Dur;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Bench;
use crate::durable::{WIDTH, count};
use crate::place::STEPS;
use crate::server::Api;

/// What is installed and run, beside this crate.
const FILES: &[(&str, &str)] = &[
    ("package.json", include_str!("../../restate/package.json")),
    ("package-lock.json", include_str!("../../restate/package-lock.json")),
    ("service.mjs", include_str!("../../restate/service.mjs")),
];
/// Workflows that each client starts one after another.
const DEPTH: usize = 6;
/// Workflows alone.
const ALONE: usize = 20;
/// The longest that npm may take.
const INSTALL_MAX: Dur = Dur::from_secs(300);
/// The longest that the server may take to answer, and one workflow to end.
const ANSWER_MAX: Dur = Dur::from_secs(60);
/// Runs a program until the standard input ends, then asks it to stop, and soon insists.
const WATCHDOG: &str = r#"
"$@" </dev/null &
child=$!
read -r _
kill -TERM $child
{ sleep 5; kill -KILL $child; } 2>/dev/null &
wait $child
"#;

/// How fast it is here.
pub(crate) struct Peer {
    /// Steps a second with 256 workflows in flight.
    pub(crate) in_flight: f64,
    /// Milliseconds of one workflow alone.
    pub(crate) alone: f64,
}

/// Measures it; the inner error says why it cannot be here.
pub(crate) async fn measure(bench: &Bench) -> Result<Result<Peer, String>> {
    let program = match install(&bench.target.join("bench-restate")).await {
        Ok(program) => program,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let folder = Folder::new("bench-restate");
    let mut service = service(&program).await?;
    let mut server = Server::start(&program, folder.path())?;
    server.register(service.port).await?;
    let peer = load(bench, &server.ingress).await;
    stop(&mut server.process).await;
    stop(&mut service.process).await;
    peer.map(Ok)
}

/// Installs the pinned packages outside the checkout, and answers the folder.
async fn install(folder: &Path) -> Result<PathBuf> {
    ensure!(Command::new("npm").arg("--version").output().await.is_ok(), "npm is missing");
    fs::create_dir_all(folder)?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"])
        .current_dir(folder);
    npm.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(INSTALL_MAX.std(), npm.output()).await.context("npm takes too long")??;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "npm ci failed: {}", why.lines().next().unwrap_or_default());
    ensure!(binary(folder).is_file(), "Restate's npm package has no server for this machine");
    Ok(folder.to_owned())
}

/// The server that the package of this platform holds.
fn binary(folder: &Path) -> PathBuf {
    let processor = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    folder.join(format!("node_modules/@restatedev/restate-server-{system}-{processor}/bin/restate-server"))
}

struct Service {
    process: Child,
    // Kept open: node ends when it cannot write.
    _output: Lines<BufReader<ChildStdout>>,
    port: u16,
}

async fn service(folder: &Path) -> Result<Service> {
    let mut node = Command::new("node");
    node.arg("service.mjs").current_dir(folder).kill_on_drop(true);
    node.env("NODE_ENV", "production").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = node.spawn().context("start node")?;
    let stdout = process.stdout.take().context("node's output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(ANSWER_MAX.std(), lines.next_line())
        .await
        .context("the service does not start")??;
    let port = line.and_then(|line| line.parse().ok()).context("the service does not say its port")?;
    Ok(Service { process, _output: lines, port })
}

struct Server {
    process: Child,
    ingress: String,
    admin: Api,
}

impl Server {
    fn start(folder: &Path, data: &Path) -> Result<Self> {
        let [ingress, admin, node] = free_ports()?;
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh"]).arg(binary(folder));
        command.args(["--no-logo", "--listen-mode", "tcp", "--base-dir"]).arg(data);
        command.env("RESTATE_INGRESS__BIND_ADDRESS", format!("127.0.0.1:{ingress}"));
        command.env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"));
        command.env("RESTATE_BIND_ADDRESS", format!("127.0.0.1:{node}"));
        command.env("RESTATE_ADMIN__DISABLE_WEB_UI", "true");
        command
            .env("RESTATE_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "1")
            .env("RESTATE_LOG_FILTER", "error");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start the Restate server")?;
        let admin = Api::at(format!("http://127.0.0.1:{admin}"))?;
        Ok(Self { process, ingress: format!("http://127.0.0.1:{ingress}"), admin })
    }

    /// Waits until it is up and tells it of the service.
    async fn register(&mut self, port: u16) -> Result<()> {
        let up = async {
            loop {
                if self.admin.get("/health").await.is_ok() {
                    return;
                }
                self.admin.pause().await;
            }
        };
        tokio::time::timeout(ANSWER_MAX.std(), up).await.context("the Restate server does not answer")?;
        let body = json!({ "uri": format!("http://127.0.0.1:{port}") });
        self.admin.post("/deployments", &body).await.map(drop)
    }
}

/// Ports that nobody has just now.
fn free_ports() -> Result<[u16; 3]> {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0");
    // All held before any is let go, so that they differ.
    let held = [listen()?, listen()?, listen()?];
    let [one, two, three] = held.map(|listener| listener.local_addr().map(|address| address.port()));
    Ok([one?, two?, three?])
}

async fn load(bench: &Bench, ingress: &str) -> Result<Peer> {
    let api = Api::at(ingress.to_owned())?;
    flight(&api, "warm", 1).await?;
    let mut alone = Vec::new();
    for n in 0..ALONE {
        alone.push(bench.millis(workflow(&api, &format!("alone-{n}"))).await?.0);
    }
    let (millis, ()) = bench.millis(flight(&api, "timed", DEPTH)).await?;
    let in_flight = f64::from(STEPS) * count(WIDTH * DEPTH) * 1_000.0 / millis;
    Ok(Peer { in_flight, alone: lantern_bench::median(&alone) })
}

async fn flight(api: &Api, name: &str, depth: usize) -> Result<()> {
    let client = |place| async move {
        for round in 0..depth {
            workflow(api, &format!("{name}-{place}-{round}")).await?;
        }
        Ok(())
    };
    try_join_all((0..WIDTH).map(client)).await.map(drop)
}

async fn workflow(api: &Api, key: &str) -> Result<()> {
    match api.post_empty(&format!("/ten/{key}/run")).await? {
        sum if sum == json!(2 * STEPS) => Ok(()),
        other => bail!("the workflow answered {other}"),
    }
}

/// Ends the pipe that a process hangs on and waits for it.
async fn stop(process: &mut Child) {
    drop(process.stdin.take());
    let ended = tokio::time::timeout(Dur::from_secs(10).std(), process.wait()).await;
    if ended.is_err() {
        drop(process.start_kill());
    }
}
