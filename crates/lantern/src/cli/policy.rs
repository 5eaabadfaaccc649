//! `lantern policy`: what agents may not do, in the Cedar language: checked here, saved on a server, and tried on runs of the past.
//!
//! Invariant: `check` and `schema` ask nobody. `test` changes nothing: its sums are those of whole runs, whatever pages they came in.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use lantern_cedar::{Otherwise, Policies};
use lantern_net::RealClock;
use lantern_types::MicroUsd;
use lantern_types::edge::Clock as _;
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call, Listed};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{count, line, number, text, time, usd};
use crate::cli::input;
use crate::cli::runs::{Moment, confirmed, moment};
use crate::cli::table::Column;

const PATH: &str = "/v1/policies";
/// Blocks that are shown.
const SHOWN_MAX: usize = 20;

const VERSIONS: &[Column] = &[
    Column::whole("VERSION"),
    Column::whole("MODE"),
    Column::whole("DEFAULT"),
    Column::spare("POLICIES"),
    Column::whole("SAVED"),
    Column::text("BY"),
];
const BY: &[Column] = &[Column::text("POLICY"), Column::whole("BLOCKED"), Column::whole("SAVED")];
const BLOCKS: &[Column] = &[
    Column::whole("RUN"),
    Column::text("STEP"),
    Column::text("EFFECT"),
    Column::text("POLICIES"),
    Column::whole("COST"),
];

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the versions of the tenant's policies, the newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show the text of the policies in force, or of a version
    Get {
        /// The version's number
        version: Option<u32>,
    },
    /// Save policies, which are in force at once
    #[command(after_help = "\
Try them first: `lantern policy test FILE` says what they would have forbidden, and --observe records what they would forbid and lets \
it happen.")]
    Set(SetArgs),
    /// Ask no policies any more
    Off {
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
    /// Ask policies that are not in force about runs of the past: what they would have forbidden, allowed and saved
    #[command(after_help = "\
Each attempt of a step is asked about by itself, as if the rest of its run had gone as it went: what an agent would have done in \
place of a forbidden step is not known.")]
    Test(TestArgs),
    /// Check a file of policies, without a server
    Check(FileArgs),
    /// Print what policies can speak of, in Cedar's own words for editors
    Schema,
}

/// A file of policies.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// The file, or - for standard input
    file: PathBuf,
    /// What holds for what no policy speaks of; with deny, policies permit
    #[arg(long, value_enum, default_value_t = Holds::Allow)]
    default: Holds,
}

/// What holds for what no policy speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Holds {
    /// It is allowed: policies forbid.
    Allow,
    /// It is forbidden: policies permit, and forbid.
    Deny,
}

impl From<Holds> for Otherwise {
    fn from(holds: Holds) -> Self {
        match holds {
            Holds::Allow => Self::Allow,
            Holds::Deny => Self::Deny,
        }
    }
}

/// Flags of `lantern policy set`.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Record what they would forbid, and let it happen
    #[arg(long)]
    observe: bool,
}

/// Flags of `lantern policy test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Try a cap of each run as well, in dollars
    #[arg(long, value_name = "USD")]
    max_cost_per_run: Option<String>,
    /// Only runs that began since then: a time, or so long ago, such as 7d
    #[arg(long, value_parser = moment)]
    since: Option<Moment>,
    /// Only runs that began before then
    #[arg(long, value_parser = moment)]
    until: Option<Moment>,
}

/// Does what needs no server; `None` when that was all.
pub(crate) fn alone(console: &Console, verb: Verb) -> Result<Option<Verb>, Failure> {
    match verb {
        Verb::Check(args) => check(console, &args).map(|()| None),
        Verb::Schema => console.say(lantern_cedar::schema::SCHEMA.trim_end()).map(|()| None),
        other => Ok(Some(other)),
    }
}

/// Does what was asked of a server.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { limit } => list(console, api, limit).await,
        Verb::Get { version } => {
            let named = version.map_or_else(|| "current".to_owned(), |version| version.to_string());
            let shown = api.fetch(Call::get(format!("{PATH}/{named}"))).await?;
            console.answer(&shown, || text(&shown, "text").trim_end().to_owned())
        }
        Verb::Set(args) => set(console, api, &args).await,
        Verb::Off { force } => {
            confirmed(console, force, "ask no policies any more")?;
            api.send(Call::delete(PATH)).await?;
            console.answer(&json!({ "off": true }), || "no policies are asked any more".to_owned())
        }
        Verb::Test(args) => test(console, api, &args).await,
        Verb::Check(_) | Verb::Schema => Ok(()),
    }
}

/// The text of a file, which this build understands too.
fn read(args: &FileArgs) -> Result<(String, Policies), Failure> {
    let named = args.file.display().to_string();
    let source = input::read(&format!("@{named}"), io::stdin())?;
    let read = Policies::read(&source.text, args.default.into());
    let policies = read.map_err(|faults| wrong(&args.file, &faults))?;
    Ok((source.text, policies))
}

fn wrong(file: &Path, faults: &[lantern_cedar::Fault]) -> Failure {
    let name = file.display();
    let told =
        |fault: &lantern_cedar::Fault| format!("{name}:{}:{}: {}", fault.line, fault.column, fault.words);
    let words = faults.iter().map(told).collect::<Vec<_>>().join("\n");
    Failure::new(Exit::Usage, words)
        .code("policy_invalid")
        .hint("`lantern policy schema` prints what policies can speak of")
}

fn check(console: &Console, args: &FileArgs) -> Result<(), Failure> {
    let (_, policies) = read(args)?;
    let ids: Vec<&str> = policies.ids().collect();
    let answer = json!({ "digest": policies.digest(), "policies": ids });
    console.answer(&answer, || {
        let n = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let policies = if n == 1 { "policy" } else { "policies" };
        format!("{} {policies}, which make sense", count(n))
    })
}

async fn list(console: &Console, api: &Api, limit: u32) -> Result<(), Failure> {
    let Listed { entries, more, .. } = api.list(PATH, limit).await?;
    if console.json() {
        console.value(&Value::Array(entries))?;
    } else if entries.is_empty() {
        console.note("no policies yet: save some with `lantern policy set FILE`");
    } else {
        let row = |version: &Value| {
            let policies = version.get("policies").and_then(Value::as_array).map_or(0, Vec::len);
            vec![
                number(version, "version").to_string(),
                text(version, "mode").to_owned(),
                text(version, "default").to_owned(),
                policies.to_string(),
                time(text(version, "createdAt")),
                text(version, "createdBy").to_owned(),
            ]
        };
        console.table(VERSIONS, &entries.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(more, limit);
    Ok(())
}

async fn set(console: &Console, api: &Api, args: &SetArgs) -> Result<(), Failure> {
    let (source, _) = read(&args.file)?;
    let mode = if args.observe { "observe" } else { "enforce" };
    let default = Otherwise::from(args.file.default).as_str();
    let body = json!({ "text": source, "default": default, "mode": mode });
    let saved = api.fetch(Call::put(PATH, body)).await?;
    console.answer(&saved, || {
        let version = number(&saved, "version");
        match text(&saved, "mode") {
            "observe" => format!("version {version} is observed: what it forbids is recorded, and happens"),
            _ => format!("version {version} is in force"),
        }
    })
}

/// The sums of the answers for all runs.
#[derive(Default)]
struct Sums {
    numbers: Map<String, Value>,
    policies: Vec<(String, u64, i64)>,
    blocks: Vec<Value>,
    digest: String,
}

/// What is added up.
const SUMMED: [&str; 13] = [
    "runs",
    "events",
    "allowed",
    "blocked",
    "blockedRuns",
    "spentMicroUsd",
    "savedMicroUsd",
    "childrenMicroUsd",
    "stoppedRuns",
    "stoppedMicroUsd",
    "freed",
    "unknownHosts",
    "unasked",
];

impl Sums {
    fn add(&mut self, page: &Value) {
        for name in SUMMED {
            let sum = self.numbers.get(name).and_then(Value::as_i64).unwrap_or(0);
            let more = page.get(name).and_then(Value::as_i64).unwrap_or(0);
            self.numbers.insert(name.to_owned(), sum.saturating_add(more).into());
        }
        for policy in page.get("policies").and_then(Value::as_array).into_iter().flatten() {
            let (id, blocked) = (text(policy, "id"), number(policy, "blocked"));
            let saved = policy.get("savedMicroUsd").and_then(Value::as_i64).unwrap_or(0);
            match self.policies.iter_mut().find(|(known, ..)| known == id) {
                Some((_, blocks, sum)) => {
                    *blocks = blocks.saturating_add(blocked);
                    *sum = sum.saturating_add(saved);
                }
                None => self.policies.push((id.to_owned(), blocked, saved)),
            }
        }
        let blocks = page.get("blocks").and_then(Value::as_array).into_iter().flatten();
        let room = 100_usize.saturating_sub(self.blocks.len());
        self.blocks.extend(blocks.take(room).cloned());
        text(page, "digest").clone_into(&mut self.digest);
    }

    fn number(&self, name: &str) -> i64 {
        self.numbers.get(name).and_then(Value::as_i64).unwrap_or(0)
    }

    fn whole(&self) -> Value {
        let mut whole = self.numbers.clone();
        let policies = self.policies.iter();
        let policies = policies
            .map(|(id, blocked, saved)| json!({ "id": id, "blocked": blocked, "savedMicroUsd": saved }));
        whole.insert("digest".to_owned(), self.digest.as_str().into());
        whole.insert("policies".to_owned(), policies.collect());
        whole.insert("blocks".to_owned(), Value::Array(self.blocks.clone()));
        Value::Object(whole)
    }
}

async fn test(console: &Console, api: &Api, args: &TestArgs) -> Result<(), Failure> {
    let (source, _) = read(&args.file)?;
    let mut body = json!({ "text": source, "default": Otherwise::from(args.file.default).as_str() });
    let now = RealClock::new().now();
    let when = |moment: Option<Moment>| moment.map(|moment| moment.at(now).to_string());
    let members = [
        ("agentName", args.agent.clone()),
        ("maxCostUsdPerRun", args.max_cost_per_run.clone()),
        ("since", when(args.since)),
        ("until", when(args.until)),
    ];
    if let Some(object) = body.as_object_mut() {
        object.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    }
    let mut sums = Sums::default();
    loop {
        let page = api.fetch(Call::post(format!("{PATH}/test"), body.clone())).await?;
        sums.add(&page);
        match (page.get("cursor").and_then(Value::as_str), body.as_object_mut()) {
            (Some(cursor), Some(object)) => object.insert("cursor".to_owned(), cursor.into()),
            _ => break,
        };
        if !console.json() {
            let (runs, events) = (sums.number("runs"), sums.number("events"));
            console.note(&format!("{} runs, {} events so far", shown(runs), shown(events)));
        }
    }
    tell(console, &sums)
}

fn tell(console: &Console, sums: &Sums) -> Result<(), Failure> {
    if console.json() {
        return console.value(&sums.whole());
    }
    let of = |name: &str| sums.number(name);
    let money = |name: &str| exact(of(name));
    console.say(&fields(&[
        ("runs", shown(of("runs"))),
        ("events", shown(of("events"))),
        ("would have allowed", format!("{} attempts of steps", shown(of("allowed")))),
        (
            "would have blocked",
            format!("{} attempts, in {} runs", shown(of("blocked")), shown(of("blockedRuns"))),
        ),
        ("would have saved", format!("{} of {}", money("savedMicroUsd"), money("spentMicroUsd"))),
    ]))?;
    if of("stoppedRuns") > 0 {
        let (runs, cost) = (shown(of("stoppedRuns")), money("stoppedMicroUsd"));
        console.note(&format!(
            "the cap would have stopped {runs} runs, which spent {cost} on what they did after that"
        ));
    }
    if of("childrenMicroUsd") > 0 {
        let cost = money("childrenMicroUsd");
        console.note(&format!("the runs that forbidden calls of agents began cost {cost}; of that, only what is forbidden in them counts as saved"));
    }
    if !sums.policies.is_empty() {
        let row = |(id, blocked, saved): &(String, u64, i64)| vec![line(id), count(*blocked), exact(*saved)];
        console.say("")?;
        console.table(BY, &sums.policies.iter().map(row).collect::<Vec<_>>())?;
    }
    if !sums.blocks.is_empty() {
        console.say("")?;
        console.table(BLOCKS, &sums.blocks.iter().take(SHOWN_MAX).map(block).collect::<Vec<_>>())?;
    }
    let left = of("blocked") - i64::try_from(sums.blocks.len().min(SHOWN_MAX)).unwrap_or(0);
    if left > 0 {
        console.note(&format!("{} more are not shown", shown(left)));
    }
    let notes = [
        ("freed", "steps were denied by policies of that time, and would not be by these"),
        (
            "unknownHosts",
            "calls of http.fetch do not say where they went: they were asked about as calls of a tool alone",
        ),
        ("unasked", "model calls of programs in boxes were not asked about"),
    ];
    for (name, words) in notes.into_iter().filter(|(name, _)| of(name) > 0) {
        console.note(&format!("{} {words}", shown(of(name))));
    }
    Ok(())
}

fn block(block: &Value) -> Vec<String> {
    let forbids = block.get("forbids").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let effects: Vec<String> = forbids
        .iter()
        .map(|one| format!("{} {}", line(text(one, "action")), line(text(one, "on"))))
        .collect();
    let by = forbids.iter().flat_map(|one| one.get("by").and_then(Value::as_array).into_iter().flatten());
    let mut by: Vec<String> = by.filter_map(Value::as_str).map(line).collect();
    by.sort();
    by.dedup();
    let by = if by.is_empty() { "nothing permits it".to_owned() } else { by.join(", ") };
    let cost = block.get("costMicroUsd").and_then(Value::as_i64).unwrap_or(0);
    vec![text(block, "runId").to_owned(), line(text(block, "step")), effects.join(", "), by, exact(cost)]
}

fn shown(n: i64) -> String {
    count(u64::try_from(n).unwrap_or(0))
}

/// An amount to the micro-dollar.
fn exact(micros: i64) -> String {
    usd(MicroUsd::from_micros(micros))
}
