//! Rules about `Cargo.toml`: who may depend on whom, and who alone may depend on what.
//!
//! The allowed edges are written in `golden/deps.txt`, so that a new one is a visible change with a reviewer.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::golden;
use crate::rules::{PURE, crate_of};
use crate::tree::Tree;

const EDGES: &str = "golden/deps.txt";

/// What the pure crates never gain.
const IMPURE: &[&str] = &[
    "tokio",
    "rusqlite",
    "tokio-postgres",
    "deadpool-postgres",
    "reqwest",
    "hyper",
    "axum",
    "rand",
    "getrandom",
    "futures-util",
    "tracing",
];

/// Dependencies that one crate alone may have, because it is the only door to what they reach.
const OWNED: &[(&str, &str)] = &[
    ("rusqlite", "store"),
    ("tokio-postgres", "store"),
    ("deadpool-postgres", "store"),
    ("reqwest", "net"),
    ("webpki-roots", "net"),
    ("jsonschema", "schema"),
];

/// One dependency of a manifest.
struct Dependency {
    name: String,
    line: usize,
    dev: bool,
}

/// A workspace crate may use only the crates that `golden/deps.txt` grants it. A dev-dependency may also be `sim`.
pub(crate) fn edges(tree: &Tree) -> Vec<Finding> {
    let mut allowed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (_, entry) in golden::entries(tree, EDGES) {
        let (from, to) = entry.split_once(':').unwrap_or((entry, ""));
        allowed.insert(from.trim(), to.split_whitespace().collect());
    }
    let mut findings = Vec::new();
    for (path, krate, dependencies) in manifests(tree) {
        let Some(allowed) = allowed.get(krate) else {
            findings.push(Finding::new("edges", path, 0, format!("add the crate to {EDGES}")));
            continue;
        };
        for dependency in dependencies {
            let Some(to) = dependency.name.strip_prefix("lantern-") else { continue };
            // A crate may depend on itself in tests (another feature set), and tests may use the simulator's fakes.
            let fine = allowed.contains(&to) || (dependency.dev && (to == "sim" || to == krate));
            if !fine {
                let message = format!("{krate} may not depend on {to}; the allowed edges are in {EDGES}");
                findings.push(Finding::new("edges", path, dependency.line, message));
            }
        }
    }
    findings
}

/// The pure crates have no runtime, driver, client or source of randomness, not even in tests.
pub(crate) fn pure(tree: &Tree) -> Vec<Finding> {
    refuse(tree, "pure", |krate, name| {
        let impure = PURE.contains(&krate) && IMPURE.contains(&name);
        impure.then(|| format!("{krate} is pure and may not depend on {name}"))
    })
}

/// Drivers and the HTTP client have one owner each, in tests too.
pub(crate) fn owned(tree: &Tree) -> Vec<Finding> {
    refuse(tree, "owned", |krate, name| {
        let (_, owner) = OWNED.iter().find(|(owned, _)| *owned == name)?;
        (*owner != krate).then(|| format!("only {owner} depends on {name}"))
    })
}

/// Every member inherits the workspace's lints.
pub(crate) fn lints(tree: &Tree) -> Vec<Finding> {
    let members = tree.files().filter(|(path, _)| is_manifest(path));
    let missing = members.filter(|(_, text)| {
        let inherits = text
            .parse::<toml::Table>()
            .ok()
            .and_then(|manifest| manifest.get("lints")?.get("workspace")?.as_bool());
        inherits != Some(true)
    });
    missing.map(|(path, _)| Finding::new("lints", path, 0, "add `[lints]` with `workspace = true`")).collect()
}

fn refuse(tree: &Tree, rule: &'static str, why: impl Fn(&str, &str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, krate, dependencies) in manifests(tree) {
        for dependency in dependencies {
            if let Some(message) = why(krate, &dependency.name) {
                findings.push(Finding::new(rule, path, dependency.line, message));
            }
        }
    }
    findings
}

fn manifests(tree: &Tree) -> impl Iterator<Item = (&str, &str, Vec<Dependency>)> {
    tree.files()
        .filter(|(path, _)| is_manifest(path))
        .filter_map(|(path, text)| Some((path, crate_of(path)?, dependencies(text))))
}

fn is_manifest(path: &str) -> bool {
    path == "xtask/Cargo.toml" || (path.starts_with("crates/") && path.ends_with("/Cargo.toml"))
}

/// Every dependency in every table of a manifest, target-specific ones included.
fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut table = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            header.trim_end_matches(']').clone_into(&mut table);
            // `[dependencies.name]` is the long form of an entry.
            if let Some((head, name)) = table.rsplit_once('.')
                && head.ends_with("dependencies")
            {
                let dev = head.ends_with("dev-dependencies");
                found.push(Dependency { name: name.to_owned(), line: index + 1, dev });
            }
        } else if table.ends_with("dependencies")
            && let Some(end) = line.find(['.', '=', ' '])
            && !line.starts_with('#')
        {
            let written = line.get(..end).unwrap_or_default().trim_matches('"');
            // `alias = { package = "name" }` is a dependency on `name`.
            let renamed = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
            let name = renamed.unwrap_or(written).to_owned();
            found.push(Dependency { name, line: index + 1, dev: table.ends_with("dev-dependencies") });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    const GOLDEN: (&str, &str) = ("golden/deps.txt", "types:\nengine: types\nnet: types policy\n");

    #[test]
    fn an_edge_that_is_not_granted_is_found() {
        let engine =
            |dependency: &str| format!("[dependencies]\nlantern-types.workspace = true\n{dependency}\n");
        let at = |text: &str| found(edges, &[GOLDEN, ("crates/engine/Cargo.toml", text)]);
        assert!(at(&engine("serde.workspace = true")).is_empty());
        assert_eq!(at(&engine("lantern-net.workspace = true")), ["crates/engine/Cargo.toml:3"]);
        assert_eq!(at(&engine("[dev-dependencies]\nlantern-net = { path = \"../net\" }")).len(), 1);
        assert_eq!(at(&engine("[dependencies.lantern-net]\nworkspace = true")).len(), 1);
        assert_eq!(at(&engine("[target.'cfg(unix)'.dependencies]\nlantern-net.workspace = true")).len(), 1);
        assert!(at(&engine("[dev-dependencies]\nlantern-sim.workspace = true")).is_empty());
        assert_eq!(found(edges, &[GOLDEN, ("crates/novel/Cargo.toml", "")]), ["crates/novel/Cargo.toml:0"]);
    }

    #[test]
    fn a_runtime_in_a_pure_crate_is_found() {
        let tokio = "[dependencies]\ntokio.workspace = true\n";
        assert_eq!(found(pure, &[("crates/policy/Cargo.toml", tokio)]), ["crates/policy/Cargo.toml:2"]);
        assert!(found(pure, &[("crates/worker/Cargo.toml", tokio)]).is_empty());
    }

    #[test]
    fn a_driver_outside_its_owner_is_found() {
        let driver = "[dependencies]\nrusqlite = { version = \"1\" }\n";
        assert_eq!(found(owned, &[("crates/control/Cargo.toml", driver)]), ["crates/control/Cargo.toml:2"]);
        assert!(found(owned, &[("crates/store/Cargo.toml", driver)]).is_empty());
        let renamed = "[dependencies]\nsql = { package = \"rusqlite\", version = \"1\" }\n";
        assert_eq!(found(owned, &[("crates/control/Cargo.toml", renamed)]).len(), 1);
    }

    #[test]
    fn a_member_without_the_lints_is_found() {
        assert_eq!(found(lints, &[("crates/a/Cargo.toml", "[package]\n")]), ["crates/a/Cargo.toml:0"]);
        assert_eq!(found(lints, &[("crates/a/Cargo.toml", "[lints]\nworkspace = false\n")]).len(), 1);
        assert!(found(lints, &[("xtask/Cargo.toml", "[lints]\nworkspace = true\n")]).is_empty());
    }
}
