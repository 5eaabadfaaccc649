//! `lantern man`: manual pages, made of the command line itself so that they cannot say something else.
//!
//! Asks no server. With a folder it writes a page for every command, else it answers with one page.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use serde_json::json;

use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};

/// Flags of `lantern man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Read one:      lantern man runs watch | man -l -
Install all:   lantern man --dir ~/.local/share/man/man1

The answer is the page, with --output json too, unless --dir is given.")]
pub(crate) struct ManArgs {
    /// The command that the page is about, as in `runs watch` [default: lantern itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

/// Answers with a page, or writes all of them.
pub(crate) fn run(console: &Console, whole: Command, args: &ManArgs) -> Result<(), Failure> {
    let mut whole = whole.disable_help_subcommand(true);
    whole.build();
    if let Some(dir) = &args.dir {
        return all(console, &whole, dir);
    }
    let mut command = &whole;
    for word in &args.command {
        command = command.find_subcommand(word).ok_or_else(|| {
            Failure::usage(format!("there is no command {}", args.command.join(" ")))
                .hint("see what there is with `lantern --help`")
        })?;
    }
    console.raw(&page(command).map_err(|error| Failure::output(&error))?)
}

fn all(console: &Console, whole: &Command, dir: &Path) -> Result<(), Failure> {
    let unwritable = |error: io::Error| {
        Failure::new(Exit::Failed, format!("cannot write the pages to {}: {error}", dir.display()))
            .code("output_failed")
            .hint("make space, or name a folder that can be written in --dir")
    };
    fs::create_dir_all(dir).map_err(unwritable)?;
    let mut pages = Vec::new();
    let mut left = vec![whole];
    while let Some(command) = left.pop() {
        let name = format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()));
        let text = page(command).map_err(unwritable)?;
        fs::write(dir.join(&name), text).map_err(unwritable)?;
        pages.push(name);
        left.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()));
    }
    pages.sort();
    let answer = json!({ "dir": dir.display().to_string(), "pages": pages });
    console.answer(&answer, || format!("wrote {} pages to {}", pages.len(), dir.display()))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).manual("Lantern").render(&mut text)?;
    Ok(text)
}
