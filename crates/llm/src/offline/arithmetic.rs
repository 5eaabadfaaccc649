//! Finds the sum in a question, has `calc` do it, and says the result. Computes nothing itself.
//!
//! Invariant: only a complete expression counts. Dates, ranges, versions and telephone numbers look like sums, so a
//! bare `-` or `/` counts only where the question says that it is one.

use serde_json::json;

use super::Plan;
use super::transcript::{Transcript, number, quoted};

const CALC: &str = "calc";
/// Longer texts are material, not questions.
const QUESTION_BYTES_MAX: usize = 2_000;
const CUES: [&str; 8] = ["what is", "what's", "how much", "calculate", "compute", "evaluate", "add up", "="];

/// Applies when `calc` is offered and the question holds an arithmetic expression.
pub(super) fn plan(transcript: &Transcript<'_>) -> Option<Plan> {
    if !transcript.offers(CALC) {
        return None;
    }
    let expression = find(&transcript.question)?;
    let arguments = json!({ "expression": expression });
    let Some(result) = transcript.result(CALC, &arguments) else {
        return Some(Plan::Ask { tool: CALC, calls: vec![arguments] });
    };
    Some(Plan::Say(match number(result) {
        Some(value) => format!("{expression} = {value}"),
        None => format!("{expression}: calc answered {}", quoted(result)),
    }))
}

/// The longest arithmetic expression in a question.
fn find(question: &str) -> Option<String> {
    if question.len() > QUESTION_BYTES_MAX {
        return None;
    }
    let lower = question.to_lowercase();
    let cued = CUES.iter().any(|cue| lower.contains(cue));
    let candidates = question.split(|c: char| !is_part(c)).map(trimmed);
    let sums = candidates.filter(|text| is_expression(text) && (cued || is_unmistakable(text, question)));
    sums.max_by_key(|text| text.len()).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Letters glued to a candidate (`gpt-4`, `v1.2`) stay in it and make it no expression.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "+-*/%^().,:_".contains(c)
}

/// The words around the expression are cut off; what is left may still be no expression.
fn trimmed(text: &str) -> &str {
    let from = text.find(|c: char| c.is_ascii_digit() || c == '(' || c == '-').unwrap_or(text.len());
    let text = text.get(from..).unwrap_or_default();
    let word = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let text = text.get(..word).unwrap_or_default();
    text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != ')').trim_start_matches("- ")
}

fn is_unmistakable(text: &str, question: &str) -> bool {
    text.contains(['+', '*', '^', '(']) || text == question.trim()
}

/// Whether the text is an expression with at least one operator between two operands.
fn is_expression(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut operand = false;
    let mut operators = 0;
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            _ if c.is_whitespace() => {}
            '0'..='9' if !operand => {
                let Some(digits) = number_length(rest) else { return false };
                length = digits;
                operand = true;
            }
            '(' if !operand => depth += 1,
            ')' if operand && depth > 0 => depth -= 1,
            '-' if !operand => {}
            '+' | '-' | '*' | '/' | '%' | '^' if operand => {
                operators += 1;
                operand = false;
            }
            _ => return false,
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    operand && depth == 0 && operators > 0
}

/// The length of the number at the start: digits with at most one point inside.
fn number_length(text: &str) -> Option<usize> {
    let length = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text.get(..length)?;
    (number.matches('.').count() <= 1 && !number.ends_with('.')).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_what_only_looks_like_one() {
        for (question, want) in [
            ("what is 2+2*3?", Some("2+2*3")),
            ("What's 10 - 4", Some("10 - 4")),
            ("Compute (1.5 + 2) * -3, please.", Some("(1.5 + 2) * -3")),
            ("7/2", Some("7/2")),
            ("2 + 2", Some("2 + 2")),
            ("= 9/3", Some("9/3")),
            ("how much is ((1+2)*3)^2 ?", Some("((1+2)*3)^2")),
            ("The meeting is on 2026-11-22.", None),
            ("Read pages 10-20 of it", None),
            ("Try gpt-4o or version 1.2.3-4", None),
            ("2+", None),
            ("(2+3", None),
            ("what is 5?", None),
            ("what is love?", None),
            ("", None),
        ] {
            assert_eq!(find(question).as_deref(), want, "{question}");
        }
    }
}
