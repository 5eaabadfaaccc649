//! A repository's recent history becomes a stand-up digest: one sum per changed area, several in a turn, then the text.
//!
//! Invariant: no two areas share a sum, and every figure of churn in the digest is what `calc` answered, or its answer quoted; none is made up here.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Plan;
use super::patch::{Area, File, History};
use super::transcript::{Transcript, number, quoted};

const CALC: &str = "calc";
/// Of a history with more areas the digest shows the biggest, and says how many it left out.
const AREAS_MAX: usize = 64;
/// So many turns ask for sums, each for as many at once as it takes: an agent that does not say has twelve.
const TURNS_MAX: usize = 10;
/// Keeps an expression short however many files an area has: the smaller ones share the last term.
const TERMS_MAX: usize = 40;
const SUBJECTS_MAX: usize = 3;
const FILES_MAX: usize = 3;
const AUTHORS_MAX: usize = 5;

/// Applies when `calc` is offered and the question is a diff or a log with patches.
pub(super) fn plan(transcript: &Transcript<'_>) -> Option<Plan> {
    if !transcript.offers(CALC) {
        return None;
    }
    let history = History::read(&transcript.question)?;
    let areas = biggest(&history.areas);
    let sums: Vec<Value> = expressions(&areas).into_iter().map(|sum| json!({ "expression": sum })).collect();
    match transcript.results(CALC, &sums, areas.len().div_ceil(TURNS_MAX)) {
        Ok(results) => Some(Plan::Say(digest(&history, &areas, &results))),
        Err(ask) => Some(ask),
    }
}

/// The areas with the most changes, the biggest first; equals in the order in which they appear.
fn biggest(areas: &[Area]) -> Vec<&Area> {
    let mut chosen: Vec<&Area> = areas.iter().collect();
    chosen.sort_by_key(|area| Reverse(area.churn()));
    chosen.truncate(AREAS_MAX);
    chosen
}

/// The sum of each area. One that reads like an earlier one is spelt otherwise, with a `+0` more: the same question again
/// would look like a loop.
fn expressions(areas: &[&Area]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut distinct = |mut sum: String| {
        while !taken.insert(sum.clone()) {
            sum.push_str("+0");
        }
        sum
    };
    areas.iter().map(|area| distinct(expression(area))).collect()
}

/// Lines added and removed, file by file: `(120+33)+(4+0)`.
fn expression(area: &Area) -> String {
    let mut terms: Vec<(u64, u64)> = area.files.iter().map(|file| (file.added, file.removed)).collect();
    if terms.len() > TERMS_MAX {
        let rest = terms.split_off(TERMS_MAX - 1);
        terms.push(rest.iter().fold((0, 0), |sum, term| (sum.0 + term.0, sum.1 + term.1)));
    }
    let terms: Vec<String> = terms.iter().map(|(added, removed)| format!("({added}+{removed})")).collect();
    terms.join("+")
}

fn digest(history: &History, areas: &[&Area], results: &[&str]) -> String {
    let mut text = format!("# Stand-up digest\n\n{}\n", headline(history));
    for (area, result) in areas.iter().zip(results) {
        section(&mut text, history, area, result);
    }
    let left_out = history.areas.len() - areas.len();
    if left_out > 0 {
        _ = write!(text, "\n{} with fewer changes not shown.\n", count(left_out, "area", "areas"));
    }
    text
}

fn headline(history: &History) -> String {
    let areas = count(history.areas.len(), "area", "areas");
    if history.commits.is_empty() {
        let files = history.areas.iter().map(|area| area.files.len()).sum();
        return format!("A patch to {} in {areas}.", count(files, "file", "files"));
    }
    let authors = history.authors();
    let named: Vec<&str> = authors.iter().copied().take(AUTHORS_MAX).collect();
    let more = if authors.len() > named.len() { ", …" } else { "" };
    format!(
        "{} by {} ({}{more}) in {areas}.",
        count(history.commits.len(), "commit", "commits"),
        count(authors.len(), "author", "authors"),
        named.join(", ")
    )
}

fn section(text: &mut String, history: &History, area: &Area, result: &str) {
    let churn = match number(result) {
        Some(lines) => format!("{lines} lines changed"),
        None => format!("lines changed unknown, calc answered {}", quoted(result)),
    };
    let title = if area.name == "." { "top level" } else { area.name.as_str() };
    _ = write!(text, "\n## {title}: {churn}\n\n");
    let subjects =
        area.commits.iter().filter_map(|at| history.commits.get(*at)).map(|commit| &commit.subject);
    let subjects: Vec<&String> = subjects.filter(|subject| !subject.is_empty()).collect();
    for subject in subjects.iter().take(SUBJECTS_MAX) {
        _ = writeln!(text, "- {subject}");
    }
    if subjects.len() > SUBJECTS_MAX {
        _ = writeln!(text, "- and {} more", count(subjects.len() - SUBJECTS_MAX, "commit", "commits"));
    }
    _ = writeln!(text, "- Most changed: {}", most_changed(&area.files));
}

fn most_changed(files: &[File]) -> String {
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by_key(|file| Reverse(file.churn()));
    let shown = files.iter().take(FILES_MAX);
    let shown: Vec<String> =
        shown.map(|file| format!("`{}` (+{} −{})", file.path, file.added, file.removed)).collect();
    let more = if files.len() > FILES_MAX { format!(" of {} files", files.len()) } else { String::new() };
    shown.join(", ") + &more
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(files: usize) -> Area {
        let file = |n: usize| File { path: format!("src/{n}"), added: 2, removed: 1 };
        Area { name: "src".to_owned(), files: (0..files).map(file).collect(), commits: Vec::new() }
    }

    #[test]
    fn an_expression_adds_every_file_and_stays_short() {
        assert_eq!(expression(&area(2)), "(2+1)+(2+1)");
        let long = expression(&area(1_000));
        assert_eq!(long.matches('(').count(), TERMS_MAX);
        assert!(long.ends_with("(1922+961)"), "{long}");
    }

    #[test]
    fn areas_whose_sums_are_equal_have_one_each() {
        let areas = [area(1), area(1), area(2), area(1)];
        let areas: Vec<&Area> = areas.iter().collect();
        assert_eq!(expressions(&areas), ["(2+1)", "(2+1)+0", "(2+1)+(2+1)", "(2+1)+0+0"]);
    }

    #[test]
    fn areas_come_by_size_and_too_many_are_cut() {
        let areas: Vec<Area> = (1..=70).map(area).collect();
        let sizes = |areas: &[Area]| biggest(areas).iter().map(|area| area.files.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&areas), (7..=70).rev().collect::<Vec<_>>());
        assert_eq!(sizes(&areas[..3]), [3, 2, 1], "few areas, too, begin with the biggest");
    }
}
