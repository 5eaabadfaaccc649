//! `cargo xtask watch ARGS`: builds and starts `lantern dev`, and does so again whenever a source file changes.
//!
//! The server is killed, not asked to stop: every save is then also a crash from which it must recover. A build that
//! fails leaves the running server alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

/// What the server is built from.
const WATCHED: &[&str] = &["Cargo.toml", "Cargo.lock", "crates", "migrations"];
/// How soon a save is noticed.
const GLANCE: Duration = Duration::from_millis(300);

/// Runs until it is interrupted or the server cannot be started.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<String> {
    let mut server: Option<Child> = None;
    loop {
        let seen = newest(root)?;
        if build(root)? {
            if let Some(mut old) = server.take() {
                old.kill().context("cannot stop the server")?;
                old.wait()?;
            }
            server = Some(start(root, args)?);
        }
        while newest(root)? <= seen {
            std::thread::sleep(GLANCE);
            if let Some(status) = server.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the server stopped by itself: {status}");
            }
        }
    }
}

fn build(root: &Path) -> Result<bool> {
    let built = Command::new("cargo").args(["build", "--bin", "lantern"]).current_dir(root).status();
    Ok(built.context("cannot run cargo")?.success())
}

fn start(root: &Path, args: &[&str]) -> Result<Child> {
    // Cargo puts the programs of a workspace beside each other, and this is one of them.
    let program = std::env::current_exe()?.with_file_name("lantern");
    Command::new(&program)
        .arg("dev")
        .args(args)
        .current_dir(root)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// When the latest change to a watched file was made.
fn newest(root: &Path) -> Result<SystemTime> {
    let mut latest = SystemTime::UNIX_EPOCH;
    let mut left: Vec<PathBuf> = WATCHED.iter().map(|name| root.join(name)).collect();
    while let Some(path) = left.pop() {
        // A file that was there a moment ago and is not now is a change in its folder, which is watched too.
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        latest = latest.max(about.modified()?);
        if about.is_dir() {
            left.extend(fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    Ok(latest)
}
