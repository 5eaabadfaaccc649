//! How a followed run is shown: as a live tree on a terminal, as plain lines elsewhere, as JSON lines to programs.
//!
//! Invariant: only the live tree moves the cursor, and only on a terminal; the others write each line once. Decides
//! nothing about the run.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lantern_types::{At, RunId};

use crate::cli::console::{self, Console, Paint};
use crate::cli::failure::Failure;
use crate::cli::follow::frame::Frame;
use crate::cli::follow::tree::{Line, Tree};

const LOST: &str = "connection lost, resuming";

/// One way to show a run.
pub(crate) struct View<'a> {
    console: &'a Console,
    lost: bool,
    shape: Shape,
}

enum Shape {
    /// Lines that still change are drawn below those that do not.
    Live { tree: Box<Tree>, bar: ProgressBar },
    /// One line for each stored event.
    Plain,
    /// One JSON frame for each line, token deltas and the end included.
    Json,
}

impl<'a> View<'a> {
    /// The view that suits the terminal and the form that was asked for.
    pub(crate) fn new(console: &'a Console, run: RunId) -> Self {
        if !console.live {
            return Self::still(console);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        bar.set_style(
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self { console, lost: false, shape: Shape::Live { tree: Box::new(Tree::new(run)), bar } }
    }

    /// The view that writes each line once.
    pub(crate) fn still(console: &'a Console) -> Self {
        let shape = if console.json() { Shape::Json } else { Shape::Plain };
        Self { console, lost: false, shape }
    }

    /// Shows one frame.
    pub(crate) fn frame(&mut self, frame: &Frame, now: At) -> Result<(), Failure> {
        match &mut self.shape {
            Shape::Json => self.console.say(&frame.raw),
            Shape::Plain if frame.seq.is_some() => self.console.say(&frame.plain()),
            Shape::Plain => Ok(()),
            Shape::Live { tree, bar } => {
                let columns = usize::from(console::size().0);
                for line in tree.apply(frame) {
                    // Whole: the terminal may wrap what stays, and a command must be copied from it.
                    bar.println(line.render(self.console.paint, usize::MAX));
                }
                draw(bar, &tree.lines(now, None, rows(), columns), self.console.paint);
                Ok(())
            }
        }
    }

    /// Takes in a frame that was shown before.
    pub(crate) fn known(&mut self, frame: &Frame, now: At) {
        if let Shape::Live { tree, bar } = &mut self.shape {
            tree.apply(frame);
            draw(bar, &tree.lines(now, None, rows(), usize::from(console::size().0)), self.console.paint);
        }
    }

    /// The server went away.
    pub(crate) fn lost(&mut self) {
        if std::mem::replace(&mut self.lost, true) {
            return;
        }
        match &self.shape {
            Shape::Live { bar, .. } => bar.suspend(|| self.console.note(LOST)),
            Shape::Plain | Shape::Json => self.console.note(LOST),
        }
    }

    /// The server is back.
    pub(crate) fn found(&mut self) {
        if !std::mem::replace(&mut self.lost, false) {
            return;
        }
        match &self.shape {
            Shape::Live { bar, .. } => bar.suspend(|| self.console.note("resumed")),
            Shape::Plain | Shape::Json => self.console.note("resumed"),
        }
    }

    /// Whether [`View::tick`] is wanted.
    pub(crate) const fn moves(&self) -> bool {
        matches!(self.shape, Shape::Live { .. })
    }

    /// Draws what moves, a little later.
    pub(crate) fn tick(&mut self, now: At) {
        if let Shape::Live { tree, bar } = &self.shape {
            let footer = self.lost.then_some(LOST);
            let lines = tree.lines(now, footer, rows(), usize::from(console::size().0));
            draw(bar, &lines, self.console.paint);
        }
    }

    /// Takes down what moves; what is done stays.
    pub(crate) fn close(&mut self) {
        if let Shape::Live { bar, .. } = &self.shape {
            bar.finish_and_clear();
        }
    }
}

fn rows() -> usize {
    usize::from(console::size().1).saturating_sub(2)
}

fn draw(bar: &ProgressBar, lines: &[Line], paint: Paint) {
    // One column is left free: a line that fills the last one makes some terminals wrap.
    let columns = usize::from(console::size().0).saturating_sub(1);
    let lines: Vec<String> = lines.iter().map(|line| line.render(paint, columns)).collect();
    bar.set_message(lines.join("\n"));
}
