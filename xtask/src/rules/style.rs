//! Rules about how a file reads: its header, its size, what its tests may not do.

use crate::finding::Finding;
use crate::rust::has_word;
use crate::tree::{Tree, has_extension};

/// The longest a file should get, tests left out. A longer one wants to be two.
const LINES_MAX: usize = 600;

/// Every Rust file opens with `//!`: what it is, what it keeps true, what it does not do.
pub(crate) fn headers(tree: &Tree) -> Vec<Finding> {
    let bare = tree.rust("").filter(|source| !source.text.starts_with("//!"));
    bare.map(|source| Finding::new("headers", &source.path, 1, "open with `//!`: what this file is"))
        .collect()
}

/// A file has at most 600 lines, tests left out.
pub(crate) fn length(tree: &Tree) -> Vec<Finding> {
    let long = tree.rust("").filter(|source| source.product_lines() > LINES_MAX);
    long.map(|source| {
        let lines = source.product_lines();
        let message = format!("{lines} lines without tests; split it below {LINES_MAX}");
        Finding { weight: lines, ..Finding::new("length", &source.path, 0, message) }
    })
    .collect()
}

/// A silenced lint says why, and says so when it is no longer needed.
pub(crate) fn allows(tree: &Tree) -> Vec<Finding> {
    find_code(tree, "allows", &["#[allow(", "#![allow("], "use `#[expect(lint, reason = \"…\")]`")
}

/// A test runs or does not exist.
pub(crate) fn ignored_tests(tree: &Tree) -> Vec<Finding> {
    find_code(tree, "ignored-tests", &["#[ignore"], "mend the test or delete it")
}

/// Tests wait for what they wait for, never for time to pass. The `sleep` of a test's clock is what others wait for.
pub(crate) fn sleeping_tests(tree: &Tree) -> Vec<Finding> {
    let sleeps = |code: &str| ["thread::sleep", "tokio::time::sleep"].iter().any(|word| has_word(code, word));
    let mut findings = Vec::new();
    for source in tree.rust("") {
        let mut above = "";
        for (line, code) in source.test_code() {
            if sleeps(code) && !above.contains("fn sleep(") {
                let message = "wait for the event itself, or use a paused clock";
                findings.push(Finding::new("sleeping-tests", &source.path, line, message));
            }
            above = code;
        }
    }
    findings
}

/// A note for later names the issue in which it will be done.
pub(crate) fn todos(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unnumbered = |text: &str| {
        let marked = ["TODO", "FIXME", "XXX", "HACK"].iter().any(|mark| has_word(text, mark));
        marked && !text.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut note = |path: &str, line: usize| {
        findings.push(Finding::new("todos", path, line, "name the issue (`#12`) or do it now"));
    };
    for source in tree.rust("") {
        source.comments().filter(|(_, text)| unnumbered(text)).for_each(|(line, _)| note(&source.path, line));
    }
    let others = |path: &str| {
        path == "Makefile" || path == ".ci/run" || has_extension(path, "sql") || has_extension(path, "sh")
    };
    for (path, text) in tree.files().filter(|(path, _)| others(path)) {
        let lines = text.lines().enumerate().filter(|(_, line)| unnumbered(line));
        lines.for_each(|(index, _)| note(path, index + 1));
    }
    findings
}

/// A `select!` says in which order it looks, since the simulator must find the same order again.
pub(crate) fn selects(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust("crates/") {
        let mut lines = source.all_code().filter(|(_, code)| !code.trim().is_empty()).peekable();
        while let Some((line, code)) = lines.next() {
            let Some((_, rest)) = code.split_once("select! {") else { continue };
            let first =
                if rest.trim().is_empty() { lines.peek().map_or("", |(_, next)| *next) } else { rest };
            if !first.trim().starts_with("biased;") {
                findings.push(Finding::new("selects", &source.path, line, "begin with `biased;`"));
            }
        }
    }
    findings
}

/// The integration tests of a crate are one program: `tests/it/main.rs`. Linking each file on its own costs minutes.
pub(crate) fn test_programs(tree: &Tree) -> Vec<Finding> {
    let programs = tree.rust("crates/").filter(|source| {
        matches!(source.path.split('/').collect::<Vec<_>>().as_slice(), ["crates", _, "tests", _])
    });
    programs
        .map(|s| Finding::new("test-programs", &s.path, 0, "make it a module of tests/it/main.rs"))
        .collect()
}

/// Examples in comments are text: compiled ones cost a program each and are not run by `make test`.
pub(crate) fn doc_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust("crates/") {
        let mut open = false;
        for (line, text) in source.comments() {
            let Some(language) = text.trim_start_matches(['/', '!', '*', ' ']).strip_prefix("```") else {
                continue;
            };
            let plain = ["text", "json", "sql", "toml", "sh"].iter().any(|known| language.trim() == *known);
            if !open && !plain {
                findings.push(Finding::new(
                    "doc-tests",
                    &source.path,
                    line,
                    "say what it is: ```text, ```json, …",
                ));
            }
            open = !open;
        }
    }
    findings
}

fn find_code(tree: &Tree, rule: &'static str, words: &[&str], instead: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust("") {
        for (line, _) in source.all_code().filter(|(_, code)| words.iter().any(|word| code.contains(word))) {
            findings.push(Finding::new(rule, &source.path, line, instead));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    fn in_file(rule: fn(&Tree) -> Vec<Finding>, text: &str) -> usize {
        found(rule, &[("crates/a/src/a.rs", text)]).len()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(in_file(headers, "use a;\n"), 1);
        assert_eq!(in_file(headers, "//! A.\nuse a;\n"), 0);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let long = "a();\n".repeat(601);
        assert_eq!(in_file(length, &long), 1);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "a();\n".repeat(600));
        assert_eq!(in_file(length, &tested), 0);
    }

    #[test]
    fn silenced_lints_and_tests_are_found() {
        assert_eq!(in_file(allows, "#[allow(dead_code)]\nfn a() {}\n"), 1);
        assert_eq!(in_file(allows, "#![allow(dead_code)]\n"), 1);
        assert_eq!(in_file(allows, "#[expect(dead_code, reason = \"#[allow(x)]\")]\n"), 0);
        assert_eq!(in_file(ignored_tests, "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"), 1);
    }

    #[test]
    fn a_sleeping_test_is_found() {
        let sleep = "std::thread::sleep(d);";
        assert_eq!(
            in_file(sleeping_tests, &format!("#[cfg(test)]\nmod tests {{ fn a() {{ {sleep} }} }}\n")),
            1
        );
        assert_eq!(in_file(sleeping_tests, sleep), 0);
        let clock = format!("fn sleep(&self, d: Dur) {{\n{sleep}\n}}\n");
        assert_eq!(found(sleeping_tests, &[("crates/a/tests/it/clock.rs", &clock)]).len(), 0);
        assert_eq!(found(sleeping_tests, &[("crates/a/tests/it/main.rs", sleep)]).len(), 1);
    }

    #[test]
    fn an_unordered_select_is_found() {
        assert_eq!(in_file(selects, "tokio::select! {\n    a = b => {}\n}\n"), 1);
        assert_eq!(in_file(selects, "select! { a = b => {} }\n"), 1);
        assert_eq!(
            in_file(selects, "select! {\n    // The stop comes first.\n    biased;\n    a = b => {}\n}\n"),
            0
        );
    }

    #[test]
    fn a_second_test_program_is_found() {
        assert_eq!(found(test_programs, &[("crates/a/tests/more.rs", "")]).len(), 1);
        assert!(found(test_programs, &[("crates/a/tests/it/main.rs", "")]).is_empty());
    }

    #[test]
    fn an_example_that_would_be_compiled_is_found() {
        assert_eq!(in_file(doc_tests, "/// ```\n/// let a = 1;\n/// ```\n"), 1);
        assert_eq!(in_file(doc_tests, "//! ```rust,no_run\n//! ```\n"), 1);
        assert_eq!(in_file(doc_tests, "//! ```text\n//! a -> b\n//! ```\n"), 0);
    }

    #[test]
    fn a_note_without_an_issue_is_found() {
        assert_eq!(in_file(todos, "// TODO: later\n"), 1);
        assert_eq!(in_file(todos, "// TODO(#12): later\n"), 0);
        assert_eq!(in_file(todos, "let s = \"TODO\";\n"), 0);
        assert_eq!(found(todos, &[("Makefile", "# FIXME\n")]).len(), 1);
    }
}
