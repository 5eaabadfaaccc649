//! The rules of `tidy`, by what they look at.

pub(crate) mod decisions;
pub(crate) mod documents;
pub(crate) mod errors;
pub(crate) mod files;
pub(crate) mod inventory;
pub(crate) mod layers;
pub(crate) mod manifests;
pub(crate) mod naming;
pub(crate) mod slices;
pub(crate) mod sql;
pub(crate) mod style;

/// The crates without async, IO or clock.
pub(crate) const PURE: &[&str] = &["types", "engine", "policy", "receipts", "cedar", "verify", "trace"];

/// The crate that a path lies in: `store` for `crates/store/src/db.rs`.
pub(crate) fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Planting a violation and looking at what a rule says.

    use crate::finding::Finding;
    use crate::tree::Tree;

    /// Where `rule` finds something in these files: `path:line`.
    pub(crate) fn found(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files.iter().copied());
        rule(&tree).iter().map(|f| format!("{}:{}", f.path, f.line)).collect()
    }
}
