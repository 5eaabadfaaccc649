//! The terminal while it is ours: another screen, keys one by one, and all of it given back at the end.
//!
//! Invariant: the terminal is given back when a [`Screen`] is dropped, and before the words of a panic are written.

use std::io;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use lantern_types::At;
use ratatui::DefaultTerminal;

use super::draw::draw;
use super::state::{Key, State};

/// The screen, taken.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes it. A panic from then on gives it back first.
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Draws what changed.
    pub(super) fn show(&mut self, state: &State, now: At) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, state, now)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell when it fails.
        drop(ratatui::try_restore());
    }
}

/// The key that was pressed, if it was one; a new size is seen when the screen is drawn.
pub(super) fn read(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    match key.code {
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Char(letter) => Some(Key::Char(letter)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    const INSIDE: &str = "LANTERN_TEST_PANIC";

    /// Runs itself in a terminal, and breaks there.
    #[test]
    fn a_panic_gives_the_terminal_back() {
        if std::env::vars().any(|(name, _)| name == INSIDE) {
            let mut screen = Screen::take().unwrap();
            screen.show(&State::new("about to break"), At::default()).unwrap();
            panic!("broken on purpose");
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/e2e/terminal.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(std::env::current_exe().unwrap()).env(INSIDE, "1").env("TERM", "xterm");
        let this = "cli::watch::screen::tests::a_panic_gives_the_terminal_back";
        command.args(["--exact", this, "--nocapture", "--test-threads", "1"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"[]").unwrap();
        let output = child.wait_with_output().unwrap();
        let end: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let how = serde_json::json!([
            end["exit"],
            end["entered"],
            end["alternate"],
            end["hidden"],
            end["restored"]
        ]);
        assert_eq!(how, serde_json::json!([101, true, false, false, true]), "{end}");
    }
}
