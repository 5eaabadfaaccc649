//! The command line: what can be said, and who does it.
//!
//! Invariant: a client command talks to a server over its HTTP API and to nothing else, so it works the same on the
//! same machine and from across the world. Commands that are a server, or look after one (`dev`, `backup`, …), are
//! variants of [`Command`] beside [`Command::Client`], and `main` runs them.

mod about;
mod agents;
mod api;
mod approvals;
mod ask;
mod audit;
mod budgets;
mod chat;
mod checks;
mod console;
mod costs;
mod doctor;
mod export;
mod failure;
mod follow;
mod forecast;
mod format;
mod identities;
mod images;
mod init;
mod input;
mod keys;
mod line;
mod login;
mod man;
mod members;
mod models;
mod onboard;
mod password;
mod policy;
mod providers;
mod receipts;
mod retention;
#[cfg(test)]
mod routes;
mod routing;
mod runs;
mod secrets;
mod sessions;
mod spending;
mod sso;
mod stops;
mod table;
mod totp;
mod watch;
mod workloads;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use api::Api;
use console::Format;

pub(crate) use api::DEFAULT_URL;
pub(crate) use console::Console;
pub(crate) use failure::{Exit, Failure};
pub(crate) use line::read;
pub(crate) use receipts::Verb as ReceiptsVerb;
pub(crate) use stops::Asked as StopAsked;
pub(crate) use table::Column;

use crate::{env, server};

const AFTER_HELP: &str = "\
Exit codes:
    0  it worked; a followed run, and what it went on as, succeeded
    1  the command failed; a followed run failed
    2  the command line or the input makes no sense
    3  not logged in, or not allowed
    4  there is no such agent, run, step or session
    5  the server cannot be reached
    6  the run or the answer that was followed was cancelled
  130  interrupted (a run that was followed goes on)
`lantern run FILE` answers with the exit code of the program, once it has one.

Environment:
  LANTERN_API_URL      the server, like --api-url
  LANTERN_API_KEY      an API key, like --api-key
  LANTERN_API_TOKEN    a session token; an API key wins over it
  LANTERN_TENANT_ID    the tenant that the login or key must be of, like --tenant-id
  LANTERN_CREDENTIALS  the file that `login` writes [default: ~/.lantern/credentials.json]
  NO_COLOR             set to anything: no colour

Without a key or token in the environment, the login that was saved for this server is used.";

/// Run AI agents that survive, stay within their budget, and can be checked afterwards.
#[derive(Debug, Parser)]
#[command(name = "lantern", version = env!("LANTERN_BUILD_VERSION"), after_help = AFTER_HELP, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// The server [env: LANTERN_API_URL] [default: http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) api_url: Option<String>,
    /// An API key, in place of a login [env: LANTERN_API_KEY]
    #[arg(long, global = true, value_name = "KEY", help_heading = "Global options")]
    pub(crate) api_key: Option<String>,
    /// The tenant in which all is to happen; a login or key of another is refused [env: LANTERN_TENANT_ID]
    #[arg(long, global = true, value_name = "TENANT", help_heading = "Global options")]
    pub(crate) tenant_id: Option<String>,
    /// An answer for people or for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "text|json",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
}

impl Globals {
    /// Where the answer goes.
    pub(crate) fn console(&self) -> Console {
        Console::new(self.output)
    }
}

/// Everything that `lantern` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in one process on this machine: no account, no other service
    Dev(server::DevArgs),
    /// Run a server for real: PostgreSQL or the embedded database, configured by file and environment
    #[command(
        after_help = "config.example.toml shows every key of the file, docs/environment.md every variable."
    )]
    Serve(server::ServeArgs),
    /// Bring a PostgreSQL database up to date
    Migrate(server::MigrateArgs),
    /// Write the embedded database and its large bodies to one file, also while a server runs
    Backup(server::BackupArgs),
    /// Make a data folder of a backup, after checking all of it
    Restore(server::RestoreArgs),
    /// Halt all spending at once: of an agent, of the tenant, or of the whole server
    Stop(server::StopArgs),
    /// Show how much of everything the server allows, or what one tenant has apart from the others
    Limits(server::LimitsArgs),
    /// Look after the accounts of a server, with its configuration
    #[command(subcommand)]
    Admin(server::AdminVerb),
    /// Show the configuration of a server
    #[command(subcommand)]
    Config(server::ConfigVerb),
    /// What is asked of a server.
    #[command(flatten)]
    Client(Verb),
}

/// What is asked of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Go from a server to the first answer of an agent
    Onboard(onboard::OnboardArgs),
    /// Log in and remember it
    Login(login::CodedArgs),
    /// Show who you are to the server
    Whoami,
    /// Make an account with a workspace of its own, and log in
    Signup(login::SignupArgs),
    /// End the saved login and forget it
    Logout(login::LogoutArgs),
    /// Choose another password
    #[command(subcommand)]
    Password(password::Verb),
    /// Log in with a code of an authenticator app beside the password
    #[command(subcommand)]
    Totp(totp::Verb),
    /// See by which issuers you log in, and unlink one
    #[command(subcommand)]
    Identities(identities::Verb),
    /// See where you are logged in, and end a login
    #[command(subcommand)]
    Logins(members::LoginsVerb),
    /// Invite people into the tenant, give them roles and remove them
    #[command(subcommand, visible_alias = "member")]
    Members(members::Verb),
    /// Create, show and remove agents
    #[command(subcommand, visible_alias = "agent")]
    Agents(agents::Verb),
    /// Start runs, look at them and steer them
    #[command(subcommand)]
    Runs(runs::Verb),
    /// Run somebody's program in a box, and follow it to its end
    Run(workloads::RunArgs),
    /// See programs in boxes, stop them, and see which boxes there are
    #[command(subcommand, name = "vm", visible_aliases = ["vms", "runtime"])]
    Vm(workloads::Verb),
    /// Make an image of a folder, the same bytes each time; asks no server
    Build(images::BuildArgs),
    /// Begin conversations with agents, look at them and end them
    #[command(subcommand, visible_alias = "session")]
    Sessions(sessions::Verb),
    /// Talk to an agent, line by line
    Chat(chat::ChatArgs),
    /// Show what waits for a person, and decide it
    #[command(subcommand, visible_alias = "approval")]
    Approvals(approvals::Verb),
    /// Show emergency stops, and lift one
    #[command(subcommand)]
    Stops(stops::Verb),
    /// Show what happened in a run
    Logs(runs::LogsArgs),
    /// Make, list and revoke API keys
    #[command(subcommand, visible_alias = "key")]
    Keys(keys::Verb),
    /// Set, list and test the providers of models
    #[command(subcommand, visible_alias = "provider")]
    Providers(providers::Verb),
    /// Hand in secrets, which nobody reads back, and see which there are
    #[command(subcommand, visible_alias = "secret")]
    Secrets(secrets::Verb),
    /// List the tools that agents may use
    Tools,
    /// Show or set for how long what was said in runs is kept
    Retention(retention::RetentionArgs),
    /// Show and set how models are chosen when several would do, and what the aliases mean
    #[command(subcommand)]
    Routing(routing::Verb),
    /// Check, save and try policies: what agents may not do, in the Cedar language
    #[command(subcommand, visible_alias = "policies")]
    Policy(policy::Verb),
    /// List calls that came through the front doors for models, the newest first
    Calls(spending::CallsArgs),
    /// Show or set what may be spent through the front doors for models
    Caps(spending::CapsArgs),
    /// Show what was spent, as a chart by day, agent or model
    Costs(costs::CostsArgs),
    /// Show, set and remove what the runs of agents may spend
    #[command(subcommand, visible_alias = "budget")]
    Budgets(budgets::Verb),
    /// Show receipts of runs, write one to a file, and see how far their log has come
    #[command(subcommand, visible_alias = "receipt")]
    Receipts(receipts::Verb),
    /// Check a receipt file, without any server
    Verify(receipts::VerifyArgs),
    /// Show who did what and what was denied, write it to a file, and check that nothing of it was changed
    #[command(subcommand)]
    Audit(audit::Verb),
    /// List the models that can be called by name
    Models,
    /// Ask a model one question, outside of any agent
    Ask(ask::AskArgs),
    /// Say what a run would probably cost, from what earlier runs of the agent did
    Forecast(forecast::ForecastArgs),
    /// Write runs to files: their events, their rows and their manifests
    Export(export::ExportArgs),
    /// Check that the server, the login and the model work
    #[command(
        after_help = "The last check runs a small agent once, then removes the run and archives the agent."
    )]
    Doctor,
    /// Make a folder with an agent that runs as it is
    Init(init::InitArgs),
    /// Write a completion script for a shell
    #[command(after_help = "The answer is the script, with --output json too.")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Show the manual page of a command, or write all of them
    Man(man::ManArgs),
}

/// Does what was asked, and says on standard error why it could not.
pub(crate) fn run(globals: &Globals, verb: Verb) -> ExitCode {
    let console = globals.console();
    ended(&console, start(perform(globals, &console, verb)))
}

/// Shows the limits that hold for the caller.
pub(crate) fn limits(globals: &Globals) -> ExitCode {
    let console = globals.console();
    let shown = async { about::limits(&console, &opened(globals).await?).await.map(|()| Exit::Ok) };
    ended(&console, start(shown))
}

/// Sets an emergency stop of an agent or of the tenant.
pub(crate) fn stop(globals: &Globals, asked: StopAsked) -> ExitCode {
    let console = globals.console();
    let set = async { stops::set(&console, &opened(globals).await?, asked).await.map(|()| Exit::Ok) };
    ended(&console, start(set))
}

fn ended(console: &Console, done: Result<Exit, Failure>) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            console.fail(&failure);
            failure.status.map_or_else(|| failure.exit.into(), ExitCode::from)
        }
    }
}

/// One thread is enough for a client: it waits for one server.
fn start(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(work)
}

async fn perform(globals: &Globals, console: &Console, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Completions { shell } => return completions(console, shell),
        Verb::Logout(args) => return login::logout(console, globals, args).await,
        Verb::Man(args) => man::run(console, Cli::command(), &args)?,
        Verb::Init(args) => init::run(console, args)?,
        Verb::Verify(args) => receipts::check(console, &args)?,
        Verb::Build(args) => images::build(console, args)?,
        Verb::Login(args) => Box::pin(login::login(console, globals, args)).await?,
        Verb::Signup(args) => login::signup(console, globals, args).await?,
        Verb::Password(verb) => password::run(console, globals, verb).await?,
        Verb::Totp(verb) => totp::run(console, &opened(globals).await?, verb).await?,
        Verb::Identities(verb) => identities::run(console, &opened(globals).await?, verb).await?,
        Verb::Logins(verb) => members::logins(console, &opened(globals).await?, verb).await?,
        Verb::Members(verb) => Box::pin(members::run(console, globals, verb)).await?,
        Verb::Onboard(args) => return Box::pin(onboard::run(console, globals, args)).await,
        Verb::Doctor => return Box::pin(doctor::run(console, globals)).await,
        Verb::Receipts(verb) => Box::pin(receipts::run(console, &opened(globals).await?, verb)).await?,
        Verb::Export(args) => Box::pin(export::run(console, &opened(globals).await?, &args)).await?,
        Verb::Whoami => login::whoami(console, &opened(globals).await?).await?,
        Verb::Agents(verb) => Box::pin(agents::run(console, &opened(globals).await?, verb)).await?,
        Verb::Tools => about::tools(console, &opened(globals).await?).await?,
        Verb::Keys(verb) => keys::run(console, &opened(globals).await?, verb).await?,
        Verb::Providers(verb) => providers::run(console, &opened(globals).await?, verb).await?,
        Verb::Secrets(verb) => secrets::run(console, &opened(globals).await?, verb).await?,
        Verb::Retention(args) => retention::run(console, &opened(globals).await?, &args).await?,
        Verb::Routing(verb) => routing::run(console, &opened(globals).await?, verb).await?,
        Verb::Policy(verb) => {
            if let Some(verb) = policy::alone(console, verb)? {
                Box::pin(policy::run(console, &opened(globals).await?, verb)).await?;
            }
        }
        Verb::Calls(args) => spending::calls(console, &opened(globals).await?, &args).await?,
        Verb::Caps(args) => spending::caps(console, &opened(globals).await?, &args).await?,
        Verb::Costs(args) => costs::run(console, &opened(globals).await?, &args).await?,
        Verb::Budgets(verb) => budgets::run(console, &opened(globals).await?, verb).await?,
        Verb::Audit(audit::Verb::Verify { file: Some(file) }) => audit::check(console, &file)?,
        Verb::Audit(verb) => Box::pin(audit::run(console, &opened(globals).await?, verb)).await?,
        Verb::Models => models::run(console, &opened(globals).await?).await?,
        Verb::Ask(args) => ask::run(console, &opened(globals).await?, &args).await?,
        Verb::Forecast(args) => return forecast::run(console, &opened(globals).await?, &args).await,
        Verb::Runs(verb) => return Box::pin(runs::run(console, &opened(globals).await?, verb)).await,
        Verb::Run(args) => return Box::pin(workloads::start(console, &opened(globals).await?, args)).await,
        Verb::Vm(verb) => return Box::pin(workloads::run(console, &opened(globals).await?, verb)).await,
        Verb::Sessions(verb) => return Box::pin(sessions::run(console, &opened(globals).await?, verb)).await,
        Verb::Chat(args) => return Box::pin(chat::run(console, &opened(globals).await?, args)).await,
        Verb::Approvals(verb) => Box::pin(approvals::run(console, &opened(globals).await?, verb)).await?,
        Verb::Stops(verb) => stops::run(console, &opened(globals).await?, verb).await?,
        Verb::Logs(args) => return Box::pin(runs::logs(console, &opened(globals).await?, &args)).await,
    }
    Ok(Exit::Ok)
}

/// The server, as somebody of the tenant that was named, if one was.
async fn opened(globals: &Globals) -> Result<Api, Failure> {
    let api = Api::open(globals)?;
    let wanted = globals.tenant_id.clone().or_else(|| env::get(env::TENANT_ID));
    let Some(wanted) = wanted else { return Ok(api) };
    let me = api.fetch(api::Call::get("/auth/me")).await?;
    let own = format::text(&me, "tenantId");
    if own.eq_ignore_ascii_case(&wanted) {
        return Ok(api);
    }
    let message =
        format!("the login or key is one of the tenant {}, not {}", format::line(own), format::line(&wanted));
    let hint = "log in to that tenant, or take --tenant-id and LANTERN_TENANT_ID out";
    Err(Failure::new(Exit::Forbidden, message).code("other_tenant").hint(hint))
}

fn completions(console: &Console, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lantern", &mut script);
    console.raw(&script)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_names_still_work() {
        for line in [
            vec!["lantern", "agent", "get", "digest"],
            vec!["lantern", "runs", "create", "--agent", "digest", "--stream"],
            vec!["lantern", "logs", "018f0000-0000-7000-8000-000000000001", "-f", "-o", "json"],
        ] {
            assert!(Cli::try_parse_from(&line).is_ok(), "{line:?}");
        }
    }
}
