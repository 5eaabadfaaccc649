//! Rule: a feature keeps its tables and its routes to itself.
//!
//! A feature of `control` may use another's `model` and `service`. Two features that need each other's `store` are one.

use crate::finding::Finding;
use crate::rust::{Source, ident};
use crate::tree::Tree;

const FEATURES: &str = "crates/control/src/features/";
const PRIVATE: &[&str] = &["::store", "::routes"];

/// No feature names another feature's `store` or `routes`.
pub(crate) fn imports(tree: &Tree) -> Vec<Finding> {
    let features = tree.rust(FEATURES).filter(|source| !source.path.ends_with("/features/mod.rs"));
    features.flat_map(reached).collect()
}

fn reached(source: &Source) -> Vec<Finding> {
    let inside = source.path.strip_prefix(FEATURES).unwrap_or_default();
    let own: Vec<&str> = inside.split(['/', '.']).collect();
    let mut findings = Vec::new();
    for (line, code) in source.product_code() {
        for (at, private) in PRIVATE.iter().flat_map(|p| code.match_indices(p)) {
            let before = code.get(..at).unwrap_or_default();
            let after = code.get(at + private.len()..).unwrap_or_default();
            let other = before.rsplit(|c| !ident(c)).next().unwrap_or_default();
            let theirs = !own.contains(&other) && !matches!(other, "self" | "super" | "crate" | "");
            if theirs && !after.starts_with(ident) {
                let message = format!("{other}{private} belongs to {other}; use its model or service");
                findings.push(Finding::new("slices", &source.path, line, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    #[test]
    fn reaching_into_another_feature_is_found() {
        let at = |code: &str| found(imports, &[("crates/control/src/features/runs/service.rs", code)]).len();
        assert_eq!(at("use crate::features::agents::store;"), 1);
        assert_eq!(at("crate::features::agents::routes()"), 1);
        assert_eq!(at("use crate::features::agents::{model, service};"), 0);
        assert_eq!(at("use super::store;"), 0);
        assert_eq!(at("crate::features::runs::store::get(tx)"), 0);
        assert_eq!(at("use lantern_store::journal; x::stored()"), 0);
    }
}
