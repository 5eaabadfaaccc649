//! Rule: vendors are named only where their quirks live.
//!
//! A vendor's name in the engine, the worker or a handler is the start of a special case there. Comments count: what
//! needs a vendor to be explained belongs in the vendor's folder.

use crate::finding::Finding;
use crate::golden;
use crate::tree::Tree;

const VENDORS: &[&str] = &[
    "openai",
    "anthropic",
    "claude",
    "ollama",
    "gemini",
    "mistral",
    "bedrock",
    "vllm",
    "llamacpp",
    "slack",
    "telegram",
    "discord",
    "whatsapp",
    "imessage",
    "twilio",
];

/// Those that are English words.
const WORDS: &[&str] = &["slack", "discord"];

/// Folders in which vendors may be named, wherever tests already may.
const FOLDERS: &[&str] = &["crates/llm/src/vendor/", "crates/llm/src/convert/", "crates/llm/src/types/"];

/// Further files, each with its reason: environment names, configuration of a first provider.
const LIST: &str = "golden/vendor-names.txt";

/// A vendor is named only in its folder, in tests, in data, or in a listed file.
pub(crate) fn vendors(tree: &Tree) -> Vec<Finding> {
    let listed = golden::entries(tree, LIST);
    let mut findings = Vec::new();
    let mut naming = Vec::new();
    for source in tree.rust("crates/") {
        if FOLDERS.iter().any(|folder| in_folder(&source.path, folder)) {
            continue;
        }
        let product = source.text.lines().enumerate().filter(|(index, _)| !source.is_test(index + 1));
        let named: Vec<_> = product.filter_map(|(index, line)| Some((index + 1, vendor(line)?))).collect();
        if named.is_empty() {
            continue;
        }
        naming.push(source.path.as_str());
        if !listed.iter().any(|(_, path)| *path == source.path) {
            findings.extend(named.into_iter().map(|(line, name)| {
                let message = format!("`{name}` is named outside its vendor's folder; see {LIST}");
                Finding::new("vendors", &source.path, line, message)
            }));
        }
    }
    let gone = listed.iter().filter(|(_, path)| !naming.contains(path));
    findings.extend(gone.map(|(line, path)| {
        Finding::new("vendors", LIST, *line, format!("{path} names no vendor any more: remove the line"))
    }));
    findings
}

/// `crates/llm/src/vendor/` holds its files and is declared in `crates/llm/src/vendor.rs`.
fn in_folder(path: &str, folder: &str) -> bool {
    path.starts_with(folder) || path.strip_suffix(".rs") == Some(folder.trim_end_matches('/'))
}

/// The vendor that a line names, in any case, also as part of `OPENAI_API_KEY`. A vendor whose name is also a word is
/// recognised by its capital, its quotes or its path.
fn vendor(line: &str) -> Option<&'static str> {
    let mut words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.find_map(|word| {
        let named = VENDORS.iter().copied().find(|vendor| word.eq_ignore_ascii_case(vendor))?;
        let plain = WORDS.contains(&word)
            && !line.contains(&format!("{word}::"))
            && !line.contains(&format!("\"{word}"))
            && !line.contains(&format!("mod {word}"));
        (!plain).then_some(named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    #[test]
    fn a_vendor_outside_its_folder_is_found() {
        for planted in [
            "if p == \"openai\" {}",
            "const K: &str = \"OPENAI_API_KEY\";",
            "// what Slack wants",
            "mod slack;",
            "f(\"slack\")",
        ] {
            assert_eq!(found(vendors, &[("crates/worker/src/a.rs", planted)]).len(), 1, "{planted}");
            assert!(found(vendors, &[("crates/llm/src/vendor/openai.rs", planted)]).is_empty(), "{planted}");
            assert!(found(vendors, &[("crates/worker/tests/it/a.rs", planted)]).is_empty(), "{planted}");
        }
        for fine in ["let slacker = 1;", "let slack = burst * every;"] {
            assert!(found(vendors, &[("crates/worker/src/a.rs", fine)]).is_empty(), "{fine}");
        }
    }

    #[test]
    fn the_list_shrinks_with_the_code() {
        let list = ("golden/vendor-names.txt", "crates/lantern/src/env.rs # names\n");
        assert!(found(vendors, &[list, ("crates/lantern/src/env.rs", "\"OPENAI_API_KEY\"")]).is_empty());
        assert_eq!(found(vendors, &[list, ("crates/lantern/src/env.rs", "")]), ["golden/vendor-names.txt:1"]);
    }
}
