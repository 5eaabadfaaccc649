//! Shows the dashboard to whoever starts `lantern dev` at a desktop, and an issuer to whoever logs in by it.
//!
//! Never in the way: a machine without a screen, or without a program that opens addresses, serves all the same.

use std::process::{Command, Stdio};
use std::thread;

use crate::env;

/// What opens an address in the desktop's own browser (<https://www.freedesktop.org/wiki/Software/xdg-utils/>).
const OPENER: &str = "xdg-open";

/// Whether this is a desktop's terminal, and nobody said that they would rather not.
pub(super) const fn wanted(refused: bool, terminal: bool, screen: bool) -> bool {
    !refused && terminal && screen
}

/// Whether there are windows to open one among.
pub(crate) fn screen() -> bool {
    [env::DISPLAY, env::WAYLAND_DISPLAY].into_iter().any(|name| env::get(name).is_some())
}

/// Opens `url` in a browser, or logs why it cannot.
pub(crate) fn open(url: &str) {
    let mut command = Command::new(OPENER);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(mut opener) => {
            // Somebody must ask how it ended, or it stays on as a dead process.
            drop(thread::spawn(move || opener.wait()));
        }
        Err(error) => tracing::info!(%error, "no browser was opened: {OPENER} cannot be started"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_opened_for_somebody_who_sees_it() {
        let cases = [(false, true, true), (true, true, true), (false, false, true), (false, true, false)];
        assert_eq!(
            cases.map(|(refused, terminal, screen)| wanted(refused, terminal, screen)),
            [true, false, false, false]
        );
    }
}
