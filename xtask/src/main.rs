//! `cargo xtask`: the repository's own chores, behind `make`.
//!
//! Nothing here is part of the product. Each chore is a pure core (text in, findings or text out) with a thin shell
//! that reads the repository, so that the cores are tested on planted violations.

mod changelog;
mod deps;
mod finding;
mod golden;
mod rules;
mod rust;
mod tidy;
mod tree;
mod watch;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "cargo xtask <chore>

  tidy                structural rules: who may import whom, what may be named where, text hygiene
  deps                dependency edges, direct dependencies and licences against golden/
  changelog VERSION   folds changelog.d/ into CHANGELOG.md under that version
  watch [ARGS]        builds and starts `lantern dev ARGS` again after every change";

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = root()?;
    let root = root.as_path();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => tidy::run(root),
        ["deps"] => deps::run(root),
        ["changelog", version] => changelog::run(root, version),
        ["watch", args @ ..] => watch::run(root, args),
        _ => bail!("{USAGE}"),
    }
}

/// The checkout that we are in. Asked for at run time: a program that another checkout built must not look there.
fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    root.map(Path::to_path_buf).context("run this inside the repository")
}

/// A closed pipe (`cargo xtask tidy | head`) is not an error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).unwrap_or_default();
}
