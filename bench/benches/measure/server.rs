//! The product's own binary as a child process, and what it takes to talk to it (or to a peer) over HTTP.
//!
//! Invariant: a server ends with the value that holds it, and its data folder belongs to whoever started it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use lantern_net::http::{Deadlines, HeaderMap, HeaderValue, Method, Request, header};
use lantern_net::{Client, Reach, RealClock};
use lantern_types::Dur;
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The longest that a server may take to be ready, a request to be answered, and a stopping server to be gone.
const WAIT_MAX: Dur = Dur::from_secs(60);
/// The largest answer that is read.
const ANSWER_MAX: usize = 4 << 20;

/// A running `lantern dev`.
pub(crate) struct Server {
    process: Child,
    // Kept open: a server that writes to a closed pipe would be told so.
    _output: Lines<BufReader<ChildStdout>>,
    api: String,
}

impl Server {
    /// Starts one on a data folder and answers when it says that it is ready. `models` is where it finds a provider.
    pub(crate) async fn start(program: &Path, data: &Path, models: Option<&str>) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(["dev", "--output", "json", "--listen", "127.0.0.1:0", "--no-open", "--data-dir"])
            .arg(data);
        for name in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "LANTERN_CREDENTIAL_KEY", "LOG_LEVEL"] {
            command.env_remove(name);
        }
        if let Some(url) = models {
            command.env("OPENAI_BASE_URL", url);
        }
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
        Ok(Self { process, _output: output, api })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.id().context("the server has ended")
    }

    /// A client that is logged in as the dev user.
    pub(crate) async fn login(&self) -> Result<Api> {
        let mut api = Api::at(self.api.clone())?;
        let login = json!({ "email": "admin@lantern.dev", "password": "lantern" });
        let answer = api.post("/auth/login", &login).await?;
        let token = answer.get("token").and_then(Value::as_str).context("no token")?;
        api.headers.insert(header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
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
}

impl Api {
    pub(crate) fn at(base: String) -> Result<Self> {
        Ok(Self { client: Client::new()?, base, headers: HeaderMap::new() })
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
