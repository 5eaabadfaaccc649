//! Rules about text files of every kind: how they end, and that they name nobody's machine.

use crate::finding::Finding;
use crate::tree::{Tree, has_extension};

/// Files whose bytes are the point: recorded wires, patches and generated locks.
fn verbatim(path: &str) -> bool {
    path.contains("/tests/golden/")
        || path.contains("/tests/histories/")
        || has_extension(path, "patch")
        || path == "Cargo.lock"
}

/// Text ends with one newline; lines end without spaces and without carriage returns.
pub(crate) fn whitespace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !verbatim(path)) {
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(Finding::new("whitespace", path, index + 1, "trailing space"));
            }
        }
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            let last = text.lines().count();
            findings.push(Finding::new("whitespace", path, last, "end the file with one newline"));
        }
    }
    findings
}

/// No file names a folder of one person's machine or of one build server.
pub(crate) fn local_paths(tree: &Tree) -> Vec<Finding> {
    // Put together here so that this file does not find itself.
    let local = ["home", "Users", "root", "work", "tmp/brief"].map(|folder| format!("/{folder}"));
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (index, line) in text.lines().enumerate() {
            for folder in local.iter().filter(|folder| starts_a_path(line, folder)) {
                let message = format!("`{folder}` is somebody's machine; use a relative path");
                findings.push(Finding::new("local-paths", path, index + 1, message));
            }
        }
    }
    findings
}

/// Whether an absolute path that begins with `folder` stands in `line`.
fn starts_a_path(line: &str, folder: &str) -> bool {
    let inner =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | ')' | '>' | ']' | '*' | '~');
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let after = line.get(at + folder.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(inner) && matches!(after, Some('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    #[test]
    fn untidy_ends_are_found() {
        for (text, count) in
            [("a\n", 0), ("", 0), ("a", 1), ("a\n\n", 1), ("a \nb\t\n", 2), ("a\r\n", 1), ("a\n\nb\n", 0)]
        {
            assert_eq!(found(whitespace, &[("docs/a.md", text)]).len(), count, "{text:?}");
        }
        assert!(found(whitespace, &[("crates/llm/tests/golden/a.sse", "data: x \r\n\r\n")]).is_empty());
    }

    #[test]
    fn somebodys_folder_is_found() {
        for (line, count) in [
            (format!("see /{}/ada/notes", "home"), 1),
            (format!("cd \"/{}/x\"", "work"), 1),
            (format!("a/{}/b", "work"), 0),
            (format!("crates/{}er/src", "work"), 0),
            (format!("${{DIR}}/{}/x", "work"), 0),
            (format!("https://x.org/{}/y", "home"), 0),
            (format!("/{}.md", "home"), 0),
        ] {
            assert_eq!(found(local_paths, &[("docs/a.md", &line)]).len(), count, "{line}");
        }
    }
}
