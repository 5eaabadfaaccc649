//! `lantern doctor`: does everything that a first run needs work?
//!
//! Invariant: what it makes it takes away again, also when it fails or is interrupted. Checks in the order in which
//! things depend on each other, and stops where going on would only repeat the same complaint.

use lantern_net::{RealClock, Signals};
use lantern_types::Dur;
use lantern_types::edge::Clock;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cli::api::{Api, Auth, Call, encode};
use crate::cli::checks::Checks;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::took;
use crate::cli::format::{duration, line, text};
use crate::cli::providers::{self, SET, remedy, unpriced, unusable};
use crate::cli::sso;
use crate::cli::stops::halted;
use crate::cli::workloads;

/// How the operator's provider is set.
const ENVIRONMENT: &str = "the provider's key and base URL in the server's environment";
/// What to do about an issuer.
const ISSUERS: &str = "the server's log says why; docs/guide/single-sign-on.md says what an issuer needs";
/// The probe's name, the same each time: an archived agent that is saved again is the same agent.
const PROBE: &str = "lantern-doctor-probe";
const PROBE_MAX: Dur = Dur::from_secs(60);
const POLL: Dur = Dur::from_millis(500);
/// Characters of an input that does not fit into its row.
const LARGE: usize = 70_000;

/// Checks, tells, and answers with the exit code of the first failure.
pub(crate) async fn run(console: &Console, globals: &Globals) -> Result<Exit, Failure> {
    let api = Api::open(globals)?;
    let mut checks = Checks::new(console);
    examine(console, &api, &mut checks).await?;
    if console.json() {
        let (ok, list) = (checks.exit() == Exit::Ok, checks.json());
        console.value(&json!({ "ok": ok, "server": api.base().as_str(), "checks": list }))?;
    }
    Ok(checks.exit())
}

async fn examine(console: &Console, api: &Api, checks: &mut Checks<'_>) -> Result<(), Failure> {
    let health = api.fetch(Call::get("/healthz").public()).await;
    let mode = health.as_ref().map(|health| text(health, "llmMode").to_owned()).unwrap_or_default();
    let found = health.map(|_| format!("{} answers", api.base().as_str()));
    if !checks.told("server", found)? {
        return Ok(());
    }
    if !checks.told("login", login(api).await)? {
        return Ok(());
    }
    let told = limits(api).await;
    checks.told("limits", told.clone().map(|told| told.as_ref().map_or_else(untold, unusual)))?;
    if let Ok(told) = told {
        checks.told("traces", Ok(told.as_ref().map_or_else(untold, traces)))?;
    }
    // Most servers have no issuers, and older ones know none.
    if sso::choices(api).await.is_ok_and(|choices| !choices.is_empty()) {
        checks.told("sso", issuers(api).await)?;
    }
    checks.told("boxes", workloads::usable(api).await)?;
    let halted = !checks.told("stops", stops(api).await)?;
    let clock = RealClock::new();
    checks.told("bodies", bodies(api, &clock).await)?;
    let model = checks.told("model", models(console, api, &mode).await)?;
    // A run would only wait.
    if model && !halted {
        let (agent, input) = small();
        let outcome = probe(api, &clock, agent, input).await;
        let outcome = outcome.map(|run| {
            format!("a run of one turn succeeded in {}", took(&run).map(duration).unwrap_or_default())
        });
        checks.told("run", outcome)?;
    }
    Ok(())
}

/// Who the caller is to the server, and by what.
pub(crate) async fn login(api: &Api) -> Result<String, Failure> {
    let me = api.fetch(Call::get("/auth/me")).await?;
    let who = match text(&me, "email") {
        "" => "an API key".to_owned(),
        email => line(email),
    };
    let how = match api.auth() {
        Auth::Given(source, _) => source.to_owned(),
        Auth::Login(_) | Auth::None(_) => "the saved login".to_owned(),
    };
    Ok(format!("{who}, {}, by {how}", line(text(&me, "role"))))
}

/// Whether the issuers that people log in by answer the server.
async fn issuers(api: &Api) -> Result<String, Failure> {
    let checked = match api.fetch(Call::post("/v1/sso/check", json!({}))).await {
        Err(failure) if failure.exit == Exit::Forbidden => {
            return Ok("not tested: that takes an admin".to_owned());
        }
        checked => checked?,
    };
    let (mut words, mut failed) = (Vec::new(), None);
    for issuer in checked.as_array().into_iter().flatten() {
        let (name, code) = (line(text(issuer, "name")), line(text(issuer, "code")));
        words.push(match code.as_str() {
            "" => format!("{name} answers"),
            "sso_unavailable" => format!("{name} does not answer the server"),
            _ => format!("{name} does not answer as its issuer must"),
        });
        failed = failed.or_else(|| (!code.is_empty()).then_some(code));
    }
    match failed {
        None => Ok(words.join("; ")),
        Some(code) => Err(Failure::new(Exit::Failed, words.join("; ")).code(&code).hint(ISSUERS)),
    }
}

/// What the server says of its limits and of where traces go. `None` from an older one, which does not tell.
async fn limits(api: &Api) -> Result<Option<Value>, Failure> {
    match api.fetch(Call::get("/v1/limits")).await {
        Ok(told) => Ok(Some(told)),
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn untold() -> String {
    "not told by this server".to_owned()
}

/// Whether spans of runs go anywhere. Whether they arrive, the server's log and measurements say.
fn traces(told: &Value) -> String {
    let Some(traces) = told.get("traces") else { return untold() };
    match (traces.get("exported"), text(traces, "to")) {
        (Some(Value::Bool(true)), "") => "exported".to_owned(),
        (Some(Value::Bool(true)), to) => format!("exported to {}", line(to)),
        _ => "not exported: the server was started without OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
    }
}

/// Whether an emergency stop holds: one of an agent is told, any other is why nothing works.
async fn stops(api: &Api) -> Result<String, Failure> {
    match api.list("/v1/stops?status=holding", 50).await {
        Ok(listed) => holding(&listed.entries),
        // An older server, which knows no stops.
        Err(failure) if failure.exit == Exit::NotFound => Ok("not known to this server".to_owned()),
        Err(failure) => Err(failure),
    }
}

fn holding(stops: &[Value]) -> Result<String, Failure> {
    let told = |stop: &Value| {
        let (id, reason) = (line(text(stop, "id")), line(text(stop, "reason")));
        format!("{} is halted by {id}: {reason}", halted(stop))
    };
    let words: Vec<String> = stops.iter().map(told).collect();
    let words = if words.is_empty() { "no emergency stop holds".to_owned() } else { words.join("; ") };
    if stops.iter().all(|stop| text(stop, "scope") == "agent") {
        return Ok(words);
    }
    Err(Failure::new(Exit::Failed, words).hint("lantern stops list --holding"))
}

/// Which limits are not the usual ones, so that who meets one need not ask for the server's file.
fn unusual(told: &Value) -> String {
    let limits = told.get("limits").and_then(Value::as_object).into_iter().flatten();
    let usual = |name: &str| told.get("defaults").and_then(|defaults| defaults.get(name));
    let own = |name: &str| told.get("own").is_some_and(|own| own.get(name).is_some());
    let changed: Vec<String> = limits
        .filter(|(name, value)| usual(name) != Some(*value) || own(name))
        .map(|(name, value)| {
            let usual = usual(name).map(|usual| format!("usually {usual}"));
            let own = own(name).then(|| "for this tenant alone".to_owned());
            let about: Vec<String> = usual.into_iter().chain(own).collect();
            let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
            line(&format!("{name} {value}{about}"))
        })
        .collect();
    if changed.is_empty() { "the usual ones".to_owned() } else { changed.join(", ") }
}

/// Asks every provider; one that can be used is enough. The offline model needs none, and a development server says
/// that it is used.
pub(crate) async fn models(console: &Console, api: &Api, mode: &str) -> Result<String, Failure> {
    let list = providers::all(api).await?;
    let (mut words, mut usable, mut failed) = (Vec::new(), false, None);
    for provider in &list {
        match asked(api, provider).await {
            Ok(said) => {
                usable = true;
                words.push(said);
                if provider.get("unpricedAreFree") == Some(&Value::Bool(true)) {
                    console.warn(&unpriced(text(provider, "provider")));
                }
            }
            Err(failure) => {
                words.push(failure.message.clone());
                failed = failed.or(Some(failure));
            }
        }
    }
    let words = words.join("; ");
    match failed {
        Some(failure) if !usable => Err(Failure { message: words, ..failure }),
        _ if usable => Ok(words),
        _ if mode == "offline" => Ok("the built-in offline model, which is no language model".to_owned()),
        _ => {
            let hint = format!("save one with {SET}, or set {ENVIRONMENT}");
            Err(Failure::new(Exit::Failed, "no model provider is configured").code("no_llm").hint(hint))
        }
    }
}

/// Asks one provider for its models. A credential that may not ask leaves it at the name.
pub(crate) async fn asked(api: &Api, provider: &Value) -> Result<String, Failure> {
    let name = line(text(provider, "provider"));
    let test = match providers::test(api, &name).await {
        Err(failure) if failure.exit == Exit::Forbidden => {
            return Ok(format!("{name} (not tested: that takes an admin)"));
        }
        test => test?,
    };
    let code = line(text(&test, "code"));
    match code.as_str() {
        "" => Ok(name),
        // Some servers have no list of models, and answer calls all the same.
        "provider_refused" | "provider_invalid_response" => Ok(format!("{name} (which lists no models)")),
        _ => {
            let ours = text(provider, "source") == "environment";
            Err(unusable(&name, text(provider, "baseUrl"), &test, if ours { ENVIRONMENT } else { SET }))
        }
    }
}

/// An agent that asks a model once, and its input.
fn small() -> (Value, Value) {
    let agent = json!({ "description": "a probe of lantern doctor", "maxTurns": 2,
        "systemPrompt": "Answer with one short sentence." });
    (agent, json!({ "text": "Say that you work." }))
}

/// Whether a large input comes back as it was given. No model sees it.
async fn bodies(api: &Api, clock: &RealClock) -> Result<String, Failure> {
    let sum = json!({ "tool": "calc", "arguments": { "expression": "1+1" } });
    let agent = json!({ "description": "a probe of lantern doctor", "program": "steps",
        "steps": [{ "id": "sum", "kind": "tool", "data": sum }] });
    let input = json!({ "text": "x".repeat(LARGE) });
    let hint = "does the server's bucket answer, and is its data folder writable? its log says more";
    let run = probe(api, clock, agent, input.clone()).await;
    let run = run.map_err(|failure| if of_storage(&failure) { failure.hint(hint) } else { failure })?;
    if run.get("input") == Some(&input) {
        return Ok("a body over 64 KiB was kept and read back".to_owned());
    }
    Err(Failure::new(Exit::Failed, "a body over 64 KiB did not come back as it was given").hint(hint))
}

/// Whether it can be the bucket or the disk: a refusal, or a server that is away, has advice of its own.
fn of_storage(failure: &Failure) -> bool {
    let codes = ["unavailable", "internal", "storage_full", "body_dropped"];
    failure.exit == Exit::Failed && failure.code.as_deref().is_some_and(|code| codes.contains(&code))
}

/// Runs an agent once and answers the run; removes both whatever comes of it.
async fn probe(api: &Api, clock: &RealClock, agent: Value, input: Value) -> Result<Value, Failure> {
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    let mut made = Made::default();
    let outcome = tokio::select! {
        biased;
        _ = signals.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        outcome = attempt(api, clock, &mut made, agent, input) => outcome,
    };
    let cleaned = made.remove(api, clock).await;
    let found = outcome?;
    cleaned.map(|()| found)
}

/// What the probe has made so far.
#[derive(Default)]
struct Made {
    agent: bool,
    run: Option<String>,
}

async fn attempt(
    api: &Api,
    clock: &RealClock,
    made: &mut Made,
    mut agent: Value,
    input: Value,
) -> Result<Value, Failure> {
    if let Some(fields) = agent.as_object_mut() {
        fields.insert("name".to_owned(), json!(PROBE));
    }
    made.agent = true;
    api.send(Call::post("/v1/agents", agent)).await?;
    let run = api.fetch(Call::post("/v1/runs", json!({ "agentName": PROBE, "input": input }))).await?;
    let id = text(&run, "id").to_owned();
    made.run = Some(id.clone());
    let run = finished(api, clock, &id, PROBE_MAX).await?;
    match text(&run, "status") {
        "succeeded" => Ok(run),
        status => {
            let error = run.get("error").cloned().unwrap_or_default();
            let code = line(text(&error, "code"));
            let why = format!("{code} {}", line(text(&error, "message")));
            Err(Failure::new(Exit::Failed, format!("the probe {}: {}", line(status), why.trim()))
                .code(&code)
                .hint(remedy(&code, SET)))
        }
    }
}

/// Waits until a run is over, at most so long.
pub(crate) async fn finished(api: &Api, clock: &RealClock, run: &str, most: Dur) -> Result<Value, Failure> {
    let start = clock.now();
    loop {
        let run = api.fetch(Call::get(format!("/v1/runs/{}", encode(run)))).await?;
        if matches!(text(&run, "status"), "succeeded" | "failed" | "cancelled") {
            return Ok(run);
        }
        if clock.now().since(start) > most {
            let (status, seconds) = (line(text(&run, "status")), most.millis() / 1_000);
            let message = format!("the run is still {status} after {seconds} s");
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
            finished(api, clock, run, PROBE_MAX).await?;
            api.send(Call::delete(path)).await?;
        }
        if !self.agent {
            return Ok(());
        }
        match api.send(Call::delete(format!("/v1/agents/{PROBE}"))).await {
            Err(failure) if failure.exit != Exit::NotFound => Err(failure),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_when_they_are_not_the_usual() {
        let told = |limits: Value| unusual(&json!({ "limits": limits, "defaults": { "a": 1, "b": 2 } }));
        assert_eq!(told(json!({ "a": 1, "b": 2 })), "the usual ones");
        assert_eq!(told(json!({ "a": 1, "b": 3, "c": 4 })), "b 3 (usually 2), c 4");
    }

    #[test]
    fn where_traces_go_is_told_as_far_as_the_server_tells() {
        for (told, want) in [
            (json!({ "traces": { "exported": true, "to": "http://c:4318" } }), "exported to http://c:4318"),
            (json!({ "traces": { "exported": true } }), "exported"),
            (json!({ "traces": { "exported": false } }), "not exported: "),
            (json!({}), "not told"),
        ] {
            assert!(traces(&told).starts_with(want), "{told}: {}", traces(&told));
        }
    }

    #[test]
    fn the_bucket_is_blamed_for_storage_alone() {
        for (exit, code, blamed) in [
            (Exit::Failed, Some("unavailable"), true),
            (Exit::Failed, Some("storage_full"), true),
            (Exit::Forbidden, Some("scope_missing"), false),
            (Exit::Failed, Some("too_many_runs"), false),
            (Exit::Failed, None, false),
            (Exit::Unreachable, None, false),
        ] {
            let failure = Failure { code: code.map(str::to_owned), ..Failure::new(exit, "no") };
            assert_eq!(of_storage(&failure), blamed, "{code:?}");
        }
    }
}
