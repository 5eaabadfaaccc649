//! The product's own binary as a child process, and what it takes to talk to it (or to a peer) over HTTP.
//!
//! Invariant: a server ends with the value that holds it, and its data folder belongs to whoever started it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use lantern_net::http::{Deadlines, HeaderMap, HeaderValue, Method, Request, header};
use lantern_net::sse::{Event, Parser};
use lantern_net::{Client, Reach, RealClock};
use lantern_store::PostgresOptions;
use lantern_types::edge::Clock as _;
use lantern_types::{At, Dur};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The longest that a server may take to be ready, a request to be answered, and a stopping server to be gone.
const WAIT_MAX: Dur = Dur::from_secs(60);
/// The largest answer that is read.
const ANSWER_MAX: usize = 4 << 20;

/// Who may log in.
#[derive(Clone, Copy)]
struct Account {
    email: &'static str,
    password: &'static str,
}

const DEV: Account = Account { email: "admin@lantern.dev", password: "lantern" };
const OPERATOR: Account = Account { email: "bench@example.com", password: "a password of the bench" };

/// A running server.
pub(crate) struct Server {
    process: Child,
    // Kept open: a server that writes to a closed pipe would be told so.
    _output: Lines<BufReader<ChildStdout>>,
    /// Its base URL.
    pub(crate) api: String,
    account: Account,
}

impl Server {
    /// Starts `lantern dev` on a data folder and answers when it says that it is ready. `models` is where it finds a
    /// provider.
    pub(crate) async fn start(program: &Path, data: &Path, models: Option<&str>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["dev", "--no-open"]);
        Self::up(command, data, models, DEV).await
    }

    /// Starts `lantern serve`, on PostgreSQL if that is given; tenants may start as many runs as they like.
    pub(crate) async fn serve(
        program: &Path,
        data: &Path,
        database: Option<&PostgresOptions>,
        models: Option<&str>,
    ) -> Result<Self> {
        let config = data.join("bench.toml");
        std::fs::write(&config, "[limits]\nconcurrentRunsPerTenantMax = 10000000\n")?;
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config);
        command.env("LANTERN_SPAWN_RATE_PER_MIN", "0");
        command.env("LANTERN_ADMIN_EMAIL", OPERATOR.email).env("LANTERN_ADMIN_PASSWORD", OPERATOR.password);
        if let Some(database) = database {
            command.env("LANTERN_DATABASE_APP_URL", database.app_url.expose());
            command.env("LANTERN_DATABASE_SYSTEM_URL", database.system_url.expose());
            // The same for all servers on it.
            command.env("LANTERN_CREDENTIAL_KEY", "07".repeat(32));
        } else {
            command.env_remove("LANTERN_CREDENTIAL_KEY");
        }
        Self::up(command, data, models, OPERATOR).await
    }

    async fn up(mut command: Command, data: &Path, models: Option<&str>, account: Account) -> Result<Self> {
        let program = command.as_std().get_program().to_owned();
        command.args(["--output", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        for name in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "LOG_LEVEL"] {
            command.env_remove(name);
        }
        if let Some(url) = models {
            command.env("OPENAI_BASE_URL", url);
        }
        command.env("LOG_LEVEL", "error");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let what = || {
            format!("cannot start {}: build it with `cargo build --release -p lantern`", program.display())
        };
        let mut process = command.spawn().with_context(what)?;
        let mut output = BufReader::new(process.stdout.take().context("the server's output")?).lines();
        let line = tokio::time::timeout(WAIT_MAX.std(), output.next_line()).await;
        let line = line.context("the server is not ready in time")??.context("the server ended at once")?;
        let ready: Value =
            serde_json::from_str(&line).with_context(|| format!("the ready line is {line:?}"))?;
        ensure!(ready.get("ready") == Some(&Value::Bool(true)), "the ready line is {line:?}");
        let api = ready.get("api").and_then(Value::as_str).context("the ready line has no api")?.to_owned();
        Ok(Self { process, _output: output, api, account })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.id().context("the server has ended")
    }

    /// A client that is logged in.
    pub(crate) async fn login(&self) -> Result<Api> {
        let mut api = Api::at(self.api.clone())?;
        let login = json!({ "email": self.account.email, "password": self.account.password });
        let answer = api.post("/auth/login", &login).await?;
        let token = answer.get("token").and_then(Value::as_str).context("no token")?;
        api.bearer = format!("Bearer {token}");
        api.headers.insert(header::AUTHORIZATION, HeaderValue::try_from(&api.bearer)?);
        Ok(api)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.pid()?.to_string();
        // The shell's own `kill`: a program of that name is not on every machine.
        Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status().await?;
        let status =
            tokio::time::timeout(WAIT_MAX.std(), self.process.wait()).await.context("it does not stop")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.process.kill().await.context("kill the server")
    }
}

/// A JSON API at a base URL.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    base: String,
    headers: HeaderMap,
    /// The value of its `Authorization` header; empty for nobody.
    pub(crate) bearer: String,
}

impl Api {
    pub(crate) fn at(base: String) -> Result<Self> {
        Ok(Self { client: Client::new()?, base, headers: HeaderMap::new(), bearer: String::new() })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, Bytes::from(serde_json::to_vec(body)?)).await
    }

    pub(crate) async fn post_empty(&self, path: &str) -> Result<Value> {
        self.send(Method::POST, path, Bytes::new()).await
    }

    /// Makes an agent that is a list of steps.
    pub(crate) async fn agent(&self, name: &str, steps: Value) -> Result<Value> {
        let agent = json!({ "name": name, "program": "steps", "model": "bench", "steps": steps });
        self.post("/v1/agents", &agent).await
    }

    /// Starts a run and answers its id.
    pub(crate) async fn run(&self, agent: &str) -> Result<String> {
        let run = self.post("/v1/runs", &json!({ "agentName": agent, "input": {} })).await?;
        run.get("id").and_then(Value::as_str).map(str::to_owned).context("a run without an id")
    }

    /// Waits until a run has succeeded.
    pub(crate) async fn ended(&self, run: &str) -> Result<()> {
        loop {
            let run = self.get(&format!("/v1/runs/{run}")).await?;
            match run.get("status").and_then(Value::as_str) {
                Some("succeeded") => return Ok(()),
                Some("failed" | "cancelled") | None => bail!("a run ended otherwise: {run}"),
                Some(_) => self.pause().await,
            }
        }
    }

    /// A run's events as they come, each with what time it is then, until the stream ends.
    pub(crate) async fn follow(&self, run: &str, mut seen: impl FnMut(&Event, At)) -> Result<()> {
        let url = format!("{}/v1/runs/{run}/events", self.base);
        let request = Request { headers: self.headers.clone(), ..Request::get(url) };
        let deadlines = Deadlines::total(WAIT_MAX + WAIT_MAX);
        let mut answer = self.client.send(Reach::Private, request, deadlines).await?;
        ensure!(answer.status().is_success(), "the stream answered {}", answer.status());
        let (mut parser, clock) = (Parser::new(ANSWER_MAX), RealClock::new());
        while let Some(chunk) = answer.chunk().await? {
            let now = clock.now();
            parser.push(&chunk)?.iter().for_each(|event| seen(event, now));
        }
        Ok(())
    }

    /// A moment between two looks at something that is not there yet.
    pub(crate) async fn pause(&self) {
        RealClock::new().sleep(Dur::from_millis(20)).await;
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let mut headers = self.headers.clone();
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let what = format!("{method} {path}");
        let request = Request { method, url: format!("{}{path}", self.base), headers, body };
        let answer = self.client.send(Reach::Private, request, Deadlines::total(WAIT_MAX)).await;
        let answer = answer.with_context(|| what.clone())?;
        let status = answer.status();
        let body = answer.bytes(ANSWER_MAX).await.with_context(|| what.clone())?;
        ensure!(status.is_success(), "{what} answered {status}: {}", String::from_utf8_lossy(&body));
        // Some answers are empty or plain text.
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}
