//! `cargo xtask deps`: the dependencies that Cargo resolved, against what was agreed.
//!
//! Three lists: `golden/deps.txt` (edges between our crates), `golden/third-party.txt` (each direct dependency with
//! its licence and the reason it is here) and the licences and bans below, which hold for the whole graph.

mod licence;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::finding::Finding;
use crate::golden;
use crate::rules::manifests;
use crate::tree::Tree;

const DIRECT: &str = "golden/third-party.txt";

/// Crates that must not be linked, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "one TLS stack: rustls"),
    ("native-tls", "one TLS stack: rustls"),
    ("ring", "one cryptography library: aws-lc-rs"),
    ("sqlx-core", "one driver a database: rusqlite, tokio-postgres"),
    ("async-std", "one runtime: tokio"),
];

/// Crates of which a second version in the graph is a second stack.
const SINGLE: &[&str] = &["tokio", "hyper", "reqwest", "rustls", "libsqlite3-sys", "axum", "http", "serde"];

/// Features that must stay off, because Cargo turns a feature on for every crate at once.
const UNWANTED: &[(&str, &str, &str)] = &[
    ("serde_json", "preserve_order", "stored bytes and digests would depend on the order of writing"),
    ("serde_json", "arbitrary_precision", "stored numbers would change their bytes"),
];

/// What is built: our own packages with what they name, and every package from outside.
struct Graph {
    members: Vec<Member>,
    external: Vec<Package>,
}

/// What `cargo metadata --no-deps` tells of a package of ours, as far as it is needed.
#[derive(Deserialize)]
struct Member {
    name: String,
    dependencies: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// A package from outside, as `cargo tree` prints it. (`cargo metadata` also lists what no feature turns on.)
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
    features: Vec<String>,
}

/// Checks the repository at `root`. Fails when anything is found.
pub(crate) fn run(root: &Path) -> Result<String> {
    let tree = Tree::read(root)?;
    let resolved = resolve(root)?;
    let mut findings = manifests::edges(&tree);
    findings.extend(direct(&resolved, &golden::entries(&tree, DIRECT)));
    findings.extend(whole(&resolved));
    if findings.is_empty() {
        return Ok(format!("deps: {} packages from outside are as agreed", resolved.external.len()));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    bail!("{}\ndeps: {} findings", lines.join("\n"), findings.len());
}

fn resolve(root: &Path) -> Result<Graph> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Member>,
    }
    let metadata = cargo(root, &["metadata", "--format-version", "1", "--no-deps", "--locked"])?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("cargo metadata answered something else than JSON")?;
    let printed =
        cargo(root, &["tree", "--workspace", "--locked", "--prefix", "none", "--format", "{p}|{l}|{f}"])?;
    let ours: Vec<&str> = metadata.packages.iter().map(|member| member.name.as_str()).collect();
    let external: BTreeSet<Package> =
        printed.lines().filter_map(package).filter(|p| !ours.contains(&p.name.as_str())).collect();
    Ok(Graph { external: external.into_iter().collect(), members: metadata.packages })
}

fn cargo(root: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("cargo").args(args).current_dir(root).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("cargo answered something else than text")
}

/// Reads `name v1.2.3 (proc-macro)|MIT OR Apache-2.0|default,std (*)`.
fn package(line: &str) -> Option<Package> {
    let fields: Vec<&str> = line.trim_end_matches("(*)").split('|').map(str::trim).collect();
    let [package, licence, features] = fields.as_slice() else { return None };
    let mut words = package.split_whitespace();
    let name = words.next()?.to_owned();
    let version = words.next()?.trim_start_matches('v').to_owned();
    let features = features.split(',').map(str::to_owned).collect();
    Some(Package { name, version, licence: (*licence).to_owned(), features })
}

/// The direct dependencies equal the list, licence by licence. A line is `name | licence | reason`.
fn direct(graph: &Graph, list: &[(usize, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = BTreeMap::new();
    for &(line, entry) in list {
        match entry.split('|').map(str::trim).collect::<Vec<_>>().as_slice() {
            [name, licence, reason] if !reason.is_empty() => {
                listed.insert((*name).to_owned(), (line, (*licence).to_owned()));
            }
            _ => findings.push(Finding::new("deps", DIRECT, line, "want `name | licence | reason`")),
        }
    }
    for package in named(graph) {
        let licence = package.licence.as_str();
        match listed.remove(&package.name) {
            None => {
                let message = format!("add `{} | {licence} | why`", package.name);
                findings.push(Finding::new("deps", DIRECT, 0, message));
            }
            Some((line, agreed)) if agreed != licence => {
                let message = format!("{} is now under {licence}, agreed was {agreed}", package.name);
                findings.push(Finding::new("deps", DIRECT, line, message));
            }
            Some(_) => {}
        }
    }
    let gone = listed.into_iter();
    findings.extend(gone.map(|(name, (line, _))| {
        Finding::new(
            "deps",
            DIRECT,
            line,
            format!("{name} is no direct dependency any more: remove the line"),
        )
    }));
    findings
}

/// The packages from outside that our own packages name, one of each name.
fn named(graph: &Graph) -> Vec<&Package> {
    let names: BTreeSet<&str> = graph
        .members
        .iter()
        .flat_map(|member| &member.dependencies)
        .map(|named| named.name.as_str())
        .collect();
    let mut found: BTreeMap<&str, &Package> = BTreeMap::new();
    for package in graph.external.iter().filter(|package| names.contains(package.name.as_str())) {
        found.insert(&package.name, package);
    }
    found.into_values().collect()
}

/// Licences, bans, unwanted features and second copies over the whole graph.
fn whole(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut find = |message: String| findings.push(Finding::new("deps", "Cargo.lock", 0, message));
    for Package { name, version, licence, features } in &graph.external {
        if !licence::is_allowed(licence) {
            find(format!("{name} {version}: licence {licence:?} is not among the allowed"));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
            find(format!("{name} must not be linked: {why}"));
        }
        for (_, feature, why) in
            UNWANTED.iter().filter(|(of, feature, _)| of == name && features.iter().any(|f| f == feature))
        {
            find(format!("{name} has the feature {feature}: {why}"));
        }
        versions.entry(name).or_default().insert(version);
    }
    for name in SINGLE {
        if let Some(found) = versions.get(name).filter(|found| found.len() > 1) {
            find(format!("{name} is in the graph more than once: {found:?}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(direct: &[&str], printed: &[&str]) -> Graph {
        let dependencies = direct.iter().map(|name| Named { name: (*name).to_owned() }).collect();
        let members = vec![Member { name: "ours".to_owned(), dependencies }];
        Graph { members, external: printed.iter().filter_map(|line| package(line)).collect() }
    }

    fn messages(findings: Vec<Finding>) -> String {
        findings.into_iter().map(|f| f.message).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_direct_dependency_that_nobody_agreed_to_is_found() {
        let found = graph_of(
            &["serde"],
            &["serde v1.0.0 (proc-macro)|MIT OR Apache-2.0|std (*)", "itoa v1.0.0|MIT|"],
        );
        let said = |list: &[(usize, &str)]| messages(direct(&found, list));
        assert_eq!(said(&[(1, "serde | MIT OR Apache-2.0 | data in and out")]), "");
        assert!(said(&[]).contains("add `serde | MIT OR Apache-2.0 | why`"));
        assert!(said(&[(1, "serde | MIT | data")]).contains("agreed was MIT"));
        assert!(said(&[(1, "serde | MIT OR Apache-2.0 | ")]).contains("want `name"));
        assert!(
            said(&[(1, "serde | MIT OR Apache-2.0 | x"), (2, "rand | MIT | x")])
                .contains("rand is no direct")
        );
    }

    #[test]
    fn licences_bans_features_and_second_copies_are_found() {
        let said = |printed: &[&str]| messages(whole(&graph_of(&[], printed)));
        assert_eq!(said(&["a v1.0.0|MIT|std"]), "");
        assert!(said(&["a v1.0.0|GPL-3.0-only|"]).contains("licence"));
        assert!(said(&["a v1.0.0||"]).contains("licence"));
        assert!(said(&["openssl-sys v0.9.0|MIT|"]).contains("one TLS stack"));
        assert!(said(&["hyper v0.14.0|MIT|", "hyper v1.0.0|MIT|"]).contains("more than once"));
        assert!(said(&["serde_json v1.0.0|MIT|preserve_order,std (*)"]).contains("order of writing"));
    }
}
