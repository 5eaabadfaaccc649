//! Reads the command line. What makes no sense is explained in the form that was asked for, with a next step.
//!
//! Invariant: whatever the command line says, the process ends with an exit code and never with half an answer.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};
use serde_json::json;

use super::Cli;
use crate::cli::console::{Console, Format};
use crate::cli::failure::{Exit, Failure};

/// What the arguments say; or the exit code, when everything that they ask for was answered here.
pub(crate) fn read(args: &[OsString]) -> Result<Cli, ExitCode> {
    let args = &renamed(args);
    let error = match Cli::try_parse_from(args) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let console = Console::new(format(args));
    let done = match error.kind() {
        ErrorKind::DisplayHelp => {
            let text = plain(&error, console.paint.0);
            console.answer(&json!({ "help": text.trim_end() }), || text.trim_end().to_owned())
        }
        ErrorKind::DisplayVersion => {
            let commit = option_env!("LANTERN_BUILD_COMMIT");
            let version =
                json!({ "name": "lantern", "version": env!("CARGO_PKG_VERSION"), "commit": commit });
            console.answer(&version, || plain(&error, false).trim_end().to_owned())
        }
        // Who types a command's name alone wants to know what it can do.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !console.json() => {
            console.aside(plain(&error, false).trim_end());
            Err(Failure::new(Exit::Usage, ""))
        }
        _ => Err(usage(&error, args)),
    };
    let failure = done.err().unwrap_or_else(|| Failure::new(Exit::Ok, ""));
    console.fail(&failure);
    Err(failure.exit.into())
}

/// The same arguments where `run` was meant as it was called before: `lantern run list` is `lantern runs list`. A file that is called like
/// a command is `./list`.
fn renamed(args: &[OsString]) -> Vec<OsString> {
    let mut args = args.to_vec();
    let words: Vec<&str> = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default()).collect();
    let at = words.iter().position(|word| *word == "run");
    let before = at.and_then(|at| words.get(..at)).unwrap_or_default();
    let next = at.and_then(|at| words.get(at + 1)).copied().unwrap_or_default();
    let cli = Cli::command();
    let known = |command: &str, word: &str| {
        cli.find_subcommand(command).is_some_and(|found| found.find_subcommand(word).is_some())
    };
    // Not the value of another command's flag.
    let first = !before.iter().any(|word| cli.find_subcommand(word).is_some());
    if let Some(at) = at
        && first
        && known("runs", next)
        && let Some(word) = args.get_mut(at + 1)
    {
        *word = "runs".into();
    }
    args
}

fn plain(error: &clap::Error, colour: bool) -> String {
    let text = error.render();
    if colour { text.ansi().to_string() } else { text.to_string() }
}

/// The form that was asked for, as far as it can be told from arguments that cannot be read as a whole.
fn format(args: &[OsString]) -> Format {
    let words: Vec<&str> = args.iter().map_while(|arg| arg.to_str()).take_while(|arg| *arg != "--").collect();
    let pairs = words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]));
    let joined = words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"));
    if pairs || joined { Format::Json } else { Format::Text }
}

/// Why the arguments make no sense.
fn usage(error: &clap::Error, args: &[OsString]) -> Failure {
    let command = command(args);
    let help = format!("see `{command} --help`");
    let bare = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    if bare.contains(&error.kind()) {
        return Failure::usage(format!("`{command}` wants a command")).hint(help);
    }
    if error.kind() == ErrorKind::MissingRequiredArgument && command == "lantern agents create" {
        return Failure::usage("an agent needs a name: give --file FILE or --name NAME").hint(help);
    }
    let text = plain(error, false);
    let mut failure = Failure::usage("");
    for part in text.split("\n\n").map(one_line).filter(|part| !part.is_empty()) {
        if let Some(message) = part.strip_prefix("error: ") {
            message.clone_into(&mut failure.message);
        } else if !part.starts_with("For more information") {
            failure.details.push(part);
        }
    }
    let wrong = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.as_str(),
        _ => "",
    };
    failure.hint(match wrong {
        "<RUN>" => "see the ids with `lantern runs list`".to_owned(),
        "<KEY>" => "see the ids with `lantern keys list`".to_owned(),
        "<APPROVAL>" => "see the ids with `lantern approvals list`".to_owned(),
        _ => help,
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The command that the arguments lead to, by name.
fn command(args: &[OsString]) -> String {
    let (mut command, mut path) = (Cli::command(), "lantern".to_owned());
    for arg in args.iter().skip(1) {
        if let Some(found) = command.find_subcommand(arg).cloned() {
            path = format!("{path} {}", found.get_name());
            command = found;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_form_is_known_even_when_the_rest_is_not() {
        for (line, json) in [
            ("lantern launch -o json", true),
            ("lantern --output=json launch", true),
            ("lantern -ojson", true),
            ("lantern launch", false),
            ("lantern -o text", false),
            ("lantern x -- -o json", false),
        ] {
            assert_eq!(format(&words(line)) == Format::Json, json, "{line}");
        }
    }

    #[test]
    fn what_was_called_run_before_is_still_found() {
        for (line, want) in [
            ("lantern run list", "lantern runs list"),
            ("lantern -o json run get x", "lantern -o json runs get x"),
            ("lantern run agent.yaml", "lantern run agent.yaml"),
            ("lantern run ./list", "lantern run ./list"),
            ("lantern run", "lantern run"),
            ("lantern agents create --name run list", "lantern agents create --name run list"),
        ] {
            assert_eq!(renamed(&words(line)), words(want), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_has_a_next_step() {
        for (line, message, next) in [
            ("lantern runs get zzz", "invalid value 'zzz' for '<RUN>'", "`lantern runs list`"),
            ("lantern approvals grant ok", "invalid value 'ok' for '<APPROVAL>'", "`lantern approvals list`"),
            ("lantern lgoin", "unrecognized subcommand 'lgoin'", "`lantern --help`"),
            ("lantern -o json", "`lantern` wants a command", "`lantern --help`"),
            (
                "lantern agents create -o json",
                "give --file FILE or --name NAME",
                "`lantern agents create --help`",
            ),
            ("lantern runs create --agent a --max-cost-usd -1", "'-1' for '--max-cost-usd <USD>'", "--help"),
            ("lantern run list --limit 0", "'0'", "`lantern runs list --help`"),
            ("lantern runs", "`lantern runs` wants a command", "`lantern runs --help`"),
        ] {
            let args = renamed(&words(line));
            let failure = usage(&Cli::try_parse_from(&args).unwrap_err(), &args);
            assert!(failure.message.contains(message), "{line}: {failure:?}");
            assert!(failure.hint.unwrap_or_default().contains(next), "{line}");
            assert!(!failure.message.contains('\n') && failure.exit == Exit::Usage, "{line}");
        }
    }
}
