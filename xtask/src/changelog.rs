//! `cargo xtask changelog VERSION`: folds the fragments of `changelog.d/` into `CHANGELOG.md`.
//!
//! A fragment is one file for one change, so that two authors never touch the same line. Its first line is the kind
//! (`added`, `changed`, `fixed`, `security`, `breaking`), the rest says what the change means for the reader.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::finding::Finding;
use crate::tree::Tree;

const FOLDER: &str = "changelog.d/";
const FILE: &str = "CHANGELOG.md";
/// New versions go below this line.
const MARK: &str = "<!-- versions -->\n";
/// In the order in which a reader wants to know.
const KINDS: &[(&str, &str)] = &[
    ("breaking", "Breaking"),
    ("security", "Security"),
    ("added", "Added"),
    ("changed", "Changed"),
    ("fixed", "Fixed"),
];

/// Writes the changelog and removes the fragments. Fails, having written nothing, when a fragment cannot be read.
pub(crate) fn run(root: &Path, version: &str) -> Result<String> {
    let tree = Tree::read(root)?;
    let fragments: Vec<(&str, &str)> = stored(&tree).collect();
    if fragments.is_empty() {
        bail!("{FOLDER} has no fragments");
    }
    let folded = fold(tree.file(FILE).unwrap_or_default(), version, &fragments)?;
    fs::write(root.join(FILE), folded).with_context(|| format!("cannot write {FILE}"))?;
    for (path, _) in &fragments {
        fs::remove_file(root.join(path)).with_context(|| format!("cannot remove {path}"))?;
    }
    Ok(format!("changelog: {} fragments are now version {version}", fragments.len()))
}

/// The changelog with a section for `version` made of the fragments.
fn fold(changelog: &str, version: &str, fragments: &[(&str, &str)]) -> Result<String> {
    let Some((head, tail)) = changelog.split_once(MARK) else { bail!("{FILE} has no line {MARK:?}") };
    if tail.contains(&format!("## {version}\n")) {
        bail!("{FILE} already has version {version}");
    }
    let mut read = Vec::new();
    for (path, text) in fragments {
        read.push(
            fragment(text).with_context(|| format!("{path}: want a kind on the first line, then text"))?,
        );
    }
    let mut section = format!("\n## {version}\n");
    for (kind, title) in KINDS {
        let entries: Vec<String> =
            read.iter().filter(|(found, _)| found == kind).map(|(_, text)| item(text)).collect();
        if !entries.is_empty() {
            section.extend(["\n### ", title, "\n\n", &entries.join("\n"), "\n"]);
        }
    }
    Ok(format!("{head}{MARK}{section}{tail}"))
}

fn stored(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.files().filter(|(path, _)| path.starts_with(FOLDER) && *path != "changelog.d/README.md")
}

/// A fragment's kind and text.
fn fragment(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.trim().split_once('\n')?;
    let known = KINDS.iter().any(|(known, _)| *known == kind);
    (known && !rest.trim().is_empty()).then(|| (kind, rest.trim()))
}

/// A fragment that cannot be folded is found when it is written, and not at the release.
pub(crate) fn fragments(tree: &Tree) -> Vec<Finding> {
    let spoilt = stored(tree).filter(|(_, text)| fragment(text).is_none());
    let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let message = format!("want one of {} on the first line, then text", kinds.join(", "));
    spoilt.map(|(path, _)| Finding::new("fragments", path, 1, message.clone())).collect()
}

/// A list item whose further lines are indented below the first.
fn item(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    format!("- {}", lines.join("\n  ").replace("\n  \n", "\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "# Changelog\n\n<!-- versions -->\n";

    #[test]
    fn fragments_become_a_version() {
        let fragments = [("changelog.d/b.md", "fixed\nB is\nmended.\n"), ("changelog.d/a.md", "added\nA.\n")];
        let once = fold(EMPTY, "0.1.0", &fragments).unwrap();
        assert_eq!(
            once,
            format!("{EMPTY}\n## 0.1.0\n\n### Added\n\n- A.\n\n### Fixed\n\n- B is\n  mended.\n")
        );
        let twice = fold(&once, "0.2.0", &[("changelog.d/c.md", "breaking\nC.\n")]).unwrap();
        let at = |text: &str| twice.find(text).unwrap();
        assert!(at("## 0.2.0") < at("### Breaking") && at("### Breaking") < at("## 0.1.0"));
        assert!(fold(&once, "0.1.0", &fragments).is_err());
        assert!(super::fragments(&Tree::of(fragments)).is_empty());
    }

    #[test]
    fn a_fragment_that_says_nothing_is_refused() {
        for text in ["", "added", "added\n", "improved\nA.\n", "Added\nA.\n"] {
            assert!(fold(EMPTY, "0.1.0", &[("changelog.d/a.md", text)]).is_err(), "{text:?}");
            assert_eq!(fragments(&Tree::of([("changelog.d/a.md", text)])).len(), 1, "{text:?}");
        }
    }
}
