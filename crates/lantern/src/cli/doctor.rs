//! `lantern doctor`: does everything that a first run needs work?
//!
//! Invariant: what it makes it takes away again, also when it fails or is interrupted. Checks in the order in which
//! things depend on each other, and stops where going on would only repeat the same complaint.

use std::sync::Arc;

use lantern_net::{RealClock, RealIds, Signals};
use lantern_types::Dur;
use lantern_types::edge::{Clock, IdGen as _};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cli::api::{Api, Auth, Call, encode};
use crate::cli::console::{Console, Style};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::took;
use crate::cli::format::{duration, line, text};

const PROBE_MAX: Dur = Dur::from_secs(60);
const POLL: Dur = Dur::from_millis(500);

/// One question and its answer.
struct Check {
    name: &'static str,
    /// What was found, or why it does not work.
    outcome: Result<String, Failure>,
}

/// Checks, tells, and answers with the exit code of the first failure.
pub(crate) async fn run(console: &Console, globals: &Globals) -> Result<Exit, Failure> {
    let api = Api::open(globals)?;
    let checks = examine(console, &api).await?;
    if console.json() {
        let ok = checks.iter().all(|check| check.outcome.is_ok());
        let list: Vec<Value> = checks.iter().map(Check::json).collect();
        console.value(&json!({ "ok": ok, "server": api.base().as_str(), "checks": list }))?;
    }
    let failed = checks.iter().find_map(|check| check.outcome.as_ref().err());
    Ok(failed.map_or(Exit::Ok, |failure| failure.exit))
}

async fn examine(console: &Console, api: &Api) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    let health = api.fetch(Call::get("/healthz").public()).await;
    let mode = health.as_ref().map(|health| text(health, "llmMode").to_owned()).unwrap_or_default();
    let found = health.map(|_| format!("{} answers", api.base().as_str()));
    if !told(console, &mut checks, "server", found)? {
        return Ok(checks);
    }
    if !told(console, &mut checks, "login", login(api).await)? {
        return Ok(checks);
    }
    let model = told(console, &mut checks, "model", provider(api, &mode).await)?;
    if model {
        told(console, &mut checks, "run", probe(api, &RealClock::new()).await)?;
    }
    Ok(checks)
}

/// Says how a check went as soon as it is known, and whether it went well.
fn told(
    console: &Console,
    checks: &mut Vec<Check>,
    name: &'static str,
    outcome: Result<String, Failure>,
) -> Result<bool, Failure> {
    let check = Check { name, outcome };
    if !console.json() {
        console.say(&check.lines(console))?;
    }
    let well = check.outcome.is_ok();
    checks.push(check);
    Ok(well)
}

async fn login(api: &Api) -> Result<String, Failure> {
    let me = api.fetch(Call::get("/auth/me")).await?;
    let who = match text(&me, "email") {
        "" => "an API key".to_owned(),
        email => line(email),
    };
    let how = match api.auth() {
        Auth::Given(source, _) => (*source).to_owned(),
        Auth::Login(_) | Auth::None(_) => "the saved login".to_owned(),
    };
    Ok(format!("{who}, {}, by {how}", line(text(&me, "role"))))
}

/// The offline model needs no provider; a development server says that it is used.
async fn provider(api: &Api, mode: &str) -> Result<String, Failure> {
    let list = api.fetch(Call::get("/v1/settings/llm-providers")).await?;
    let list = list.as_array().cloned().unwrap_or_default();
    let names: Vec<String> = list.iter().map(|provider| line(text(provider, "provider"))).collect();
    if !names.is_empty() {
        return Ok(names.join(", "));
    }
    if mode == "offline" {
        return Ok("the built-in offline model, which is no language model".to_owned());
    }
    Err(Failure::new(Exit::Failed, "no model provider is configured").hint(
        "save one with `POST /v1/settings/llm-providers` ({\"provider\", \"apiKey\", \"baseUrl\"}), or set the \
         provider's key in the server's environment",
    ))
}

/// Runs a small agent once, and removes it and its run whatever comes of it.
async fn probe(api: &Api, clock: &RealClock) -> Result<String, Failure> {
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    // A fresh name each time: an archived agent's name is not given again.
    let id = RealIds::new(Arc::new(RealClock::new())).uuid().simple().to_string();
    let name = format!("doctor-{}", id.get(20..).unwrap_or(&id));
    let mut made = Made { agent: name, run: None };
    let outcome = tokio::select! {
        biased;
        _ = signals.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        outcome = attempt(api, clock, &mut made) => outcome,
    };
    let cleaned = made.remove(api, clock).await;
    let found = outcome?;
    cleaned.map(|()| found)
}

/// What the probe has made so far.
struct Made {
    agent: String,
    run: Option<String>,
}

async fn attempt(api: &Api, clock: &RealClock, made: &mut Made) -> Result<String, Failure> {
    let agent = json!({ "name": made.agent, "description": "a probe of lantern doctor", "maxTurns": 2,
        "systemPrompt": "Answer with one short sentence." });
    api.send(Call::post("/v1/agents", agent)).await?;
    let input = json!({ "text": "Say that you work." });
    let run = api.fetch(Call::post("/v1/runs", json!({ "agentName": made.agent, "input": input }))).await?;
    let id = text(&run, "id").to_owned();
    made.run = Some(id.clone());
    let run = finished(api, clock, &id).await?;
    match text(&run, "status") {
        "succeeded" => {
            Ok(format!("a run of one turn succeeded in {}", took(&run).map(duration).unwrap_or_default()))
        }
        status => {
            let error = run.get("error").cloned().unwrap_or_default();
            let why = format!("{} {}", line(text(&error, "code")), line(text(&error, "message")));
            Err(Failure::new(Exit::Failed, format!("the probe {}: {}", line(status), why.trim()))
                .hint("look at the server's log"))
        }
    }
}

async fn finished(api: &Api, clock: &RealClock, run: &str) -> Result<Value, Failure> {
    let start = clock.now();
    loop {
        let run = api.fetch(Call::get(format!("/v1/runs/{}", encode(run)))).await?;
        if matches!(text(&run, "status"), "succeeded" | "failed" | "cancelled") {
            return Ok(run);
        }
        if clock.now().since(start) > PROBE_MAX {
            let message = format!("the probe is still {} after a minute", line(text(&run, "status")));
            return Err(
                Failure::new(Exit::Failed, message).hint("is a worker running? look at the server's log")
            );
        }
        clock.sleep(POLL).await;
    }
}

impl Made {
    /// Removes what there is. A run that is not over is cancelled first.
    async fn remove(self, api: &Api, clock: &RealClock) -> Result<(), Failure> {
        if let Some(run) = &self.run {
            let path = format!("/v1/runs/{}", encode(run));
            // Over already, most of the time; then the refusal is what we want to hear.
            let _ = api.send(Call::post(format!("{path}/cancel"), json!({ "reason": "doctor" }))).await;
            finished(api, clock, run).await?;
            api.send(Call::delete(path)).await?;
        }
        match api.send(Call::delete(format!("/v1/agents/{}", encode(&self.agent)))).await {
            Err(failure) if failure.exit != Exit::NotFound => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Check {
    fn lines(&self, console: &Console) -> String {
        let paint = console.paint;
        match &self.outcome {
            Ok(found) => format!("{} {:<7} {found}", paint.apply(Style::Good, "✔"), self.name),
            Err(failure) => {
                let hint = failure.hint.as_ref().map(|hint| format!("\n  {:<7} next: {hint}", ""));
                let mark = paint.apply(Style::Bad, "✘");
                format!("{mark} {:<7} {}{}", self.name, failure.message, hint.unwrap_or_default())
            }
        }
    }

    fn json(&self) -> Value {
        match &self.outcome {
            Ok(found) => json!({ "name": self.name, "ok": true, "detail": found }),
            Err(failure) => {
                json!({ "name": self.name, "ok": false, "detail": failure.message, "next": failure.next() })
            }
        }
    }
}
