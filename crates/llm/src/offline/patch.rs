//! Reads `git log -p` output and plain unified diffs: commits, files, lines added and removed, areas.
//!
//! Invariant: hunks are read by the line counts in their headers, so a changed line that looks like a header is not
//! one. Text cut off in the middle counts as far as it goes.

use std::collections::BTreeMap;

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) commits: Vec<Commit>,
    /// In order of first appearance.
    pub(super) areas: Vec<Area>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) author: String,
    pub(super) subject: String,
}

/// The part of the tree that belongs together: `crates/X`, else the first folder, else `.`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) name: String,
    /// In order of first appearance; one entry for each path.
    pub(super) files: Vec<File>,
    /// Indexes of the commits that touch it, ascending.
    pub(super) commits: Vec<usize>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl File {
    pub(super) fn churn(&self) -> u64 {
        self.added.saturating_add(self.removed)
    }
}

impl Area {
    pub(super) fn churn(&self) -> u64 {
        self.files.iter().map(File::churn).fold(0, u64::saturating_add)
    }
}

impl History {
    /// The history in `text`; `None` when no file changes in it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.end_file();
        (!reader.history.areas.is_empty()).then_some(reader.history)
    }

    /// Distinct authors, in order of first appearance.
    pub(super) fn authors(&self) -> Vec<&str> {
        let mut authors: Vec<&str> = Vec::new();
        for commit in &self.commits {
            if !commit.author.is_empty() && !authors.contains(&commit.author.as_str()) {
                authors.push(&commit.author);
            }
        }
        authors
    }
}

#[derive(Default)]
struct Reader {
    history: History,
    file: Option<File>,
    /// Lines of the old and new side that the current hunk still has.
    hunk: (u64, u64),
    /// Where each area and path is, by name: histories can be long.
    areas: BTreeMap<String, usize>,
    paths: BTreeMap<String, (usize, usize)>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if self.hunk != (0, 0) {
            return self.hunk_line(line);
        }
        if let Some(paths) = line.strip_prefix("diff --git ") {
            self.start_file(git_path(paths));
        } else if let Some(path) = line.strip_prefix("diff --cc ") {
            self.start_file(path);
        } else if let Some(path) = line.strip_prefix("--- ") {
            self.old_side(path);
        } else if let Some(path) = line.strip_prefix("+++ ") {
            self.new_side(path);
        } else if let Some(ranges) = line.strip_prefix("@@ ") {
            self.hunk = hunk_lengths(ranges).filter(|_| self.file.is_some()).unwrap_or_default();
        } else if let Some(id) = line.strip_prefix("commit ") {
            self.start_commit(id);
        } else if let Some(commit) = self.history.commits.last_mut().filter(|_| self.file.is_none()) {
            commit_line(commit, line);
        }
    }

    fn hunk_line(&mut self, line: &str) {
        let (old, new) = &mut self.hunk;
        let file = self.file.get_or_insert_default();
        match line.as_bytes().first() {
            Some(b'+') => {
                file.added += 1;
                *new = new.saturating_sub(1);
            }
            Some(b'-') => {
                file.removed += 1;
                *old = old.saturating_sub(1);
            }
            Some(b'\\') => {}
            // Some mailers strip the space of an empty context line.
            _ => {
                *old = old.saturating_sub(1);
                *new = new.saturating_sub(1);
            }
        }
    }

    fn start_commit(&mut self, id: &str) {
        let hash = id.split_whitespace().next().unwrap_or_default();
        if hash.len() >= 7 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            self.end_file();
            self.history.commits.push(Commit::default());
        }
    }

    fn start_file(&mut self, path: &str) {
        self.end_file();
        self.file = Some(File { path: clean(path), ..File::default() });
    }

    /// In a diff without `diff --git` lines this is where a file begins.
    fn old_side(&mut self, path: &str) {
        let path = clean(path);
        match &self.file {
            Some(file) if file.churn() == 0 => {}
            _ if path.is_empty() => {}
            _ => self.start_file(&path),
        }
    }

    /// The new name wins, so that a renamed file is found where it is now.
    fn new_side(&mut self, path: &str) {
        let path = clean(path);
        if let Some(file) = self.file.as_mut().filter(|_| path != "/dev/null" && !path.is_empty()) {
            file.path = path;
        }
    }

    fn end_file(&mut self) {
        let Some(file) = self.file.take() else { return };
        if file.path.is_empty() || file.path == "/dev/null" {
            return;
        }
        let name = area_of(&file.path);
        let areas = &mut self.history.areas;
        let at = *self.areas.entry(name.clone()).or_insert(areas.len());
        if at == areas.len() {
            areas.push(Area { name, ..Area::default() });
        }
        let Some(area) = areas.get_mut(at) else { return };
        if let Some(commit) = self.history.commits.len().checked_sub(1)
            && area.commits.last() != Some(&commit)
        {
            area.commits.push(commit);
        }
        let (_, place) = *self.paths.entry(file.path.clone()).or_insert((at, area.files.len()));
        match area.files.get_mut(place) {
            Some(known) => {
                known.added += file.added;
                known.removed += file.removed;
            }
            None => area.files.push(file),
        }
    }
}

/// Between a commit's first line and its first file: the author, and the subject as the first indented line.
fn commit_line(commit: &mut Commit, line: &str) {
    if let Some(author) = line.strip_prefix("Author:") {
        author.split('<').next().unwrap_or_default().trim().clone_into(&mut commit.author);
    } else if let Some(message) = line.strip_prefix("    ")
        && commit.subject.is_empty()
    {
        message.trim().clone_into(&mut commit.subject);
    }
}

/// The second path of `a/X b/X`, its `b/` included. Git quotes paths with odd characters and leaves spaces alone;
/// where that is ambiguous the `+++` line settles it.
fn git_path(paths: &str) -> &str {
    let at = paths.rfind(" b/").or_else(|| paths.rfind(" \"b/"));
    at.and_then(|at| paths.get(at + 1..)).unwrap_or_default()
}

/// A path without quotes, without the `a/` or `b/` in front and the time stamp behind.
fn clean(path: &str) -> String {
    let path = path.split('\t').next().unwrap_or_default().trim().trim_matches('"');
    let path = path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path);
    path.to_owned()
}

/// The lengths in `-12,3 +12,4 @@ fn x()`; a length that is left out is 1.
fn hunk_lengths(ranges: &str) -> Option<(u64, u64)> {
    let mut sides = ranges.split_whitespace();
    let length = |side: &str, sign: char| {
        let (_, length) = side.strip_prefix(sign)?.split_once(',').unwrap_or(("", "1"));
        length.parse().ok()
    };
    Some((length(sides.next()?, '-')?, length(sides.next()?, '+')?))
}

fn area_of(path: &str) -> String {
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("crates"), Some(name), Some(_)) => format!("crates/{name}"),
        (Some(folder), Some(_), _) => folder.to_owned(),
        _ => ".".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
Please digest this:
commit 1111111aaaa (HEAD -> main)
Author: Ada Lovelace <ada@example.com>
Date:   Mon Nov 2 10:00:00 2026 +0000

    engine: absorb duplicates

    diff --git a/not b/a-file

diff --git a/crates/engine/src/fold.rs b/crates/engine/src/fold.rs
index 1..2 100644
--- a/crates/engine/src/fold.rs
+++ b/crates/engine/src/fold.rs
@@ -1,3 +1,4 @@ fn fold
 same
--- removed line that looks like a header
+++ added line that looks like a header
+commit 2222222
 same
@@ -9 +9,0 @@
-gone
\\ No newline at end of file
diff --git a/README.md b/README.md
new file mode 100644
--- /dev/null
+++ b/README.md
@@ -0,0 +1,2 @@
+one
+two
commit 3333333bbbb
Author: Grace Hopper <grace@example.com>

    Drop the old reader

diff --git a/docs/old.md b/docs/old.md
deleted file mode 100644
--- a/docs/old.md
+++ /dev/null
@@ -1,2 +0,0 @@
-one
-two
diff --git a/logo.png b/assets/logo.png
similarity index 100%
rename from logo.png
rename to assets/logo.png
diff --git a/b/my logo.png b/b/my logo.png
Binary files a/b/my logo.png and b/b/my logo.png differ
diff --git a/crates/engine/src/fold.rs b/crates/engine/src/fold.rs
--- a/crates/engine/src/fold.rs
+++ b/crates/engine/src/fold.rs
@@ -1,1 +1,2 @@
 same
+cut off here";

    #[test]
    fn a_log_with_patches() {
        let history = History::read(LOG).unwrap();
        assert_eq!(history.authors(), ["Ada Lovelace", "Grace Hopper"]);
        let subjects: Vec<&str> = history.commits.iter().map(|c| c.subject.as_str()).collect();
        assert_eq!(subjects, ["engine: absorb duplicates", "Drop the old reader"]);
        let areas: Vec<(&str, u64, &[usize])> =
            history.areas.iter().map(|a| (a.name.as_str(), a.churn(), a.commits.as_slice())).collect();
        assert_eq!(
            areas,
            [
                ("crates/engine", 5, &[0, 1][..]),
                (".", 2, &[0][..]),
                ("docs", 2, &[1][..]),
                ("assets", 0, &[1][..]),
                ("b", 0, &[1][..])
            ]
        );
        let fold = &history.areas[0].files;
        assert_eq!(fold.len(), 1);
        assert_eq!((fold[0].added, fold[0].removed), (3, 2));
        assert_eq!(history.areas[2].files[0].path, "docs/old.md");
    }

    #[test]
    fn a_plain_diff() {
        let text = "--- src/a.c\t2026-01-01\n+++ src/a.c\t2026-01-02\n@@ -1 +1 @@\n-x\n+y\n\
                    --- b.c\n+++ b.c\n@@ -1,0 +2 @@\n+z\n";
        let history = History::read(text).unwrap();
        assert!(history.commits.is_empty());
        let areas: Vec<(&str, u64)> = history.areas.iter().map(|a| (a.name.as_str(), a.churn())).collect();
        assert_eq!(areas, [("src", 2), (".", 1)]);
    }

    #[test]
    fn other_text_is_no_history() {
        for text in
            ["", "hello", "commit 1234567\n\n    only a subject", "@@ -1 +1 @@\n-a\n+b", "--- \n+++ \n"]
        {
            assert_eq!(History::read(text), None, "{text}");
        }
    }

    #[test]
    fn areas_of_paths() {
        for (path, want) in [
            ("README.md", "."),
            ("docs/a/b.md", "docs"),
            ("crates/net/src/lib.rs", "crates/net"),
            ("crates/README.md", "crates"),
        ] {
            assert_eq!(area_of(path), want);
        }
    }
}
