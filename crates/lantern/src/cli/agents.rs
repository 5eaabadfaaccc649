//! `lantern agents`: create, get, list, edit, archive and restore, generate, and their versions.
//!
//! Invariant: what a manifest may say is the server's to decide; here it is only put together from a file and flags,
//! and fields that the server does not know are named instead of lost.

mod edit;
mod generate;
mod templates;
mod versions;

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call, Listed, Reply, encode};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{block, line, number, text, time};
use crate::cli::input;
use crate::cli::runs::confirmed;
use crate::cli::table::Column;

/// Steps that lie deeper in others are not shown.
const DEPTH_MAX: usize = 16;
/// What a list says of an agent, and of an archived one.
const COLUMNS: &[Column] =
    &[Column::whole("NAME"), Column::whole("ID"), Column::text("DESCRIPTION"), Column::spare("CREATED")];
const ARCHIVED: &[Column] =
    &[Column::whole("NAME"), Column::whole("ID"), Column::text("DESCRIPTION"), Column::spare("ARCHIVED")];

const EXAMPLE: &str = "see examples/digest/agent.json for the form";

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create an agent, or give it a new version
    #[command(after_help = "Flags win over the file. An agent that exists gets the fields that are given \
                            and keeps the others.")]
    Create(CreateArgs),
    /// Show one agent
    Get {
        /// The agent's name
        name: String,
        /// What it said as this version
        #[arg(long, value_name = "VERSION")]
        at: Option<String>,
    },
    /// List agents, the newest first
    List(ListArgs),
    /// Change an agent in an editor: $VISUAL, $EDITOR or vi
    #[command(after_help = "\
Shows the difference and saves it, unless somebody else changed the agent meanwhile. A text that cannot be saved can be \
edited again, and is kept in a file that is named. To leave it as it was saves nothing.")]
    Edit {
        /// The agent's name
        name: String,
        /// Begin with this file, such as a text that was kept
        #[arg(long, value_name = "FILE")]
        from: Option<String>,
    },
    /// Archive an agent; its runs stay
    #[command(visible_alias = "delete")]
    Archive {
        /// The agent's name
        name: String,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
    /// Bring an archived agent back as it was
    Restore {
        /// The agent's name
        name: String,
    },
    /// List agents to begin with
    Templates,
    /// Make an agent from a template, with a cap for the day
    FromTemplate {
        /// The template's id: `lantern agents templates` lists them
        template: String,
        /// The agent's name [default: the template's id]
        #[arg(long)]
        name: Option<String>,
    },
    /// Show what people thought of an agent's runs
    Feedback {
        /// The agent's name
        name: String,
    },
    /// List the versions of an agent, the newest first
    Versions {
        /// The agent's name
        name: String,
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show what differs between two versions
    Diff {
        /// The agent's name
        name: String,
        /// The version to begin with: its number or id
        from: String,
        /// The version that it is compared with
        to: String,
    },
    /// Make an agent's specification of a description, or code of a specification
    Generate(generate::GenerateArgs),
    /// Let new runs run another version; what runs keeps its own
    Promote {
        /// The agent's name
        name: String,
        /// The version: its number or id
        version: String,
    },
}

/// Flags of `lantern agents create`.
#[derive(Debug, Default, Args)]
pub(crate) struct CreateArgs {
    /// A JSON file with the agent's fields, as in examples/digest/agent.json
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// The agent's name: letters, digits, `.`, `_` and `-`, a letter or digit first
    #[arg(long, required_unless_present = "file")]
    name: Option<String>,
    /// What the agent is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A model, or what it must be able to do (auto, chat-small, …)
    #[arg(long)]
    model: Option<String>,
    /// What counts when several models would do: balanced, cheap, best or fast
    #[arg(long, value_name = "WORD")]
    strategy: Option<String>,
    /// The instructions: text, @file, or @- for standard input
    #[arg(long, value_name = "TEXT|@FILE")]
    system: Option<String>,
    /// A tool that the agent may call; may be repeated
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// How many model calls one run may make
    #[arg(long, value_name = "N")]
    max_turns: Option<u32>,
}

/// Flags of `lantern agents list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that were archived; they can be restored
    #[arg(long)]
    archived: bool,
    /// At most this many
    #[arg(
        long,
        visible_alias = "page-size",
        default_value_t = 50,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    limit: u32,
    /// Go on where an earlier list was cut
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => create(console, api, &args).await,
        Verb::Get { name, at: Some(version) } => versions::show(console, api, &name, &version).await,
        Verb::Get { name, at: None } => {
            let agent = api.fetch(Call::get(path(&name))).await?;
            console.answer(&agent, || describe(&agent))
        }
        Verb::List(args) => list(console, api, args).await,
        Verb::Edit { name, from } => edit::edit(console, api, &name, from.as_deref()).await,
        Verb::Archive { name, force } => {
            confirmed(console, force, &format!("archive the agent {name}"))?;
            api.send(Call::delete(path(&name))).await?;
            console
                .answer(&json!({ "name": name, "archived": true }), || format!("archived the agent {name}"))
        }
        Verb::Restore { name } => {
            let agent = api.fetch(Call::post(format!("{}/restore", path(&name)), json!({}))).await?;
            console.answer(&agent, || format!("restored the agent {name}"))
        }
        Verb::Templates => templates::list(console, api).await,
        Verb::FromTemplate { template, name } => templates::make(console, api, template, name).await,
        Verb::Feedback { name } => templates::feedback(console, api, &path(&name)).await,
        Verb::Versions { name, limit } => versions::list(console, api, &name, limit).await,
        Verb::Diff { name, from, to } => versions::diff(console, api, &name, (&from, &to)).await,
        Verb::Generate(args) => generate::run(console, api, &args).await,
        Verb::Promote { name, version } => versions::promote(console, api, &name, &version).await,
    }
}

async fn create(console: &Console, api: &Api, args: &CreateArgs) -> Result<(), Failure> {
    let mut agent = match &args.file {
        Some(file) => from_file(file)?,
        None => Map::new(),
    };
    let system = match &args.system {
        Some(argument) => {
            let read = input::read(argument, std::io::stdin())?;
            read.note.iter().for_each(|note| console.warn(note));
            Some(read.text)
        }
        None => None,
    };
    overlay(&mut agent, args, system);
    let reply = save(api, agent).await?;
    if !reply.ignored.is_empty() {
        console.warn(&format!("the server does not know these fields: {}", reply.ignored.join(", ")));
    }
    let agent = reply.body;
    if !console.json() {
        for warning in warnings(&agent) {
            console.warn(&line(warning));
        }
    }
    console.answer(&agent, || {
        let version = match number(&agent, "version") {
            0 => String::new(),
            n => format!(", version {n}"),
        };
        format!("saved the agent {}{version}", text(&agent, "name"))
    })?;
    if !console.json() {
        console.note(&format!(
            "run it: lantern runs create --agent {} --input {} --follow",
            text(&agent, "name"),
            sample(&agent)
        ));
    }
    Ok(())
}

/// Changes the agent of that name, so that what is not said of it stays, or makes one. To make one is no way to change
/// one: the API then removes a description and labels that are not said.
pub(crate) async fn save(api: &Api, agent: Map<String, Value>) -> Result<Reply, Failure> {
    let name = agent.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(path);
    if let Some(path) = name {
        let mut changes = agent.clone();
        changes.remove("name");
        match api.send(Call::patch(path.as_str(), changes.into())).await {
            Ok(changed) => {
                let mut body = api.fetch(Call::get(path)).await?;
                // They are of the change and not of the agent.
                let told = changed.body.get("warnings").cloned();
                if let (Some(told), Some(fields)) = (told, body.as_object_mut()) {
                    fields.insert("warnings".to_owned(), told);
                }
                return Ok(Reply { body, ..changed });
            }
            Err(failure) if failure.exit == Exit::NotFound => {}
            // Made again, it begins afresh.
            Err(failure) if failure.code.as_deref() == Some("agent_archived") => {}
            Err(failure) => return Err(failure),
        }
    }
    api.send(Call::post("/v1/agents", agent.into())).await
}

/// What the server has to say of an agent that it saved.
fn warnings(agent: &Value) -> impl Iterator<Item = &str> {
    agent.get("warnings").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

async fn list(console: &Console, api: &Api, args: ListArgs) -> Result<(), Failure> {
    let (path, columns, at) = if args.archived {
        ("/v1/agents?status=archived", ARCHIVED, "archivedAt")
    } else {
        ("/v1/agents", COLUMNS, "createdAt")
    };
    let Listed { entries: agents, more, cursor } = api.list_from(path, args.limit, args.cursor).await?;
    if console.json() {
        console.value(&Value::Array(agents))?;
    } else if agents.is_empty() && args.archived {
        console.note("no archived agents: see the others with `lantern agents list`");
    } else if agents.is_empty() {
        console.note("no agents yet: create one with `lantern agents create`");
    } else {
        let row = |agent: &Value| {
            let column = |name: &str| text(agent, name).to_owned();
            vec![column("name"), column("id"), column("description"), time(text(agent, at))]
        };
        console.table(columns, &agents.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more_from(more, args.limit, cursor.as_deref());
    Ok(())
}

/// The form of the input that an agent takes: steps and schemas name its fields, a model reads any text.
fn sample(agent: &Value) -> &'static str {
    let schema = agent.get("inputSchema").is_some_and(|schema| !schema.is_null());
    if schema || text(agent, "program") == "steps" { "'{…}'" } else { "@FILE" }
}

fn path(name: &str) -> String {
    format!("/v1/agents/{}", encode(name))
}

fn from_file(file: &str) -> Result<Map<String, Value>, Failure> {
    let yaml = Path::new(file)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
    if yaml {
        return Err(Failure::usage(format!("{file} is YAML; agent files are JSON")).hint(EXAMPLE));
    }
    let read = input::read(&format!("@{file}"), std::io::empty())?;
    match lantern_edge::json::read(&read.text) {
        Ok(Value::Object(agent)) => Ok(agent),
        Ok(_) => {
            let message = format!("{file} must hold one JSON object with the agent's fields");
            Err(Failure::usage(message).hint(EXAMPLE))
        }
        Err(fault) => {
            Err(Failure::usage(format!("{file} is not JSON that can be sent: {fault}")).hint(EXAMPLE))
        }
    }
}

/// Puts the flags over what the file says.
fn overlay(agent: &mut Map<String, Value>, args: &CreateArgs, system: Option<String>) {
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            agent.insert(name.to_owned(), value);
        }
    };
    set("name", args.name.clone().map(Value::from));
    set("description", args.description.clone().map(Value::from));
    set("model", args.model.clone().map(Value::from));
    set("strategy", args.strategy.clone().map(Value::from));
    set("systemPrompt", system.map(Value::from));
    set("tools", (!args.tools.is_empty()).then(|| json!(args.tools)));
    set("maxTurns", args.max_turns.map(Value::from));
    let labels: Map<String, Value> =
        args.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    set("labels", (!labels.is_empty()).then_some(Value::Object(labels)));
}

fn describe(agent: &Value) -> String {
    let column = |name: &str| text(agent, name).to_owned();
    let whole = |name: &str| agent.get(name).filter(|value| value.is_number()).map(ToString::to_string);
    let tools = agent.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools: Vec<&str> = tools.map(|tool| tool.as_str().unwrap_or_else(|| text(tool, "name"))).collect();
    let labels = agent.get("labels").and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let steps = steps(agent, 1);
    // A model and turns are defaults that mean nothing to steps without a model.
    let fixed = text(agent, "program") == "steps";
    let asks = !fixed || steps.iter().any(|(kind, _)| kind == "llm");
    let turns = if fixed { None } else { whole("maxTurns") };
    let head = fields(&[
        ("name", column("name")),
        ("id", column("id")),
        ("description", column("description")),
        ("status", column("status")),
        ("version", whole("version").unwrap_or_default()),
        ("digest", column("digest")),
        ("program", column("program")),
        ("model", if asks { column("model") } else { String::new() }),
        ("strategy", column("strategy")),
        ("tools", tools.join(", ")),
        ("max turns", turns.unwrap_or_default()),
        ("labels", labels.join(", ")),
        ("created", time(text(agent, "createdAt"))),
        ("updated", time(text(agent, "updatedAt"))),
    ]);
    let steps: Vec<String> = steps.into_iter().map(|(_, shown)| shown).collect();
    let steps = (!steps.is_empty()).then(|| format!("steps\n{}", steps.join("\n")));
    let instructions = Some(block(text(agent, "systemPrompt"))).filter(|text| !text.is_empty());
    [Some(head), steps, instructions].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// The steps of an agent or of a step, each with its kind and as a line: `ship  approval`. What a step holds is below it.
fn steps(holder: &Value, depth: usize) -> Vec<(String, String)> {
    if depth > DEPTH_MAX {
        return Vec::new();
    }
    let many = holder.get("steps").and_then(Value::as_array).into_iter().flatten();
    let held: Vec<&Value> = holder.get("step").into_iter().chain(many).collect();
    let widest = held.iter().map(|step| text(step, "id").chars().count()).max().unwrap_or_default();
    let shown = held.into_iter().flat_map(|step| {
        let (id, kind) = (line(text(step, "id")), line(text(step, "kind")));
        let tool = line(text(step.get("data").unwrap_or(&Value::Null), "tool"));
        let words = format!("{}{id:<widest$}  {kind} {tool}", "  ".repeat(depth));
        std::iter::once((kind, words.trim_end().to_owned())).chain(steps(step, depth + 1))
    });
    shown.collect()
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let mut agent = Map::new();
        agent.insert("name".into(), json!("a"));
        agent.insert("model".into(), json!("auto"));
        agent.insert("outputSchema".into(), json!({ "type": "object" }));
        let args = CreateArgs {
            name: Some("b".into()),
            tools: vec!["calc".into()],
            labels: vec![("team".into(), "x".into())],
            max_turns: Some(3),
            ..CreateArgs::default()
        };
        overlay(&mut agent, &args, Some("Be brief.".into()));
        let want = json!({ "name": "b", "model": "auto", "outputSchema": { "type": "object" }, "tools": ["calc"],
            "labels": { "team": "x" }, "maxTurns": 3, "systemPrompt": "Be brief." });
        assert_eq!(Value::Object(agent), want);
    }

    #[test]
    fn labels_have_a_key() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("a").is_err() && label("=b").is_err());
    }

    #[test]
    fn an_agent_is_described() {
        let agent = json!({ "name": "digest", "version": 2, "tools": ["calc", { "name": "http.fetch" }],
            "labels": { "team": "x" }, "maxTurns": 20, "description": null,
            "systemPrompt": "Be brief.\nBe kind." });
        let want = "name       digest\nversion    2\ntools      calc, http.fetch\nmax turns  20\nlabels     team=x\n\nBe brief.\nBe kind.";
        assert_eq!(describe(&agent), want);
    }

    #[test]
    fn steps_are_listed_with_what_they_hold() {
        let sum = json!({ "id": "sum", "kind": "tool", "data": { "tool": "calc" } });
        let each = json!({ "id": "each", "kind": "map", "step": { "id": "item", "kind": "llm" } });
        let mut agent =
            json!({ "name": "a", "program": "steps", "model": "auto", "maxTurns": 12, "steps": [sum] });
        assert_eq!(describe(&agent), "name     a\nprogram  steps\n\nsteps\n  sum  tool calc");
        agent["steps"] = json!([agent["steps"][0], each]);
        let want = "name     a\nprogram  steps\nmodel    auto\n\n\
                    steps\n  sum   tool calc\n  each  map\n    item  llm";
        assert_eq!(describe(&agent), want);
    }

    #[test]
    fn the_hint_shows_the_form_that_the_agent_takes() {
        for (agent, want) in [
            (json!({ "program": "agent" }), "@FILE"),
            (json!({ "inputSchema": null }), "@FILE"),
            (json!({ "inputSchema": { "type": "object" } }), "'{…}'"),
            (json!({ "program": "steps" }), "'{…}'"),
        ] {
            assert_eq!(sample(&agent), want, "{agent}");
        }
    }
}
