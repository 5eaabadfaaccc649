//! `lantern init`: a folder with an agent that runs as it is.
//!
//! Invariant: it makes a new folder or nothing; what is there is never written over. A template whose parts Lantern does
//! not have yet is refused with what it lacks, and none of it is written. Asks no server.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};

/// What stands in a template for the agent's name.
const NAME: &str = "AGENT_NAME";
/// As the server has it.
const NAME_MAX: usize = 128;

/// Flags of `lantern init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Templates:
  basic     a model that answers a question
  research  a model that reads web pages
  tool-use  a model that calls a tool
  approval  steps that wait for a person

connector, personal and scheduled wait for parts that Lantern does not have yet, and are refused.")]
pub(crate) struct InitArgs {
    /// The agent's name, and the folder's: letters, digits, `.`, `_` and `-`, a letter or digit first
    #[arg(value_parser = name)]
    name: String,
    /// What to begin with; asked for at a terminal when left out [default: basic]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "TEMPLATE")]
    template: Option<Template>,
}

/// Something to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// A model that answers a question.
    Basic,
    /// A model that reads web pages.
    Research,
    /// A model that calls a tool.
    ToolUse,
    /// Steps that wait for a person.
    Approval,
    /// Not yet.
    Connector,
    /// Not yet.
    Personal,
    /// Not yet.
    Scheduled,
}

/// A file's name and text.
type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal) => {
        [
            ("agent.json", include_str!(concat!("init/", $folder, "/agent.json"))),
            ("input.json", include_str!(concat!("init/", $folder, "/input.json"))),
            ("README.md", include_str!(concat!("init/", $folder, "/README.md"))),
        ]
    };
}

impl Template {
    const OFFERED: [Self; 4] = [Self::Basic, Self::Research, Self::ToolUse, Self::Approval];

    const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Research => "research",
            Self::ToolUse => "tool-use",
            Self::Approval => "approval",
            Self::Connector => "connector",
            Self::Personal => "personal",
            Self::Scheduled => "scheduled",
        }
    }

    /// What it is; of one that is not offered, what Lantern lacks for it.
    const fn about(self) -> &'static str {
        match self {
            Self::Basic => "a model that answers a question",
            Self::Research => "a model that reads web pages",
            Self::ToolUse => "a model that calls a tool",
            Self::Approval => "steps that wait for a person",
            Self::Connector => "connectors to other services",
            Self::Personal => "channels to a person and a memory of them",
            Self::Scheduled => "schedules",
        }
    }

    const fn files(self) -> Option<[File; 3]> {
        match self {
            Self::Basic => Some(files!("basic")),
            Self::Research => Some(files!("research")),
            Self::ToolUse => Some(files!("tool-use")),
            Self::Approval => Some(files!("approval")),
            Self::Connector | Self::Personal | Self::Scheduled => None,
        }
    }
}

/// Makes the folder.
pub(crate) fn run(console: &Console, args: InitArgs) -> Result<(), Failure> {
    let template = match args.template {
        Some(template) => template,
        None if console.interactive() => pick(console)?,
        None => Template::Basic,
    };
    let files = template.files().ok_or_else(|| missing(template))?;
    let folder = Path::new(&args.name);
    make(folder, &args.name, &files)?;
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let answer = json!({ "agent_name": args.name, "template": template.name(), "directory": args.name,
        "files": names });
    console.answer(&answer, || {
        format!("made {}/ with {} from the template {}", args.name, names.join(", "), template.name())
    })?;
    if !console.json() {
        console.note(&format!("next: cd {} and follow its README.md", args.name));
    }
    Ok(())
}

/// Writes all files into a new folder, or leaves nothing behind.
fn make(folder: &Path, name: &str, files: &[File]) -> Result<(), Failure> {
    fs::create_dir(folder).map_err(|error| unmade(folder, &error))?;
    let written = files.iter().try_for_each(|(file, text)| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(folder.join(file))?;
        file.write_all(text.replace(NAME, name).as_bytes())
    });
    written.map_err(|error| {
        // It was not there before, so all that is in it is ours.
        drop(fs::remove_dir_all(folder));
        unmade(folder, &error)
    })
}

fn unmade(folder: &Path, error: &io::Error) -> Failure {
    let folder = folder.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Failure::usage(format!("{folder} is there already, and nothing is written over"))
            .code("exists")
            .hint("choose another name, or another folder to be in");
    }
    Failure::new(Exit::Failed, format!("cannot make {folder}: {error}"))
        .code("output_failed")
        .hint("make space, or go to a folder that can be written")
}

/// A template of the time to come.
fn missing(template: Template) -> Failure {
    let offered: Vec<&str> = Template::OFFERED.iter().map(|offered| offered.name()).collect();
    Failure::usage(format!("the template {} needs {}", template.name(), template.about()))
        .code("template_unavailable")
        .hint(format!(
            "Lantern does not have them yet (docs/roadmap.md says when); take one of {}",
            offered.join(", ")
        ))
}

/// Asks which of those that are offered.
fn pick(console: &Console) -> Result<Template, Failure> {
    for (number, template) in (1..).zip(Template::OFFERED) {
        console.aside(&format!("  {number}  {:<8}  {}", template.name(), template.about()));
    }
    console.ask("Template [1]: ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")).hint("pass --template"))?;
    picked(&answer).ok_or_else(|| {
        Failure::usage(format!("there is no template {}", answer.trim()))
            .hint("a number or a name of the list")
    })
}

/// The one that is meant by a number or a name; by nothing, the first.
fn picked(answer: &str) -> Option<Template> {
    let answer = answer.trim();
    if answer.is_empty() {
        return Template::OFFERED.first().copied();
    }
    let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    match number {
        Some(index) => Template::OFFERED.get(index).copied(),
        None => Template::OFFERED.into_iter().find(|template| template.name() == answer),
    }
}

fn name(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && text.len() <= NAME_MAX && text.bytes().all(inner) {
        return Ok(text.to_owned());
    }
    Err(format!("1 to {NAME_MAX} letters, digits, `.`, `_` and `-`, a letter or digit first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_picked_by_number_or_name() {
        for (answer, want) in [
            ("\n", Some(Template::Basic)),
            ("3\n", Some(Template::ToolUse)),
            ("approval", Some(Template::Approval)),
            ("0", None),
            ("5", None),
            ("personal", None),
        ] {
            assert_eq!(picked(answer), want, "{answer:?}");
        }
    }

    #[test]
    fn what_is_offered_has_files_and_the_rest_says_what_it_lacks() {
        for template in Template::value_variants() {
            let offered = Template::OFFERED.contains(template);
            assert_eq!(template.files().is_some(), offered, "{template:?}");
            let value = template.to_possible_value().unwrap();
            assert_eq!(value.get_name(), template.name());
            if !offered {
                let failure = missing(*template);
                assert_eq!(failure.exit, Exit::Usage);
                assert!(failure.message.contains(template.about()), "{failure:?}");
            }
        }
    }

    #[test]
    fn names_are_those_of_agents() {
        for good in ["a", "my-agent.2", "9_x"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "../a", "a/b", ".a", "a b", &"a".repeat(129)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
