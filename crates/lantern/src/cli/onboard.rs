//! `lantern onboard`: from a server to the first answer of an agent, one step after the other.
//!
//! Invariant: each step is real and told as it ends; the first that fails ends it, with what to do. Where nobody can be
//! asked, what is missing is named and nothing is guessed. What it makes stays: a login, a provider, an agent and a run.

use clap::Args;
use lantern_net::RealClock;
use lantern_types::{Dur, Secret};
use serde_json::{Map, Value, json};

use crate::cli::Globals;
use crate::cli::agents;
use crate::cli::api::{Api, Call};
use crate::cli::checks::Checks;
use crate::cli::console::Console;
use crate::cli::doctor;
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{result, took};
use crate::cli::format::{duration, line, number, text};
use crate::cli::login;
use crate::cli::providers;
use crate::env;

/// The agent's name, the same each time.
const AGENT: &str = "quickstart-assistant";
const ASK: &str = "What should a program have written down before somebody pulls the plug, so that it can go on afterwards?";
const RUN_MAX: Dur = Dur::from_secs(90);
/// How a key of Lantern's begins.
const OURS: &str = "hlx_live_";

/// Flags of `lantern onboard`.
#[derive(Args)]
#[command(after_help = "\
Environment:
  LANTERN_PROVIDER_KEY  the provider's key; other people on this machine cannot read it there

A key given as --api-key beside --provider is the provider's, unless it begins as Lantern's own do (hlx_live_).")]
pub(crate) struct OnboardArgs {
    /// Your login, when there is none yet; asked for at a terminal
    #[command(flatten)]
    login: login::LoginArgs,
    /// The model provider to save; asked for at a terminal when the server has none
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The provider's key; asked for, and not shown, when left out
    #[arg(long, value_name = "KEY", requires = "provider")]
    provider_key: Option<String>,
    /// Where the provider answers, as in http://127.0.0.1:11434/v1 [default: the vendor's own]
    #[arg(long, value_name = "URL", requires = "provider")]
    base_url: Option<String>,
    /// Use the built-in offline model, which is no language model
    #[arg(long, conflicts_with = "provider")]
    offline: bool,
}

/// Leaves the key out.
impl std::fmt::Debug for OnboardArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut args = f.debug_struct("OnboardArgs");
        args.field("login", &self.login).field("provider", &self.provider).field("offline", &self.offline);
        args.finish_non_exhaustive()
    }
}

/// What the steps have come to.
#[derive(Default)]
struct Done {
    run: Value,
}

/// Takes the steps, and answers with the exit code of the first that fails.
pub(crate) async fn run(console: &Console, globals: &Globals, args: OnboardArgs) -> Result<Exit, Failure> {
    let (globals, args) = sorted(globals, args);
    let api = Api::anonymous(&globals)?;
    let (mut checks, mut done) = (Checks::new(console), Done::default());
    steps(console, &globals, args, &mut checks, &mut done).await?;
    let (exit, text) = (checks.exit(), result(&done.run, console.terminal));
    if console.json() {
        let answer = json!({ "ok": exit == Exit::Ok, "server": api.base().as_str(), "checks": checks.json(),
            "agent": AGENT, "runId": done.run.get("id"), "output": done.run.get("output"), "next": next() });
        console.value(&answer)?;
    } else if exit == Exit::Ok {
        console.say(&format!("\n{}\n", text.unwrap_or_default()))?;
        for next in next() {
            console.note(next);
        }
    }
    Ok(exit)
}

/// What to do after it.
fn next() -> [&'static str; 3] {
    [
        "ask it something: lantern runs create --agent quickstart-assistant --input 'your question' --follow",
        "change it: lantern agents edit quickstart-assistant",
        "make one of your own: lantern init my-agent",
    ]
}

/// The contract calls the provider's key `--api-key`, which is also what every command calls the caller's own. A key that
/// is none of ours, beside a provider, is the provider's.
fn sorted(globals: &Globals, args: OnboardArgs) -> (Globals, OnboardArgs) {
    let foreign = globals.api_key.as_deref().is_some_and(|key| !key.trim().starts_with(OURS));
    if !foreign || args.provider.is_none() || args.provider_key.is_some() {
        return (globals.clone(), args);
    }
    let ours = Globals { api_key: None, ..globals.clone() };
    (ours, OnboardArgs { provider_key: globals.api_key.clone(), ..args })
}

async fn steps(
    console: &Console,
    globals: &Globals,
    mut args: OnboardArgs,
    checks: &mut Checks<'_>,
    done: &mut Done,
) -> Result<(), Failure> {
    let health = Api::anonymous(globals)?.fetch(Call::get("/healthz").public()).await;
    let mode = health.as_ref().map(|health| text(health, "llmMode").to_owned()).unwrap_or_default();
    if !checks.told("server", health.map(|_| "it answers".to_owned()))? {
        return Ok(());
    }
    let login = std::mem::take(&mut args.login);
    let api = match logged_in(console, globals, login).await {
        Ok((api, said)) => {
            checks.told("login", Ok(said))?;
            api
        }
        Err(failure) => return checks.told("login", Err(failure)).map(drop),
    };
    let model = match model(console, &api, &args, &mode).await {
        Ok((model, said)) => {
            checks.told("model", Ok(said))?;
            model
        }
        Err(failure) => return checks.told("model", Err(failure)).map(drop),
    };
    if !checks.told("agent", agent(&api, model).await)? {
        return Ok(());
    }
    let ran = ask(&api).await;
    let said = ran.as_ref().map(|run| {
        let time = took(run).map(duration).unwrap_or_default();
        format!("{} succeeded in {time}", line(text(run, "id")))
    });
    let said = said.map_err(Clone::clone);
    checks.told("run", said)?;
    done.run = ran.unwrap_or_default();
    Ok(())
}

/// The server as who is logged in, after logging in if need be.
async fn logged_in(
    console: &Console,
    globals: &Globals,
    args: login::LoginArgs,
) -> Result<(Api, String), Failure> {
    let api = Api::open(globals)?;
    if !args.given() {
        match doctor::login(&api).await {
            Ok(said) => return Ok((api, said)),
            Err(failure) if failure.exit != Exit::Forbidden => return Err(failure),
            Err(failure) if !console.interactive() => {
                let hint =
                    format!("pass --email and --password-stdin or --password, or set {}", env::API_KEY);
                return Err(failure.hint(hint));
            }
            Err(_) => {}
        }
    }
    login::sign_in(console, &Api::anonymous(globals)?, args).await?;
    let api = Api::open(globals)?;
    let said = doctor::login(&api).await?;
    Ok((api, said))
}

/// The model that the agent asks for, and what is known of it.
async fn model(
    console: &Console,
    api: &Api,
    args: &OnboardArgs,
    mode: &str,
) -> Result<(&'static str, String), Failure> {
    let offline = || ("offline", "the built-in offline model, which is no language model".to_owned());
    if args.offline {
        return Ok(offline());
    }
    if let Some(name) = &args.provider {
        let key = key(console, name, args)?;
        return saved(api, name, args.base_url.as_deref(), key).await.map(|said| ("auto", said));
    }
    // With no word on the mode, the offline model does not count as one.
    let missing = match doctor::models(console, api, "").await {
        Err(failure) if failure.code.as_deref() == Some("no_llm") => failure,
        found => return found.map(|said| ("auto", said)),
    };
    if !console.interactive() {
        return Err(missing.hint(format!(
            "pass --provider NAME, with its key in {} or --base-url for a server of your own; or --offline",
            env::PROVIDER_KEY
        )));
    }
    let built_in = if mode == "offline" { ", or nothing for the built-in offline model" } else { "" };
    console.ask(&format!("Model provider{built_in}: "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")).hint("pass --provider"))?;
    match answer.trim() {
        "" if mode == "offline" => Ok(offline()),
        "" => Err(missing),
        name => {
            let key = key(console, name, args)?;
            saved(api, name, None, key).await.map(|said| ("auto", said))
        }
    }
}

/// The provider's key: from the flag, the environment or a hidden question. A server of somebody's own may do without.
fn key(console: &Console, name: &str, args: &OnboardArgs) -> Result<Option<Secret<String>>, Failure> {
    if let Some(key) = args.provider_key.clone().or_else(|| env::get(env::PROVIDER_KEY)) {
        return Ok(Some(Secret::new(key.trim().to_owned())));
    }
    if args.base_url.is_some() {
        return Ok(None);
    }
    if !console.interactive() {
        return Err(Failure::usage(format!("there is nobody to ask for the key of {name}"))
            .hint(format!("set {}, or pass --provider-key", env::PROVIDER_KEY)));
    }
    providers::asked_key(name).map(Some)
}

/// Saves the provider and asks it for its models; once more when that could pass.
async fn saved(
    api: &Api,
    name: &str,
    base_url: Option<&str>,
    key: Option<Secret<String>>,
) -> Result<String, Failure> {
    let mut provider = providers::save(api, name, base_url, key).await?;
    if let (Some(url), Some(fields)) = (base_url, provider.as_object_mut()) {
        // Not in the answer, and worth saying when nothing is there.
        fields.insert("baseUrl".to_owned(), url.into());
    }
    match doctor::asked(api, &provider).await {
        Err(failure) if passing(&failure) => doctor::asked(api, &provider).await,
        said => said,
    }
}

/// Whether the same question may be answered the next time.
fn passing(failure: &Failure) -> bool {
    let codes = ["provider_unreachable", "provider_timeout", "provider_interrupted", "provider_unavailable"];
    failure.code.as_deref().is_some_and(|code| codes.contains(&code))
}

async fn agent(api: &Api, model: &str) -> Result<String, Failure> {
    let agent = json!({ "name": AGENT, "description": "A first assistant, made by lantern onboard", "model": model,
        "systemPrompt": "You are a helpful assistant. Answer in a few sentences, and say so when you do not know.",
        "maxTurns": 2, "maxCostUsd": 0.25 });
    let fields: Map<String, Value> = agent.as_object().cloned().unwrap_or_default();
    let saved = agents::save(api, fields).await?.body;
    Ok(format!("{AGENT}, version {}", number(&saved, "version")))
}

/// Runs the agent once.
async fn ask(api: &Api) -> Result<Value, Failure> {
    let clock = RealClock::new();
    let body = json!({ "agentName": AGENT, "input": { "text": ASK } });
    let run = api.fetch(Call::post("/v1/runs", body)).await?;
    let run = doctor::finished(api, &clock, text(&run, "id"), RUN_MAX).await?;
    if text(&run, "status") == "succeeded" {
        return Ok(run);
    }
    let error = run.get("error").cloned().unwrap_or_default();
    let code = line(text(&error, "code"));
    let why = format!("it {}: {code} {}", line(text(&run, "status")), line(text(&error, "message")));
    let failure = Failure::new(Exit::Failed, why.trim().to_owned()).code(&code);
    Err(failure.hint(providers::remedy(&code, providers::SET)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Verb};
    use clap::Parser as _;

    fn read(line: &str) -> (Globals, OnboardArgs) {
        let Cli { globals, command } = Cli::try_parse_from(line.split(' ')).unwrap();
        match command {
            Command::Client(Verb::Onboard(args)) => sorted(&globals, args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_goes_to_whom_it_belongs() {
        for (line, ours, theirs) in [
            ("lantern onboard --api-key hlx_live_1 --provider p", Some("hlx_live_1"), None),
            ("lantern onboard --api-key sk-1 --provider p", None, Some("sk-1")),
            ("lantern onboard --api-key sk-1", Some("sk-1"), None),
            (
                "lantern onboard --api-key hlx_live_1 --provider p --provider-key sk-1",
                Some("hlx_live_1"),
                Some("sk-1"),
            ),
            ("lantern onboard --api-key odd --provider p --provider-key sk-1", Some("odd"), Some("sk-1")),
        ] {
            let (globals, args) = read(line);
            assert_eq!((globals.api_key.as_deref(), args.provider_key.as_deref()), (ours, theirs), "{line}");
        }
    }

    #[test]
    fn no_key_is_printed() {
        let (_, args) = read("lantern onboard --provider p --provider-key hunter2");
        assert!(!format!("{args:?}").contains("hunter2"));
    }
}
