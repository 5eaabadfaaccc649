//! `cargo xtask tidy`: everything about the shape of this repository that the compiler cannot say.
//!
//! The table below is the whole list. A rule is a function from the tree to findings; it reads nothing else, decides
//! nothing about allowances, and has a test that shows a planted violation is found.

use std::path::Path;

use anyhow::{Result, bail};

use crate::finding::{ALLOW, Finding, settle};
use crate::rules::{
    decisions, documents, errors, files, inventory, layers, manifests, naming, slices, sql, style,
};
use crate::tree::Tree;
use crate::{changelog, golden};

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    manifests::edges,
    manifests::pure,
    manifests::owned,
    manifests::lints,
    layers::pure_code,
    layers::drivers,
    layers::http_client,
    sql::run_updates,
    sql::tenants,
    decisions::numbered,
    inventory::scopes,
    inventory::secrets,
    inventory::sockets,
    naming::vendors,
    slices::imports,
    errors::documented,
    style::headers,
    style::length,
    style::allows,
    style::ignored_tests,
    style::sleeping_tests,
    style::todos,
    style::doc_tests,
    style::selects,
    style::test_programs,
    files::whitespace,
    files::local_paths,
    documents::links,
    documents::claims,
    changelog::fragments,
];

/// Runs every rule over the repository at `root`. Fails when anything is found.
pub(crate) fn run(root: &Path) -> Result<String> {
    let findings = check(&Tree::read(root)?);
    if findings.is_empty() {
        return Ok(format!("tidy: {} rules hold", RULES.len()));
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    bail!("{}\ntidy: {} findings", lines.join("\n"), findings.len());
}

fn check(tree: &Tree) -> Vec<Finding> {
    let found = RULES.iter().flat_map(|rule| rule(tree)).collect();
    settle(found, &golden::entries(tree, ALLOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let tree = Tree::read(&crate::root().unwrap()).unwrap();
        let findings: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
