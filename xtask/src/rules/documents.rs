//! Rules about Markdown: links lead somewhere, and the README claims only what a test shows.

use crate::finding::Finding;
use crate::tree::{Tree, has_extension};

/// One `[text](target)` of a document.
struct Link<'a> {
    line: usize,
    text: &'a str,
    target: &'a str,
}

/// Every relative link leads to a file or folder of the repository, and to a heading if it names one.
pub(crate) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| has_extension(path, "md")) {
        for link in links_of(text).into_iter().filter(|link| !is_remote(link.target)) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((link.target, ""));
            let wanted = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
            let message = match wanted {
                None => Some("leads out of the repository".to_owned()),
                Some(file) if !tree.has(&file) => Some(format!("there is no {file}")),
                Some(file) => missing_heading(tree, &file, anchor),
            };
            findings.extend(message.map(|message| Finding::new("links", path, link.line, message)));
        }
    }
    findings
}

/// A README table row that says "works" links to a test by its name: `[name](file)` with `fn name` in that file.
pub(crate) fn claims(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, row) in tree.file("README.md").unwrap_or_default().lines().enumerate() {
        let claimed = row.starts_with('|') && row.split('|').any(|cell| cell.trim().starts_with("works"));
        let links = links_of(row);
        let mut tests = links.iter().filter(|link| has_extension(link.target, "rs")).peekable();
        let some = tests.peek().is_some();
        let shown = tests.all(|link| {
            let name = link.text.trim_matches('`').rsplit("::").next().unwrap_or_default();
            tree.file(link.target).is_some_and(|code| has_test(code, name))
        });
        if claimed && !(some && shown) {
            let message = "\"works\" wants a link to the test that shows it: [`test_name`](path/of/file.rs)";
            findings.push(Finding::new("claims", "README.md", index + 1, message));
        }
    }
    findings
}

/// Whether there is a test of this name: a function, or a name that a macro makes one of.
fn has_test(code: &str, name: &str) -> bool {
    let listed = || code.lines().any(|line| line.trim_start().starts_with(&format!("{name}: ")));
    code.contains(&format!("fn {name}(")) || code.contains(&format!("db_test!({name},")) || listed()
}

fn is_remote(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// The path that `target` means in a document at `path`; `None` when it climbs out.
fn resolve(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn missing_heading(tree: &Tree, file: &str, anchor: &str) -> Option<String> {
    if anchor.is_empty() || !has_extension(file, "md") {
        return None;
    }
    let known = prose(tree.file(file)?).any(|(_, line)| line.starts_with('#') && slug(line) == anchor);
    (!known).then(|| format!("{file} has no heading #{anchor}"))
}

/// A heading's anchor, as the forges make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines outside fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn links_of(text: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        for (at, _) in text.match_indices("](") {
            let target =
                text.get(at + 2..).and_then(|rest| rest.split([')', ' ']).next()).unwrap_or_default();
            let label = text.get(..at).and_then(|head| head.rsplit('[').next()).unwrap_or_default();
            // `[a](b)` inside backticks is an example, not a link.
            let quoted = text.get(..at).unwrap_or_default().matches('`').count() % 2 == 1;
            if !quoted {
                found.push(Link { line, text: label, target });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    #[test]
    fn a_dead_link_is_found() {
        let target = ("docs/adr/0001-a.md", "# Why: a `b`\n");
        for (link, count) in [
            ("[x](adr/0001-a.md)", 0),
            ("[x](adr/0001-a.md#why-a-b)", 0),
            ("[x](adr/0001-a.md#how)", 1),
            ("[x](adr/)", 0),
            ("[x](./adr/../adr/0001-a.md \"title\")", 0),
            ("[x](0001-a.md)", 1),
            ("[x](../../etc/passwd)", 1),
            ("[x](https://example.org/nothing)", 0),
            ("`[x](nowhere.md)`", 0),
            ("```\n[x](nowhere.md)\n```", 0),
            ("[x](a.md) and [y](gone.md)", 1),
        ] {
            assert_eq!(found(links, &[target, ("docs/a.md", link)]).len(), count, "{link}");
        }
    }

    #[test]
    fn a_claim_without_its_test_is_found() {
        let test = ("crates/a/tests/it/main.rs", "#[test]\nfn runs_survive() {}\n");
        for (row, count) in [
            ("| Engine | works: [`runs_survive`](crates/a/tests/it/main.rs) |", 0),
            ("| Engine | works: [`runs_shine`](crates/a/tests/it/main.rs) |", 1),
            (
                "| Engine | works: [`runs_survive`](crates/a/tests/it/main.rs), [`runs_shine`](crates/a/tests/it/main.rs) |",
                1,
            ),
            ("| Engine | works: [guide](docs/guide.md) |", 1),
            ("| Engine | works |", 1),
            ("| Engine | not begun |", 0),
            ("It works.", 0),
        ] {
            assert_eq!(found(claims, &[test, ("README.md", row)]).len(), count, "{row}");
        }
    }
}
