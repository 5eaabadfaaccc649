//! The number of the rules in `crates/policy` goes up with every change of what they decide.
//!
//! A journal names the rules that decided by the digest of that number, so rules that changed under the same number would be
//! derived again as what they are not. `golden/policy-rules.txt` has the newest number and a checksum of the code that decides: the
//! comments, the tests and the layout of a file are no part of it.

use crate::finding::Finding;
use crate::golden;
use crate::tree::Tree;

const LIST: &str = "golden/policy-rules.txt";
const NUMBER: &str = "crates/policy/src/lib.rs";
/// The files that decide what a step may do, where a model call goes, and what is held for it.
const DECIDING: &[&str] = &[
    "admit.rs",
    "alias.rs",
    "breaker.rs",
    "catalogue.rs",
    "child.rs",
    "choice.rs",
    "escrow.rs",
    "route.rs",
    "strategy.rs",
    "turns.rs",
];

/// Whether the newest line of the list is of the code as it is.
pub(crate) fn numbered(tree: &Tree) -> Vec<Finding> {
    let Some((line, number)) = number(tree) else { return Vec::new() };
    let now = format!("{number} {:016x}", checksum(tree));
    let lines = golden::entries(tree, LIST);
    let numbers: Vec<Option<u32>> = lines.iter().map(|(_, entry)| of(entry)).collect();
    if !numbers.is_sorted_by(|one, next| one < next) {
        return vec![Finding::new(
            "decisions",
            LIST,
            1,
            "each line has a higher number than the one before".to_owned(),
        )];
    }
    match lines.last() {
        Some((_, last)) if *last == now => Vec::new(),
        Some((_, last)) if of(last) == Some(number) => {
            let message = format!(
                "what crates/policy decides has changed and its number is still {number}: raise RULES to {}, say in `known` what \
                 holds of number {number}, and add to {LIST} the line that the next run tells. Where only words changed that decide \
                 nothing, write `{now}` for its last line",
                number + 1
            );
            vec![Finding::new("decisions", NUMBER, line, message)]
        }
        _ => vec![Finding::new("decisions", NUMBER, line, format!("add the line `{now}` to {LIST}"))],
    }
}

/// The number, and the line that it is on.
fn number(tree: &Tree) -> Option<(usize, u32)> {
    let source = tree.rust(NUMBER).next()?;
    let said = |(line, code): (usize, &str)| {
        let number = code.trim().strip_prefix("pub const RULES: u32 = ")?.strip_suffix(';')?;
        Some((line, number.parse().ok()?))
    };
    source.product_code().find_map(said)
}

fn of(entry: &str) -> Option<u32> {
    entry.split_whitespace().next()?.parse().ok()
}

/// FNV-1a over the names, the code and the strings of the files. Nobody needs to be kept from making two alike.
fn checksum(tree: &Tree) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for name in DECIDING {
        let path = format!("crates/policy/src/{name}");
        let Some(source) = tree.rust(&path).next() else { continue };
        add(name);
        source.product_code().flat_map(|(_, code)| code.split_whitespace()).for_each(&mut add);
        source.product_strings().for_each(|(_, text)| add(text));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_changes_wants_another_number() {
        let lib = |number: u32| format!("pub const RULES: u32 = {number};\n");
        let rule = "//! Head.\npub fn may(cost: u64) -> bool {\n    cost < 7 // seven\n}\n#[cfg(test)]\nmod tests {\n}\n";
        let findings = |number, rule: &str, list: &str| {
            let lib = lib(number);
            let files = [(NUMBER, lib.as_str()), ("crates/policy/src/admit.rs", rule), (LIST, list)];
            numbered(&Tree::of(files)).into_iter().map(|finding| finding.message).collect::<Vec<String>>()
        };
        let told = findings(4, rule, "3 0123456789abcdef\n");
        assert_eq!(told.len(), 1, "{told:?}");
        let line = told[0].split('`').nth(1).unwrap().to_owned();
        assert!(line.starts_with("4 "), "{told:?}");
        let list = format!("3 0123456789abcdef\n{line}\n");
        assert!(findings(4, rule, &list).is_empty());
        // What decides nothing.
        let reworded = rule
            .replace("seven", "seven dollars")
            .replace("    cost", "        cost")
            .replace("tests {\n", "tests {\n fn x() {}\n");
        assert!(findings(4, &reworded, &list).is_empty());
        let changed = rule.replace("cost < 7", "cost < 8");
        let told = findings(4, &changed, &list);
        assert!(told.len() == 1 && told[0].contains("raise RULES to 5"), "{told:?}");
        let told = findings(5, &changed, &list);
        assert!(told.len() == 1 && told[0].contains("add the line `5 "), "{told:?}");
        assert!(!findings(4, rule, &format!("{line}\n3 0123456789abcdef\n")).is_empty(), "numbers go up");
    }
}
