//! Rules: every error code that somebody can see has a page that says what happened and what to do.
//!
//! Codes of requests are the lines `Variant = "snake_code",` of the `codes!` table. Codes of runs and steps stand where
//! they are made: as the first literal of a refusal, or as a constant of a file named `failure.rs`.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::rust::Source;
use crate::tree::Tree;

const TABLE: &str = "crates/edge/src/code.rs";
const PAGES: &str = "docs/errors/";
const INDEX: &str = "docs/errors/README.md";

/// What comes before a code where one is made.
const MAKERS: &[&str] = &[
    "Denial::new(",
    "Failure::refused(",
    "Failure::transient(",
    "Failure::unknown(",
    "fail_run(",
    "fail_step(",
    "doubt(",
    "Refused { code:",
    "FailRun {",
];

/// Each code has its page, which opens with the code and is in the index; each page has its code.
pub(crate) fn documented(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let codes = codes(tree);
    let index = tree.file(INDEX).unwrap_or_default();
    for (code, (path, line)) in &codes {
        let page = format!("{PAGES}{code}.md");
        match tree.file(&page) {
            None => findings.push(Finding::new("errors", path, *line, format!("write {page}"))),
            Some(text) if !text.starts_with(&format!("# `{code}`\n")) => {
                findings.push(Finding::new("errors", &page, 1, format!("open with \"# `{code}`\"")));
            }
            Some(_) if !index.contains(&format!("({code}.md)")) => {
                findings.push(Finding::new("errors", INDEX, 0, format!("list {code}.md")));
            }
            Some(_) => {}
        }
    }
    for (path, _) in tree.files().filter(|(path, _)| *path != INDEX) {
        let page = path.strip_prefix(PAGES).and_then(|name| name.strip_suffix(".md"));
        if page.is_some_and(|code| !codes.contains_key(code) && !is_written(tree, code)) {
            findings.push(Finding::new("errors", path, 0, "no code of that name is left: remove the page"));
        }
    }
    findings
}

/// Every code that can be told from the text, with where it was seen first.
fn codes(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let mut codes = BTreeMap::new();
    for source in tree.rust("crates/") {
        let found = match source.path.as_str() {
            TABLE => listed(&source.text),
            path if path.ends_with("/failure.rs") => [constants(source), made(source)].concat(),
            _ => made(source),
        };
        for (line, code) in found {
            codes.entry(code).or_insert_with(|| (source.path.clone(), line));
        }
    }
    codes
}

/// The table's lines, from `codes! {` to the brace that closes it.
fn listed(table: &str) -> Vec<(usize, String)> {
    let lines = table.lines().enumerate();
    let body = lines.skip_while(|(_, line)| !line.starts_with("codes!")).take_while(|(_, line)| *line != "}");
    body.filter_map(|(index, line)| {
        let (variant, rest) = line.trim().split_once(" = ")?;
        let named = variant.chars().all(char::is_alphanumeric);
        Some((index + 1, rest.split('"').nth(1)?.to_owned())).filter(|_| named)
    })
    .collect()
}

/// `const NAME: &str = "code";`
fn constants(source: &Source) -> Vec<(usize, String)> {
    let declared =
        source.product_code().filter(|(_, code)| code.contains("const ") && code.contains(": &str ="));
    declared.filter_map(|(line, _)| Some((line, literal(source, line, "=")?))).collect()
}

/// The first literal behind a maker, when it is a code.
fn made(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, code) in source.product_code() {
        for maker in MAKERS.iter().filter(|maker| code.contains(**maker)) {
            found.extend(literal(source, line, maker).map(|code| (line, code)));
        }
    }
    found
}

/// The first string literal behind `mark` on that line or the two below it, within the statement.
fn literal(source: &Source, line: usize, mark: &str) -> Option<String> {
    let text: String = source.text.lines().skip(line - 1).take(3).collect::<Vec<_>>().join("\n");
    let (_, rest) = text.split_once(mark)?;
    let (before, rest) = rest.split_once('"')?;
    let (code, _) = rest.split_once('"')?;
    let snake = !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    // Past a closing parenthesis the literal is somebody else's.
    (snake && !before.contains([';', ')'])).then(|| code.to_owned())
}

/// Whether some literal of the product is this word: codes also come out of tables and matches.
fn is_written(tree: &Tree, code: &str) -> bool {
    tree.rust("crates/").any(|source| source.product_strings().any(|(_, text)| text == code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    const CODES: (&str, &str) = (
        "crates/edge/src/code.rs",
        "//! Codes.\nmacro_rules! codes { () => {} }\ncodes! {\n    /// Gone.\n    NotFound = \"not_found\",\n}\n",
    );
    const PAGE: (&str, &str) = ("docs/errors/not_found.md", "# `not_found`\n");
    const LIST: (&str, &str) = ("docs/errors/README.md", "- [`not_found`](not_found.md)\n");

    #[test]
    fn a_code_without_a_page_is_found() {
        assert_eq!(found(documented, &[CODES, LIST]), ["crates/edge/src/code.rs:5"]);
        assert!(found(documented, &[CODES, LIST, PAGE]).is_empty());
        assert_eq!(found(documented, &[CODES, PAGE]), ["docs/errors/README.md:0"]);
        let wrong = ("docs/errors/not_found.md", "# Oops\n");
        assert_eq!(found(documented, &[CODES, LIST, wrong]), ["docs/errors/not_found.md:1"]);
    }

    #[test]
    fn codes_are_found_where_they_are_made() {
        for made in [
            "return Err(Denial::new(\"too_much\", reason));",
            "Denial::new(\n    \"too_much\",\n    format!(\"x\"))",
            "self.fail_step(id, \"too_much\", message, Acted::No);",
            "Next::FailRun { code: \"too_much\".to_owned(), message }",
        ] {
            assert_eq!(found(documented, &[("crates/engine/src/a.rs", made)]).len(), 1, "{made}");
        }
        let constant = "pub(crate) const TOO_MUCH: &str = \"too_much\";";
        assert_eq!(found(documented, &[("crates/llm/src/failure.rs", constant)]).len(), 1);
        for other in [
            "self.fail_run(&code, format!(\"no such {thing}\"), None);",
            "Denial::new(code, why); f(\"x\");",
            "4 => Failure::refused(AUTH, m),\n5 => f(\"x\"),",
        ] {
            assert!(found(documented, &[("crates/engine/src/a.rs", other)]).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_page_without_a_code_is_found() {
        let old = ("docs/errors/old.md", "# `old`\n");
        assert_eq!(found(documented, &[CODES, LIST, PAGE, old]), ["docs/errors/old.md:0"]);
        let told = ("crates/policy/src/a.rs", "match p { A => \"old\" }");
        assert!(found(documented, &[CODES, LIST, PAGE, old, told]).is_empty());
    }
}
