//! What a check found, and the list of old findings that are tolerated for now.
//!
//! Invariant: the list only shrinks. An allowance that is larger than what is left to allow is itself a finding, so
//! nobody can slip a new violation in under an old one.

use std::collections::BTreeMap;
use std::fmt;

/// One violation, at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Repository path, with forward slashes.
    pub(crate) path: String,
    /// Line, from 1; 0 when it is about the whole file.
    pub(crate) line: usize,
    /// The rule's short name, as golden/tidy-allow.txt names it.
    pub(crate) rule: &'static str,
    /// What is wrong and what to do instead.
    pub(crate) message: String,
    /// How much of an allowance it uses up: 1, or a size.
    pub(crate) weight: usize,
}

impl Finding {
    /// A finding of weight 1.
    pub(crate) fn new(
        rule: &'static str,
        path: impl Into<String>,
        line: usize,
        message: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), line, rule, message: message.into(), weight: 1 }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, message, .. } = self;
        match line {
            0 => write!(f, "{path}: [{rule}] {message}"),
            _ => write!(f, "{path}:{line}: [{rule}] {message}"),
        }
    }
}

/// Where the allowances are written.
pub(crate) const ALLOW: &str = "golden/tidy-allow.txt";

/// Takes away what `allow` tolerates (lines of `rule path weight`) and adds a finding for each allowance that is
/// too large, unused or unreadable.
pub(crate) fn settle(findings: Vec<Finding>, allow: &[(usize, &str)]) -> Vec<Finding> {
    let mut groups: BTreeMap<(String, String), Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        groups.entry((finding.rule.to_owned(), finding.path.clone())).or_default().push(finding);
    }
    let mut left = Vec::new();
    for &(line, text) in allow {
        let entry = parse(text);
        let Some((rule, path, allowed)) = entry else {
            left.push(Finding::new("allow", ALLOW, line, "want `rule path weight`"));
            continue;
        };
        let group = groups.remove(&(rule.to_owned(), path.to_owned())).unwrap_or_default();
        let found: usize = group.iter().map(|f| f.weight).sum();
        match found {
            0 => left.push(Finding::new("allow", ALLOW, line, "nothing left to allow here: remove the line")),
            n if n > allowed => left.extend(group),
            n if n < allowed => left.push(Finding::new("allow", ALLOW, line, format!("lower it to {n}"))),
            _ => {}
        }
    }
    left.extend(groups.into_values().flatten());
    left.sort();
    left
}

fn parse(text: &str) -> Option<(&str, &str, usize)> {
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        [rule, path, weight] => Some((rule, path, weight.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(lines: usize) -> Vec<Finding> {
        vec![Finding { weight: lines, ..Finding::new("length", "a.rs", 0, "too long") }]
    }

    fn left(found: Vec<Finding>, allow: &str) -> Vec<String> {
        settle(found, &[(1, allow)]).iter().map(|f| f.rule.to_owned()).collect()
    }

    #[test]
    fn an_allowance_fits_exactly_or_is_a_finding() {
        assert!(left(long(700), "length a.rs 700").is_empty());
        assert_eq!(left(long(701), "length a.rs 700"), ["length"]);
        assert_eq!(left(long(650), "length a.rs 700"), ["allow"]);
        assert_eq!(left(vec![], "length a.rs 700"), ["allow"]);
        assert_eq!(left(long(700), "length b.rs 700"), ["length", "allow"]);
        assert_eq!(left(long(700), "length a.rs many"), ["length", "allow"]);
    }
}
