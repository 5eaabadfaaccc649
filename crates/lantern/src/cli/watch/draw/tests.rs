//! Screens, word for word. `UPDATE=1` records those of this build, when the change to them is meant.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;
use crate::cli::follow::frame::testing::frame;
use crate::cli::watch::state::tests::{id, listed, run, waiting};
use crate::cli::watch::state::{Input, Key};

fn now() -> At {
    "2026-09-21T14:13:25Z".parse().unwrap()
}

/// What is on a screen of this size, and where it is not plain.
fn screen(state: &State, (columns, rows): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, state, now())).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(columns)) {
        let reversed = row.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED));
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(if reversed { ">" } else { " " });
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn over(n: u8, status: &str, output: Value, error: Value) -> Value {
    let mut whole = run(n, "digest", status);
    whole["output"] = output;
    whole["error"] = error;
    whole
}

/// A state for each thing that can be seen.
fn states() -> Vec<(&'static str, State, (u16, u16))> {
    let many = || {
        vec![
            run(1, "release", "paused"),
            run(2, "digest", "running"),
            run(3, "an-agent-with-a-name-that-is-longer-than-its-column", "failed"),
            run(4, "digest", "succeeded"),
            run(5, "digest", "cancelled"),
        ]
    };
    let waits = || {
        let mut state = listed(many());
        for event in waiting() {
            state.apply(Input::Frame(id(1), event));
        }
        state
    };
    let mut asked = waits();
    asked.apply(Input::Key(Key::Char('a')));
    let mut cancel = waits();
    cancel.apply(Input::Key(Key::Char('c')));
    let mut refused = waits();
    refused.apply(Input::Key(Key::Char('x')));
    refused.apply(Input::Key(Key::Down));
    refused.apply(Input::Key(Key::Char('a')));
    let mut writing = listed(vec![run(1, "digest", "running")]);
    for event in [
        frame(1, 0, "run_started", "", json!({})),
        frame(2, 0, "step_started", "llm-1", json!({ "type": "llm", "name": "llm-1" })),
        frame(3, 0, "llm_delta", "llm-1", json!({ "text": "The last commits\u{1b}[2J mend" })),
    ] {
        writing.apply(Input::Frame(id(1), event));
    }
    let long = "one two three four five six seven eight nine ten eleven twelve thirteen\n\n日本語 text";
    let mut done = listed(vec![run(1, "digest", "succeeded")]);
    done.apply(Input::Over(id(1), over(1, "succeeded", json!({ "result": long }), Value::Null)));
    let mut failed = listed(vec![run(1, "digest", "failed")]);
    let error = json!({ "code": "max_turns", "message": "it asked 12 times" });
    failed.apply(Input::Over(id(1), over(1, "failed", Value::Null, error)));
    let mut lost = waits();
    lost.apply(Input::Lost("cannot reach http://127.0.0.1:8080".to_owned()));
    let mut back = listed(vec![run(1, "digest", "running")]);
    for n in 1..40 {
        let event = frame(n, 0, "paused", "", json!({ "by": format!("ada-{n}") }));
        back.apply(Input::Frame(id(1), event));
    }
    back.apply(Input::Key(Key::PageUp));
    vec![
        ("empty", State::new("http://127.0.0.1:8080"), (80, 10)),
        ("waits", waits(), (80, 20)),
        ("waits-wide", waits(), (120, 20)),
        ("waits-narrow", waits(), (40, 12)),
        ("approve", asked, (80, 20)),
        ("cancel", cancel, (60, 14)),
        ("nothing-to-approve", refused, (80, 14)),
        ("writing", writing, (80, 10)),
        ("succeeded", done, (50, 14)),
        ("failed", failed, (80, 10)),
        ("lost", lost, (100, 14)),
        ("scrolled", back, (60, 16)),
        ("tiny", waits(), (10, 3)),
    ]
}

#[test]
fn the_screens_are_the_recorded_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/watch");
    let update = std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1");
    let mut differing = Vec::new();
    for (name, state, size) in states() {
        let shown = screen(&state, size);
        assert!(!shown.contains('\u{1b}'), "nothing from outside drives the terminal: {name}");
        let shown = shown.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
        let file = folder.join(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &shown).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != shown {
            differing.push((name, shown));
        }
    }
    assert!(differing.is_empty(), "UPDATE=1 records them anew: {differing:#?}");
}

#[test]
fn no_size_is_too_small_to_draw() {
    for (name, state, _) in states() {
        for size in [(1, 1), (2, 2), (5, 3), (3, 40), (200, 1), (200, 60)] {
            assert!(!screen(&state, size).is_empty(), "{name} {size:?}");
        }
    }
}

#[test]
fn how_a_run_stands_is_seen_at_a_glance() {
    let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
    let state = listed(vec![run(1, "a", "paused"), run(2, "b", "failed")]);
    terminal.draw(|frame| draw(frame, &state, now())).unwrap();
    let buffer = terminal.backend().buffer();
    assert_eq!(buffer[(0, 2)].fg, Color::Yellow);
    assert!(buffer[(0, 2)].modifier.contains(Modifier::REVERSED), "it is the one that is looked at");
    assert_eq!((buffer[(0, 3)].symbol(), buffer[(0, 3)].fg), ("✘", Color::Red));
}
