//! The repository as text in memory, so that every rule is a function of file contents.
//!
//! Reads no binary files, of which only the names are known, and follows no links. What version control ignores is not read either.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::rust::Source;

/// Folders that hold no source of ours, wherever they are.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", "dist"];
/// The development database, at the top only.
const SKIPPED_AT_TOP: &[&str] = &["data"];

/// Every text file of the repository by its path, with forward slashes.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
    rust: BTreeMap<String, Source>,
    /// Files that are no text, such as pictures, by their paths alone.
    others: BTreeSet<String>,
}

impl Tree {
    /// Reads the repository at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let (mut files, mut others) = (Vec::new(), BTreeSet::new());
        walk(root, "", &mut files, &mut others)?;
        Ok(Self::of(files).beside(others))
    }

    /// The same with these files in it that are no text.
    fn beside(self, others: BTreeSet<String>) -> Self {
        Self { others, ..self }
    }

    /// A tree of these files.
    pub(crate) fn of(files: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let files: BTreeMap<String, String> =
            files.into_iter().map(|(path, text)| (path.into(), text.into())).collect();
        let mut rust: BTreeMap<String, Source> = files
            .iter()
            .filter(|(path, _)| has_extension(path, "rs"))
            .map(|(path, text)| (path.clone(), Source::read(path, text)))
            .collect();
        let modules: Vec<String> = rust.values().flat_map(test_modules).collect();
        for source in rust.values_mut() {
            let within = |module: &String| {
                source
                    .path
                    .strip_prefix(module.as_str())
                    .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            };
            if modules.iter().any(within) {
                source.mark_as_tests();
            }
        }
        Self { files, rust, others: BTreeSet::new() }
    }

    /// Every file: path and text, in path order.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The text of one file.
    pub(crate) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is a file, or a folder with files in it, at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.files.contains_key(path)
            || self.others.contains(path)
            || self.files.keys().any(|f| f.starts_with(&folder))
    }

    /// Every Rust file below `prefix`, taken apart.
    pub(crate) fn rust<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Source> {
        self.rust.values().filter(move |source| source.path.starts_with(prefix))
    }
}

/// Where the test-only modules that a file declares live: `crates/a/src/golden` for `golden.rs` and `golden/`.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let folder = ["/lib", "/main", "/mod"].iter().find_map(|root| stem.strip_suffix(root)).unwrap_or(stem);
    source.test_modules().map(|name| format!("{folder}/{name}")).collect()
}

/// Whether the path ends in `.extension`.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

fn walk(
    folder: &Path,
    prefix: &str,
    files: &mut Vec<(String, String)>,
    others: &mut BTreeSet<String>,
) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let skipped = SKIPPED.contains(&name.as_str())
                || (prefix.is_empty() && SKIPPED_AT_TOP.contains(&name.as_str()));
            if !skipped {
                walk(&entry.path(), &format!("{path}/"), files, others)?;
            }
        } else if kind.is_file() {
            // A file that vanished while we walked, or is not text, is nobody's source.
            let text = fs::read(entry.path()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            match text.filter(|text| !text.contains('\0')) {
                Some(text) => files.push((path, text)),
                None => drop(others.insert(path)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_exist_when_they_hold_files() {
        let tree = Tree::of([("docs/adr/0001.md", ""), ("crates/a/src/lib.rs", "//! A.\n")]);
        for (path, want) in
            [("docs", true), ("docs/adr/", true), ("docs/adr/0001.md", true), ("doc", false), ("", true)]
        {
            assert_eq!(tree.has(path), want, "{path}");
        }
        let tree = tree.beside(BTreeSet::from(["docs/a.png".to_owned()]));
        assert!(tree.has("docs/a.png") && tree.file("docs/a.png").is_none());
        assert!(tree.has("docs/adr/0001.md") && !tree.has("docs/b.png"));
        assert_eq!(tree.rust("crates/").count(), 1);
    }

    #[test]
    fn a_module_that_only_tests_declare_is_a_test() {
        let tree = Tree::of([
            ("crates/a/src/lib.rs", "//! A.\n#[cfg(test)]\nmod golden;\nmod goldens;\n"),
            ("crates/a/src/golden.rs", "//! G.\n"),
            ("crates/a/src/golden/cases.rs", "//! C.\n"),
            ("crates/a/src/goldens.rs", "//! S.\n"),
        ]);
        let product: Vec<&str> =
            tree.rust("").filter(|s| s.product_code().next().is_some()).map(|s| s.path.as_str()).collect();
        assert_eq!(product, ["crates/a/src/goldens.rs", "crates/a/src/lib.rs"]);
    }
}
