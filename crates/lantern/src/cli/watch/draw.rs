//! The screen as a picture of the state: the list above, the run that is looked at below, and the keys.
//!
//! Pure: draws into a buffer, and somebody else puts it on the terminal.

use lantern_types::At;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::Paragraph;

use super::state::{Row, State};
use crate::cli::console::Style;
use crate::cli::follow::tree::Line;
use crate::cli::format::{cut, duration, usd, width};

const KEYS: &str = "q leave · ↑↓ choose · c cancel · a approve · d deny · PgUp PgDn scroll";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: At) {
    let whole = frame.area();
    let wanted = u16::try_from(state.rows.len().max(1)).unwrap_or(u16::MAX);
    // The list gets what it needs, and at most two fifths.
    let list = wanted.min((whole.height * 2 / 5).max(1));
    let [head, columns, rows, title, detail, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(list),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(whole);
    put(frame, head, vec![header(state)]);
    let widths = Widths::of(usize::from(whole.width));
    put(frame, columns, vec![Text::from(Span::styled(widths.names(), look(Style::Dim)))]);
    put(frame, rows, listed(state, now, &widths, usize::from(rows.height)));
    put(frame, title, vec![titled(state, usize::from(whole.width))]);
    put(frame, detail, looked_at(state, now, detail));
    put(frame, foot, vec![footer(state, usize::from(whole.width))]);
}

fn put(frame: &mut Frame<'_>, area: Rect, lines: Vec<Text<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

fn header(state: &State) -> Text<'static> {
    let open = state.rows.iter().filter(|row| !row.over()).count();
    let more = if state.more { "+" } else { "" };
    let runs = if state.rows.len() == 1 { "run" } else { "runs" };
    let words = format!("lantern · {} · {}{more} {runs}, {open} not over", state.server, state.rows.len());
    let mut line = Text::from(Span::styled(words, look(Style::Bold)));
    if let Some(why) = &state.lost {
        line.push_span(Span::styled(format!(" · connection lost: {why}"), look(Style::Warn)));
    }
    line
}

/// How wide the columns are that are not always the same.
struct Widths {
    agent: usize,
    /// There is room for the id as well.
    id: bool,
}

impl Widths {
    /// Mark, status, elapsed and cost take 36 columns with the gaps between them, an id 38.
    fn of(columns: usize) -> Self {
        let id = columns >= 100;
        let rest = columns.saturating_sub(if id { 36 + 38 } else { 36 });
        Self { agent: rest.clamp(6, 40), id }
    }

    fn row(&self, mark: &str, cells: [&str; 4], id: &str) -> String {
        let [agent, status, elapsed, cost] = cells;
        let agent = cut(agent, self.agent);
        let pad = self.agent.saturating_sub(agent.chars().map(width).sum());
        let id = if self.id { id } else { "" };
        let row = format!("{mark} {agent}{}  {status:<9}  {elapsed:>8}  {cost:>9}  {id}", " ".repeat(pad));
        row.trim_end().to_owned()
    }

    fn names(&self) -> String {
        self.row(" ", ["AGENT", "STATUS", "ELAPSED", "COST"], "RUN")
    }
}

fn listed(state: &State, now: At, widths: &Widths, height: usize) -> Vec<Text<'static>> {
    if state.rows.is_empty() {
        let words = "no runs: start one with `lantern runs create`";
        return vec![Text::from(Span::styled(words, look(Style::Dim)))];
    }
    let at = state.at();
    // The chosen row is always among those that are seen.
    let above = at.unwrap_or_default().saturating_sub(height.saturating_sub(1));
    let seen = state.rows.iter().enumerate().skip(above).take(height);
    let line = |(index, row): (usize, &Row)| {
        let (mark, style) = mark(&row.status);
        let elapsed = row.since.map(|since| duration(row.until.unwrap_or(now).since(since)));
        let (elapsed, cost, id) = (elapsed.unwrap_or_default(), usd(row.cost), row.run.to_string());
        let words = widths.row(mark, [&row.agent, &row.status, &elapsed, &cost], &id);
        let chosen = at == Some(index);
        let look = if chosen { look(style).add_modifier(Modifier::REVERSED) } else { look(style) };
        Text::from(Span::styled(words, look))
    };
    seen.map(line).collect()
}

/// The rule above the run that is looked at.
fn titled(state: &State, columns: usize) -> Text<'static> {
    let row = state.at().and_then(|at| state.rows.get(at));
    let words = row.map(|row| format!("── {} · {} ", row.agent, row.run)).unwrap_or_default();
    let words = cut(&words, columns);
    let rest = columns.saturating_sub(words.chars().map(width).sum());
    Text::from(Span::styled(format!("{words}{}", "─".repeat(rest)), look(Style::Dim)))
}

/// The last lines of the run, or those before, as far as it was scrolled back.
fn looked_at(state: &State, now: At, area: Rect) -> Vec<Text<'static>> {
    let Some(detail) = &state.detail else { return Vec::new() };
    let lines = detail.lines(now, usize::from(area.width));
    let height = usize::from(area.height);
    let most = lines.len().saturating_sub(height);
    let first = most.saturating_sub(state.back);
    lines.iter().skip(first).take(height).map(|line| coloured(line, usize::from(area.width))).collect()
}

fn footer(state: &State, columns: usize) -> Text<'static> {
    let (style, words) = match (&state.asked, &state.said) {
        (Some(order), _) => (Style::Warn, format!("{} [y/N]", order.question())),
        (None, Some((style, words))) => (*style, words.clone()),
        (None, None) => (Style::Dim, KEYS.to_owned()),
    };
    // The end of a question says how it is answered.
    let answer = " [y/N]";
    let words = match words.strip_suffix(answer) {
        Some(question) => format!("{}{answer}", cut(question, columns.saturating_sub(answer.len()))),
        None => words,
    };
    Text::from(Span::styled(words, look(style)))
}

fn coloured(line: &Line, columns: usize) -> Text<'static> {
    let mut room = columns;
    let mut spans = Vec::new();
    for (style, text) in line.pieces() {
        let shown = cut(text, room);
        room = room.saturating_sub(shown.chars().map(width).sum());
        spans.push(Span::styled(shown, look(*style)));
        if room == 0 {
            break;
        }
    }
    Text::from(spans)
}

/// How a run stands, at a glance.
fn mark(status: &str) -> (&'static str, Style) {
    match status {
        "succeeded" => ("✔", Style::Good),
        "failed" => ("✘", Style::Bad),
        "cancelled" => ("■", Style::Dim),
        "paused" => ("◌", Style::Warn),
        "running" => ("▸", Style::Plain),
        _ => ("·", Style::Dim),
    }
}

fn look(style: Style) -> Look {
    let look = Look::default();
    match style {
        Style::Plain => look,
        Style::Dim => look.add_modifier(Modifier::DIM),
        Style::Bold => look.add_modifier(Modifier::BOLD),
        Style::Good => look.fg(Color::Green),
        Style::Bad => look.fg(Color::Red),
        Style::Warn => look.fg(Color::Yellow),
    }
}

#[cfg(test)]
mod tests;
