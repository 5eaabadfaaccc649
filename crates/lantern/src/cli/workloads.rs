//! `lantern run FILE` and `lantern vm`: other people's programs in boxes, over the API.

mod exec;
mod numbers;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lantern_net::http::Response;
use lantern_net::{RealClock, Signals, sse};
use lantern_policy::workload::{Asked, read_asked};
use lantern_types::Dur;
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use super::api::{Api, Call, encode};
use super::console::{Console, fields};
use super::failure::{Exit, Failure};
use super::follow::backoff::Backoff;
use super::format::{dollars, line, text, time, usd};
use super::input;
use super::table::Column;

const VMS: &str = "/v1/runtime/vms";
const QUOTA: &str = "/v1/runtime/quota";
/// The longest frame of a log.
const FRAME_BYTES_MAX: usize = 1 << 20;

const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::text("NAME"),
    Column::whole("STATE"),
    Column::whole("CLASS"),
    Column::spare("BOX"),
    Column::spare("NODE"),
    Column::whole("EXIT"),
    Column::spare("WHY"),
    Column::whole("CREATED"),
];
const TIERS: &[Column] = &[
    Column::whole("CLASS"),
    Column::whole("USABLE"),
    Column::whole("BOX"),
    Column::text("PROOF, OR WHY NOT"),
];

/// Flags of `lantern run`.
#[derive(Debug, Args)]
#[command(after_help = "Answers with the program's own exit code.")]
pub(crate) struct RunArgs {
    /// The spec of a program that is to run in a box, as YAML or JSON
    #[arg(value_name = "FILE")]
    spec: Option<PathBuf>,
    /// The same; alone it says what is so anyway: to follow the program's output
    #[arg(short, long = "file", value_name = "FILE", num_args = 0..=1)]
    file: Vec<PathBuf>,
    /// What the program reads, as JSON; @FILE or - for a file or standard input
    #[arg(long, value_name = "JSON", default_value = "null")]
    input: String,
    /// Do not wait for the program: only say that it was taken
    #[arg(long)]
    detach: bool,
}

/// What can be done with workloads.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List workloads, the newest first
    List {
        /// Only those that stand so: pending, spawning, running, draining, terminated or failed
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a workload, and what happened to it
    Get {
        /// The id of the workload, or of its run
        id: String,
    },
    /// Show what a workload wrote, and go on until it is over
    Logs {
        /// The id of the workload, or of its run
        id: String,
        /// Only what there is now
        #[arg(long)]
        no_follow: bool,
        /// Said anyway
        #[arg(short, long, hide = true)]
        follow: bool,
    },
    /// Stop a workload: its program is asked to end, and ended after its grace
    Stop {
        /// The id of the workload, or of its run
        id: String,
        /// How long the program may take to end, such as 10s
        #[arg(long, value_name = "TIME", default_value = "30s")]
        grace: String,
        /// Why, for the run's journal
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Run another program in the box of a workload, and answer with its exit code
    #[command(
        after_help = "What it writes is shown when it is over. It is run as the box's own program is, with its environment and its rights; \
                            its input is empty."
    )]
    Exec {
        /// The id of the workload, or of its run
        id: String,
        /// How many seconds it may take
        #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
        timeout: u32,
        /// The program and its arguments, after --
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// List what happened to workloads: the newest workload first, and of each the last event first
    Audit {
        /// Only events before this one: what the list before said
        #[arg(long, value_name = "ID")]
        before: Option<u64>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Count workloads, and what they spent and used
    Metrics {
        /// Show only those that stand so: pending, spawning, running, draining, terminated or failed
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Show at most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Show which classes of isolation have a box here, and why the others have none
    Cluster,
    /// Show or set what the tenant may run
    #[command(subcommand)]
    Quota(Quota),
}

/// What can be done with the quota.
#[derive(Debug, Subcommand)]
pub(crate) enum Quota {
    /// Show what the tenant may run
    Get,
    /// Set what the tenant may run; what is not named stays
    Set {
        /// Boxes at once; 0 for the default
        #[arg(long, value_name = "N")]
        max_concurrent: Option<u32>,
        /// Hours of boxes in a day; 0 for the default
        #[arg(long, value_name = "HOURS")]
        max_hours: Option<f64>,
        /// Dollars in a day; 0 for the default
        #[arg(long, value_name = "USD")]
        max_cost: Option<f64>,
        /// Whether who has used it up is refused
        #[arg(long, value_name = "true|false")]
        hard_fail: Option<bool>,
    },
}

/// Runs the program of a spec.
pub(crate) async fn start(console: &Console, api: &Api, args: RunArgs) -> Result<Exit, Failure> {
    let path = match (args.spec, args.file.into_iter().next()) {
        (Some(path), None) | (None, Some(path)) => path,
        (Some(_), Some(_)) => return Err(Failure::usage("the spec is named twice")),
        (None, None) => {
            return Err(Failure::usage("no spec: name its file, as in `lantern run agent.yaml`"));
        }
    };
    let spec = spec(&path)?;
    let given = input::as_value(input::read(&args.input, std::io::stdin())?)?;
    let mut body = spec.spec.to_json();
    if let (Some(tag), Some(fields)) = (&spec.tag, body.get_mut("spec").and_then(Value::as_object_mut)) {
        fields.remove("image_digest");
        fields.insert("image".to_owned(), Value::from(tag.to_string()));
    }
    if let Some(fields) = body.as_object_mut() {
        fields.insert("stdinInput".to_owned(), given);
    }
    let taken = api.fetch(Call::post("/v1/runtime/schedule", body)).await.map_err(advised)?;
    let (vm, run) = (line(text(&taken, "vmId")), line(text(&taken, "runId")));
    if args.detach {
        return console.answer(&taken, || format!("run {run}\nworkload {vm}")).map(|()| Exit::Ok);
    }
    if console.json() {
        console.say(&taken.to_string())?;
    } else {
        console.note(&format!("run {run}, workload {vm}, in a box of {}", line(text(&taken, "backend"))));
    }
    if taken.get("degraded") == Some(&Value::Bool(true)) {
        console.warn("the operator lets this class run in a weaker box than it asks for");
    }
    followed(console, api, &vm).await
}

/// Reads a spec, and says what is wrong with it by line.
fn spec(path: &Path) -> Result<Asked, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    read_asked(&text).map_err(|problems| Failure {
        details: problems.iter().map(|problem| line(&problem.to_string())).collect(),
        ..Failure::usage(format!("{} is no spec that can be run", path.display()))
            .code("invalid_spec")
            .hint("docs/agent-spec.schema.json says what a spec may hold")
    })
}

/// What to do about a refusal.
fn advised(failure: Failure) -> Failure {
    match failure.code.as_deref() {
        Some("workload_refused") => failure.hint("see which boxes there are, and why not: `lantern vm cluster`"),
        Some("image_not_found") => failure
            .hint("make it on the server's machine with `lantern build DIR --into FILE`, with the server's --data-dir, or name an image of a registry"),
        Some("quota_exceeded") => failure.hint("see `lantern vm quota get`, and `lantern vm list --state running`"),
        _ => failure,
    }
}

/// Follows a workload to its end; answers with its program's exit code.
async fn followed(console: &Console, api: &Api, vm: &str) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    let end = tokio::select! {
        biased;
        _ = signals.recv() => {
            let hint = format!("follow it again with `lantern vm logs {vm}`, or stop it with `lantern vm stop {vm}`");
            return Err(Failure::new(Exit::Interrupted, "interrupted; the workload goes on").hint(hint));
        }
        end = show(console, api, vm, true) => end?,
    };
    let end = end.unwrap_or_default();
    if text(&end, "reason").is_empty() {
        return Err(refused(api, &end, vm).await);
    }
    ended(&end, vm)
}

/// Why a workload had no box: its run says.
async fn refused(api: &Api, end: &Value, vm: &str) -> Failure {
    let run = vm.strip_prefix("vm-").unwrap_or(vm);
    let run = api.fetch(Call::get(format!("/v1/runs/{run}"))).await.unwrap_or_default();
    let error = run.get("error").cloned().unwrap_or_default();
    let why = match text(&error, "message") {
        "" => format!("it is {}", line(text(end, "state"))),
        words => line(words),
    };
    let code = match text(&error, "code") {
        "" => "workload_failed",
        code => code,
    };
    Failure::new(Exit::Failed, format!("the workload did not run: {why}"))
        .code(code)
        .hint(format!("see `lantern vm get {vm}`"))
}

/// How a command ends that followed a workload.
fn ended(end: &Value, vm: &str) -> Result<Exit, Failure> {
    let code = end.get("exitCode").and_then(Value::as_i64);
    let why = match (text(end, "reason"), code) {
        ("exited", Some(0)) => return Ok(Exit::Ok),
        ("exited", Some(code)) => format!("the program ended with exit code {code}"),
        ("timed_out", _) => "the program took longer than limits.timeout".to_owned(),
        ("stopped", _) => "the program was stopped".to_owned(),
        ("not_made", _) => "its box could not be made".to_owned(),
        ("lost", _) => "the server ended while the program ran".to_owned(),
        (_, _) => format!("the workload did not run: it is {}", line(text(end, "state"))),
    };
    let exit = if text(end, "reason") == "stopped" { Exit::Cancelled } else { Exit::Failed };
    let status = code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    let failure = Failure::new(exit, why).code("workload_failed").hint(format!("see `lantern vm get {vm}`"));
    Err(Failure { status, ..failure })
}

/// Shows what a workload wrote, over as many connections as it takes; answers with the frame of its end, if it came.
async fn show(console: &Console, api: &Api, vm: &str, live: bool) -> Result<Option<Value>, Failure> {
    let (clock, mut backoff, mut after) = (RealClock::new(), Backoff::default(), 0);
    let mut reached = false;
    loop {
        let lost = match api.logs(vm, after, live).await {
            Ok(response) => {
                reached = true;
                match read(console, api, response, &mut after, &mut backoff).await? {
                    Read::End(end) => return Ok(Some(end)),
                    Read::Broke(failure) => return Err(failure),
                    Read::Cut if !live => return Ok(None),
                    Read::Cut => Failure::new(Exit::Unreachable, "the server closed the stream of logs"),
                }
            }
            Err(failure) if failure.passing && reached => failure,
            Err(failure) => return Err(failure),
        };
        let Some(wait) = backoff.next() else {
            return Err(
                lost.hint(format!("the workload goes on: `lantern vm logs {vm}` once the server is back"))
            );
        };
        clock.sleep(wait.max(Dur::from_millis(50))).await;
    }
}

/// How a connection ended.
enum Read {
    End(Value),
    Broke(Failure),
    Cut,
}

async fn read(
    console: &Console,
    api: &Api,
    mut response: Response,
    after: &mut u64,
    backoff: &mut Backoff,
) -> Result<Read, Failure> {
    let mut parser = sse::Parser::new(FRAME_BYTES_MAX);
    loop {
        let Ok(Some(chunk)) = response.chunk().await else { return Ok(Read::Cut) };
        backoff.reset();
        let events = parser.push(&chunk).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        for event in events {
            let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
            match event.event.as_str() {
                "end" => {
                    if console.json() {
                        console.say(&data.to_string())?;
                    }
                    return Ok(Read::End(data));
                }
                "error" => return Ok(Read::Broke(api.broke_off(text(&data, "code"), text(&data, "error")))),
                _ => {}
            }
            let Some(number) = event.id.as_deref().and_then(|id| id.parse::<u64>().ok()) else { continue };
            if number > *after {
                *after = number;
                said(console, &data)?;
            }
        }
    }
}

/// One line, where the program wrote it.
fn said(console: &Console, data: &Value) -> Result<(), Failure> {
    if console.json() {
        return console.say(&data.to_string());
    }
    let words = if console.terminal { line(text(data, "text")) } else { text(data, "text").to_owned() };
    match text(data, "stream") {
        "stdout" => console.say(&words),
        _ => {
            console.aside(&line(&words));
            Ok(())
        }
    }
}

/// Does what was asked with workloads.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List { state, limit } => list(console, api, state.as_deref(), limit).await?,
        Verb::Get { id } => {
            let told = api.fetch(Call::get(path(&id))).await?;
            console.answer(&told, || described(&told))?;
        }
        Verb::Logs { id, no_follow, .. } => {
            let end = show(console, api, &encode(&id), !no_follow).await?;
            if let Some(end) = end.filter(|_| !console.json()) {
                let code =
                    end.get("exitCode").and_then(Value::as_i64).map(|code| format!(", exit code {code}"));
                let words = format!(
                    "{}: {}{}",
                    line(text(&end, "state")),
                    line(text(&end, "reason")),
                    code.unwrap_or_default()
                );
                console.note(&words);
            }
        }
        Verb::Stop { id, grace, reason } => {
            let why = reason.map(|reason| format!("&reason={}", encode(&reason))).unwrap_or_default();
            let stopped =
                api.fetch(Call::delete(format!("{}?grace={}{why}", path(&id), encode(&grace)))).await?;
            console.answer(&stopped, || {
                format!("{} is {}", line(text(&stopped, "vmId")), line(text(&stopped, "status")))
            })?;
        }
        Verb::Exec { id, timeout, command } => {
            return exec::exec(console, api, (&id, &command), timeout).await;
        }
        Verb::Audit { before, limit } => numbers::audit(console, api, before, limit).await?,
        Verb::Metrics { state, limit } => numbers::metrics(console, api, state.as_deref(), limit).await?,
        Verb::Cluster => cluster(console, api).await?,
        Verb::Quota(Quota::Get) => quota(console, &api.fetch(Call::get(QUOTA)).await?)?,
        Verb::Quota(Quota::Set { max_concurrent, max_hours, max_cost, hard_fail }) => {
            let body = json!({
                "maxConcurrentVms": max_concurrent, "maxComputeHoursPerDay": max_hours,
                "maxCostUsdPerDay": max_cost, "hardFail": hard_fail,
            });
            api.send(Call::put(QUOTA, body)).await?;
            quota(console, &api.fetch(Call::get(QUOTA)).await?)?;
        }
    }
    Ok(Exit::Ok)
}

fn path(id: &str) -> String {
    format!("{VMS}/{}", encode(id))
}

async fn list(console: &Console, api: &Api, state: Option<&str>, limit: u32) -> Result<(), Failure> {
    let path = match state {
        Some(state) => format!("{VMS}?state={}", encode(state)),
        None => VMS.to_owned(),
    };
    let listed = api.list(&path, limit).await?;
    if console.json() {
        console.value(&Value::Array(listed.entries))?;
    } else if listed.entries.is_empty() {
        console.note("no workloads; start one with `lantern run FILE`");
    } else {
        console.table(COLUMNS, &listed.entries.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(listed.more, limit);
    Ok(())
}

fn row(vm: &Value) -> Vec<String> {
    let column = |name: &str| line(text(vm, name));
    let name = vm.pointer("/spec/metadata/name").and_then(Value::as_str).map(line).unwrap_or_default();
    let code = vm.get("exitCode").and_then(Value::as_i64).map(|code| code.to_string()).unwrap_or_default();
    vec![
        column("vmId"),
        name,
        column("state"),
        column("isolationClass"),
        column("backend"),
        column("node"),
        code,
        column("reason"),
        time(text(vm, "createdAt")),
    ]
}

fn described(told: &Value) -> String {
    let vm = told.get("vm").cloned().unwrap_or_default();
    let names = ["id", "name", "state", "class", "box", "node", "exit code", "why", "created"];
    let mut pairs: Vec<(&str, String)> = names.into_iter().zip(row(&vm)).collect();
    pairs.push(("run", line(text(&vm, "runId"))));
    pairs.push((
        "image",
        vm.pointer("/spec/spec/image_digest").and_then(Value::as_str).map(line).unwrap_or_default(),
    ));
    let calls = vm.get("modelCalls").and_then(Value::as_u64).unwrap_or_default();
    if calls > 0 {
        let cost = usd(dollars(vm.get("costUsd").unwrap_or(&Value::Null)));
        pairs.push(("cost", format!("{cost}, {calls} model calls")));
    }
    let events = told.get("events").and_then(Value::as_array).into_iter().flatten();
    let listed = events.map(|event| {
        let words = happened(text(event, "action"), event.get("attrs").unwrap_or(&Value::Null));
        format!("\n{}  {} {words}", line(text(event, "at")), line(text(event, "action")))
            .trim_end()
            .to_owned()
    });
    let listed: Vec<String> = listed.map(|line| format!("\n{}", line.trim_start())).collect();
    format!("{}\n{}", fields(&pairs), listed.concat())
}

/// What there is to say of something that happened: whom a box asked for, which step, or a code.
fn happened(action: &str, attrs: &Value) -> String {
    let words = match action {
        "egress" => {
            let port = attrs.get("port").map(Value::to_string).unwrap_or_default();
            let word = |name| text(attrs, name);
            format!("{}: {} {}:{port} {}", word("verdict"), word("method"), word("host"), word("reason"))
        }
        "exec" => {
            let words = attrs.get("command").and_then(Value::as_array).into_iter().flatten();
            let words: Vec<&str> = words.filter_map(Value::as_str).collect();
            format!("{} by {}", words.join(" "), text(attrs, "by"))
        }
        "step" | "llm" => text(attrs, "key").to_owned(),
        "model" => {
            let count = |name: &str| attrs.get(name).and_then(Value::as_u64).unwrap_or_default();
            let cost = usd(dollars(attrs.get("costUsd").unwrap_or(&Value::Null)));
            let lost =
                if attrs.get("lost") == Some(&Value::Bool(true)) { ", not known how it ended" } else { "" };
            let (provider, model) = (text(attrs, "provider"), text(attrs, "model"));
            format!(
                "{provider}/{model}: {} tokens in, {} out, {cost}{lost}",
                count("tokensIn"),
                count("tokensOut")
            )
        }
        "model_refused" => format!("{}: {}", text(attrs, "path"), text(attrs, "reason")),
        _ => text(attrs, "code").to_owned(),
    };
    line(words.trim_end())
}

async fn cluster(console: &Console, api: &Api) -> Result<(), Failure> {
    let shown = api.fetch(Call::get("/v1/runtime/cluster")).await?;
    if console.json() {
        return console.value(&shown);
    }
    for node in shown.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let number = |name: &str| node.get(name).and_then(Value::as_u64).unwrap_or_default();
        console.note(&format!(
            "{}: {} boxes, {} thousandths of a processor and {} MiB of memory free",
            line(text(node, "name")),
            number("runningVms"),
            number("freeVcpuMillis"),
            number("freeMemoryBytes") >> 20,
        ));
        let tiers = node.get("tiers").and_then(Value::as_array).into_iter().flatten();
        console.table(TIERS, &tiers.map(tier).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn tier(tier: &Value) -> Vec<String> {
    let usable = tier.get("usable") == Some(&Value::Bool(true));
    let words = if usable {
        format!("{}; seen from inside: {}", line(text(tier, "runtime")), line(text(tier, "proof")))
    } else {
        line(text(tier, "reason"))
    };
    let column = |name: &str| line(text(tier, name));
    vec![column("isolation"), if usable { "yes" } else { "no" }.to_owned(), column("backend"), words]
}

/// Which classes have a box, in one line: for `doctor`.
pub(crate) async fn usable(api: &Api) -> Result<String, Failure> {
    let shown = match api.fetch(Call::get("/v1/runtime/cluster")).await {
        Ok(shown) => shown,
        Err(failure) if failure.code.as_deref() == Some("runtime_unsupported") => {
            return Ok("this server runs no workloads".to_owned());
        }
        // An older server, or somebody who may not see it.
        Err(failure) if matches!(failure.exit, Exit::NotFound | Exit::Forbidden) => {
            return Ok("not told: that takes an admin".to_owned());
        }
        Err(failure) => return Err(failure),
    };
    let tiers = shown.pointer("/nodes/0/tiers").and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |want: bool| {
        tiers.iter().filter(move |tier| (tier.get("usable") == Some(&Value::Bool(true))) == want)
    };
    let able: Vec<String> = of(true)
        .map(|tier| format!("{} by {}", line(text(tier, "isolation")), line(text(tier, "backend"))))
        .collect();
    let unable: Vec<String> = of(false).map(|tier| line(text(tier, "isolation"))).collect();
    let able = if able.is_empty() { "no class has a box".to_owned() } else { able.join(", ") };
    Ok(if unable.is_empty() {
        able
    } else {
        format!("{able}; not {}: `lantern vm cluster` says why", unable.join(", "))
    })
}

fn quota(console: &Console, shown: &Value) -> Result<(), Failure> {
    let said = |name: &str| shown.get(name).map(ToString::to_string).unwrap_or_default();
    console.answer(shown, || {
        fields(&[
            ("at once", said("maxConcurrentVms")),
            ("hours a day", said("maxComputeHoursPerDay")),
            ("GB out a day", said("maxEgressGbPerDay")),
            ("USD a day", said("maxCostUsdPerDay")),
            ("refused beyond", said("hardFail")),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_exit_code_is_the_commands() {
        for (end, status, exit) in [
            (json!({"reason": "exited", "exitCode": 3}), Some(3), Exit::Failed),
            (json!({"reason": "exited", "exitCode": 137}), Some(137), Exit::Failed),
            (json!({"reason": "timed_out"}), None, Exit::Failed),
            (json!({"reason": "stopped", "exitCode": 0}), None, Exit::Cancelled),
            (json!({"reason": "lost"}), None, Exit::Failed),
            (json!({"state": "failed"}), None, Exit::Failed),
            (json!({}), None, Exit::Failed),
        ] {
            let failure = ended(&end, "vm-1").unwrap_err();
            assert_eq!((failure.status, failure.exit), (status, exit), "{end}");
        }
        assert_eq!(ended(&json!({"reason": "exited", "exitCode": 0}), "vm-1"), Ok(Exit::Ok));
    }
}
