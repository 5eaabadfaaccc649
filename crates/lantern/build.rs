//! Notes the commit that the program is built from, for `lantern --version`, and lists the files of the dashboard.
//!
//! Asks the git of this machine and nobody else. Without a git, or in an archive, there is no commit and the build goes on.
//! Runs again when the checkout has come to another commit, and not before.

#[path = "build/dashboard.rs"]
mod dashboard;

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    if let Err(error) = dashboard::list() {
        println!("cargo::error=the files of the dashboard cannot be listed: {error}");
    }
    let commit = commit();
    let of = commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
    println!("cargo::rustc-env=LANTERN_BUILD_VERSION={}{of}", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = commit {
        println!("cargo::rustc-env=LANTERN_BUILD_COMMIT={commit}");
        for file in watched() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
}

/// The commit that is checked out, if this is a checkout of ours and no archive in one of something else.
fn commit() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let ours = Path::new(&top).canonicalize().ok()? == root;
    ours.then(|| git(&["rev-parse", "--short=12", "HEAD"]))?
}

/// What changes when another commit is checked out. Of a file that is not there, Cargo would say each time that it changed.
fn watched() -> Vec<String> {
    let path = |name: &str| {
        git(&["rev-parse", "--path-format=absolute", "--git-path", name])
            .filter(|path| Path::new(path).exists())
    };
    // The log of HEAD grows with each commit and checkout; what else there is, is for who keeps none.
    if let Some(log) = path("logs/HEAD") {
        return vec![log];
    }
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    [Some("HEAD"), branch.as_deref(), Some("packed-refs")].into_iter().flatten().filter_map(path).collect()
}

fn git(args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // A hook of another repository, which may have started this build, names that one.
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    let output = command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let said = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(said).ok()?.trim().to_owned()).filter(|said| !said.is_empty())
}
