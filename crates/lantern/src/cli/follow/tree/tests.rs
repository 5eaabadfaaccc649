//! What the tree shows, told as frames in and lines out.

use serde_json::json;

use super::*;
use crate::cli::follow::frame::testing::frame;

const START: i64 = 1_790_000_000_000_000;

fn tree() -> Tree {
    Tree::new("018f0000-0000-7000-8000-000000000001".parse().unwrap())
}

fn at(seconds: i64) -> At {
    At::from_micros(START + seconds * 1_000_000)
}

fn plain(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|line| line.render(Paint(false), 100).trim_end().to_owned()).collect()
}

fn moving(tree: &Tree, seconds: i64) -> Vec<String> {
    plain(&tree.lines(at(seconds), None, 24, 100))
}

fn started(seq: u64, second: i64, step: &str, kind: &str, parent: Option<&str>) -> Frame {
    frame(seq, second, "step_started", step, json!({ "type": kind, "name": step, "parent": parent }))
}

#[test]
fn a_turn_and_its_tool_call() {
    let mut tree = tree();
    assert!(tree.apply(&frame(1, 0, "run_started", "", json!({ "program": "agent" }))).is_empty());
    assert!(tree.apply(&started(2, 0, "llm-1", "llm", None)).is_empty());
    tree.apply(&frame(3, 0, "step_admitted", "llm-1", json!({ "provider": "p", "model": "m" })));
    tree.apply(&frame(0, 1, "llm_delta", "llm-1", json!({ "text": "Looking\nat " })));
    tree.apply(&frame(0, 1, "llm_delta", "llm-1", json!({ "text": "it" })));
    let want = [
        "⠋ llm      llm-1                      2.0s  p/m",
        "  Looking at it",
        "⠋ 2.0s · 0 steps done · 0 in, 0 out · $0.00",
    ];
    assert_eq!(moving(&tree, 2), want);

    let reply = json!({ "name": "llm-1", "type": "llm", "provider": "p", "model": "m", "tokens_in": 1204,
        "tokens_out": 88, "cost_usd": 0.000_123 });
    let left = tree.apply(&frame(4, 3, "step_completed", "llm-1", reply));
    assert_eq!(
        plain(&left),
        ["✔ llm      llm-1                      3.0s  p/m  1,204 in, 88 out  $0.000123"]
    );

    // The turn has scrolled away, and its tool call is still one level below it.
    tree.apply(&frame(
        5,
        3,
        "step_started",
        "llm-1.tool-1",
        json!({ "type": "tool", "name": "calc", "parent": "llm-1" }),
    ));
    let want = [
        "  ⠋ tool     calc                     1.0s  llm-1.tool-1",
        "⠋ 4.0s · 1 step done · 1,204 in, 88 out · $0.000123",
    ];
    assert_eq!(moving(&tree, 4), want);
    let left = tree.apply(&frame(
        6,
        4,
        "step_failed",
        "llm-1.tool-1",
        json!({ "code": "tool_failed", "error": "no" }),
    ));
    assert_eq!(plain(&left), ["  ✘ tool     calc                     1.0s  llm-1.tool-1  tool_failed: no"]);
}

#[test]
fn finished_lines_wait_for_those_above_them() {
    let mut tree = tree();
    tree.apply(&started(1, 0, "each", "map", None));
    tree.apply(&started(2, 0, "each[0]", "tool", Some("each")));
    tree.apply(&started(3, 0, "each[1]", "tool", Some("each")));
    tree.apply(&started(4, 0, "other", "tool", None));
    tree.apply(&started(5, 0, "each[2]", "tool", Some("each")));
    assert!(tree.apply(&frame(6, 1, "step_completed", "each[1]", json!({}))).is_empty());
    assert!(tree.apply(&frame(7, 1, "step_completed", "each[0]", json!({}))).is_empty());
    let order: Vec<_> =
        moving(&tree, 1).iter().map(|line| line.split_whitespace().nth(2).unwrap().to_owned()).collect();
    assert_eq!(order, ["each", "each[0]", "each[1]", "each[2]", "other", "·"]);
    tree.apply(&frame(8, 1, "step_completed", "each[2]", json!({})));
    assert_eq!(tree.apply(&frame(9, 2, "step_completed", "each", json!({}))).len(), 4);
}

#[test]
fn waiting_says_which_command_helps() {
    let mut tree = tree();
    tree.apply(&started(1, 0, "send", "tool", None));
    for (kind, note, command) in [
        ("approval_requested", "waits for approval", "approve 018f0000-0000-7000-8000-000000000001 send"),
        (
            "step_in_doubt",
            "is in doubt: did it happen?",
            "resolve 018f0000-0000-7000-8000-000000000001 send --happened yes|no",
        ),
    ] {
        let said = tree.apply(&frame(2, 0, kind, "send", json!({ "code": "crash" })));
        assert_eq!(said.len(), 1);
        let want = format!("· send {note}: lantern runs {command}");
        assert_eq!(said[0].render(Paint(false), usize::MAX), want);
        assert!(moving(&tree, 0)[0].starts_with("◌ tool     send") && moving(&tree, 0)[0].ends_with(note));
    }
    tree.apply(&frame(3, 0, "approval_granted", "send", json!({ "by": "ada" })));
    assert!(moving(&tree, 0)[0].ends_with("0.0s"));
    tree.apply(&frame(5, 0, "step_retrying", "send", json!({ "code": "timeout" })));
    assert!(moving(&tree, 0)[0].ends_with("again after timeout"));
    let said = tree.apply(&frame(6, 0, "signal_waiting", "go", json!({ "type": "signal", "name": "ready" })));
    let want =
        "· go waits for the signal ready: lantern runs signal 018f0000-0000-7000-8000-000000000001 ready";
    assert_eq!(said[0].render(Paint(false), usize::MAX), want);
    assert!(moving(&tree, 0)[1].ends_with("waits for the signal ready"));
}

#[test]
fn who_approves_sees_what() {
    let mut tree = tree();
    let run = "018f0000-0000-7000-8000-000000000001";
    let reason =
        json!({ "type": "approval", "name": "ship", "arguments": { "reason": "153 lines. Ship it?" } });
    let tool = json!({ "type": "tool", "name": "pay", "approval": true, "arguments": { "usd": 5 } });
    for (step, data, want) in [
        ("ship", reason, "· ship waits for approval: 153 lines. Ship it?"),
        ("llm-1.tool-1", tool, "· llm-1.tool-1 waits for approval: pay {\"usd\":5}"),
    ] {
        tree.apply(&frame(1, 0, "step_started", step, data));
        let said = tree.apply(&frame(2, 0, "approval_requested", step, json!({})));
        assert_eq!(plain(&said), [want.to_owned(), format!("  lantern runs approve {run} {step}")]);
    }
}

#[test]
fn what_was_sent_again_leaves_a_line_below_its_step() {
    let again = "sent again under the same key";
    let mut tree = tree();
    tree.apply(&started(1, 0, "llm-1", "llm", None));
    assert!(tree.apply(&frame(2, 1, "step_reissued", "llm-1", json!({ "generation": 2 }))).is_empty());
    assert_eq!(moving(&tree, 2)[1], format!("  {again}"));
    tree.apply(&frame(3, 2, "step_reissued", "llm-1", json!({ "generation": 3 })));
    let left = tree.apply(&frame(4, 3, "step_completed", "llm-1", json!({})));
    assert_eq!(plain(&left)[1..], [format!("  {again}, 2 times")]);
    // Followed from the middle, the step is not known yet.
    tree.apply(&frame(5, 3, "step_reissued", "llm-2", json!({ "generation": 2 })));
    assert_eq!(moving(&tree, 4)[1], format!("  {again}"));
    assert_eq!(tree.apply(&frame(6, 5, "step_completed", "llm-2", json!({}))).len(), 2);
}

#[test]
fn a_step_that_is_reused_says_so() {
    let mut tree = tree();
    tree.apply(&started(1, 0, "llm-1", "llm", None));
    let left = tree.apply(&frame(2, 0, "step_completed", "llm-1", json!({ "cost_usd": 0, "reused": true })));
    assert_eq!(plain(&left), ["✔ llm      llm-1                      0.0s  reused, not done again"]);
}

#[test]
fn what_concerns_the_run_is_said_between_the_steps() {
    let mut tree = tree();
    tree.apply(&started(1, 0, "a", "tool", None));
    let said = tree.apply(&frame(2, 0, "cancel_requested", "", json!({ "by": "ada", "reason": "enough" })));
    assert_eq!(plain(&said), ["· cancel requested · by: ada, reason: enough"]);
}

#[test]
fn a_tree_that_is_followed_from_the_middle_shows_what_it_can() {
    let mut tree = tree();
    let left = tree.apply(&frame(9, 5, "step_completed", "llm-2", json!({ "type": "llm", "name": "llm-2" })));
    assert_eq!(plain(&left), ["✔ llm      llm-2"]);
    assert!(tree.apply(&frame(10, 5, "step_admitted", "llm-9", json!({}))).is_empty());
}

#[test]
fn more_steps_than_rows_are_counted() {
    let mut tree = tree();
    for n in 0..10 {
        tree.apply(&started(n, 0, &format!("s{n}"), "tool", None));
    }
    tree.apply(&frame(20, 1, "step_completed", "s1", json!({})));
    let lines = plain(&tree.lines(at(1), Some("connection lost, resuming"), 6, 40));
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[4], "  … and 5 more");
    assert_eq!(lines[5], "⠋ connection lost, resuming");
    assert!(!lines.iter().any(|line| line.contains("s1")));
}

#[test]
fn lines_are_cut_to_the_terminal_and_coloured_only_when_asked() {
    let mut tree = tree();
    tree.apply(&started(1, 0, "a-very-long-name-of-a-step-that-goes-on-and-on", "tool", None));
    let left = tree.apply(&frame(
        2,
        0,
        "step_completed",
        "a-very-long-name-of-a-step-that-goes-on-and-on",
        json!({}),
    ));
    let line = left[0].render(Paint(false), 20);
    assert_eq!(line.chars().count(), 20);
    assert!(left[0].render(Paint(true), 100).contains("\u{1b}[32m✔\u{1b}[0m"));
    assert!(!line.contains('\u{1b}'));
}

#[test]
fn the_preview_is_bounded() {
    let mut tree = tree();
    tree.apply(&started(1, 0, "llm-1", "llm", None));
    for _ in 0..100 {
        tree.apply(&frame(0, 0, "llm_delta", "llm-1", json!({ "text": "abcdefghij\u{1b}[2J" })));
    }
    assert!(tree.steps[0].preview.chars().count() <= PREVIEW_CHARS);
    let lines = tree.lines(at(0), None, 24, 30);
    let preview = lines[1].render(Paint(false), 30);
    assert!(
        preview.starts_with("  …") && preview.ends_with("[2J") && preview.chars().count() == 30,
        "{preview}"
    );
    assert!(!preview.contains('\u{1b}'));
}
