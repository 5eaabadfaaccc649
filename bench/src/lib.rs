//! What a bench run says: figures, each beside a limit measured in the same run, and whether a bar was met.
//!
//! Invariant: a figure that was not measured carries its reason and never counts as met. Pure: measures nothing, reads
//! no clock and knows nothing of what is measured.

use serde::Serialize;

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Amount {
    /// The number.
    pub value: f64,
    /// What it counts: `steps/s`, `ms`, `MiB`, ….
    pub unit: &'static str,
}

impl Amount {
    /// `value` in `unit`.
    pub const fn new(value: f64, unit: &'static str) -> Self {
        Self { value, unit }
    }

    fn text(&self) -> String {
        format!("{} {}", short(self.value), self.unit)
    }
}

/// What a figure is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Its name.
    pub what: String,
    /// How much of it there was in the same run, or how much is allowed.
    pub amount: Amount,
}

/// What the ratio of figure to limit must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// How a figure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The bar was met.
    Met,
    /// It was not.
    Missed,
    /// There is no bar.
    NoBar,
    /// It was not measured.
    Skipped,
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// How much of it; `None` when it was not measured.
    pub figure: Option<Amount>,
    /// What it is compared with.
    pub limit: Option<Limit>,
    /// What the ratio must be.
    pub bar: Option<Bar>,
    /// How it was measured, or why it was not.
    pub note: String,
}

impl Line {
    /// A figure without a bar.
    pub fn figure(what: impl Into<String>, figure: Amount) -> Self {
        Self { what: what.into(), figure: Some(figure), limit: None, bar: None, note: String::new() }
    }

    /// Something that could not be measured here, and why.
    pub fn skipped(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), figure: None, limit: None, bar: None, note: why.into() }
    }

    /// The same line, compared with `limit`.
    pub fn against(self, what: impl Into<String>, amount: Amount, bar: Option<Bar>) -> Self {
        Self { limit: Some(Limit { what: what.into(), amount }), bar, ..self }
    }

    /// The same line with an explanation.
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Figure by limit; `None` when one of them is missing or the limit is 0.
    pub fn ratio(&self) -> Option<f64> {
        let (figure, limit) = (self.figure?, self.limit.as_ref()?);
        (limit.amount.value > 0.0).then(|| figure.value / limit.amount.value)
    }

    /// How the figure did. Without a ratio, a figure that must stay at most nothing (`0 repeats`) is compared itself.
    pub fn verdict(&self) -> Verdict {
        let Some(figure) = self.figure else { return Verdict::Skipped };
        let Some(bar) = self.bar else { return Verdict::NoBar };
        let met = match (bar, self.ratio()) {
            (Bar::AtLeast(least), Some(ratio)) => ratio >= least,
            (Bar::AtMost(most), Some(ratio)) => ratio <= most,
            (Bar::AtMost(_), None) => figure.value <= 0.0,
            (Bar::AtLeast(_), None) => false,
        };
        if met { Verdict::Met } else { Verdict::Missed }
    }
}

/// The machine of a report, in words and numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// Their name.
    pub processor: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The file system below the measured files.
    pub file_system: String,
    /// Appends of 512 bytes with `fdatasync`, one after another, in a second.
    pub fsyncs_per_s: f64,
    /// The load of the minute before the run.
    pub load_before: f64,
}

/// Everything a bench run says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// When it began.
    pub date: String,
    /// Of which source.
    pub commit: String,
    /// Where.
    pub machine: Machine,
    /// What was found.
    pub lines: Vec<Line>,
}

/// A machine that was busier than this, for each processor, when the run began gives preliminary figures.
const QUIET: f64 = 0.3;

impl Report {
    /// Whether something else was running, so that the figures are only preliminary.
    pub fn is_preliminary(&self) -> bool {
        let cores = u32::try_from(self.machine.cores).unwrap_or(u32::MAX);
        self.machine.load_before > QUIET * f64::from(cores)
    }

    /// The report as Markdown: a heading line and one table.
    pub fn markdown(&self) -> String {
        let Machine { cores, processor, memory_mib, file_system, fsyncs_per_s, load_before } = &self.machine;
        let mut text = format!(
            "{} at {}: {cores} cores ({processor}), {memory_mib} MiB, {file_system}, {} appends with fdatasync/s, \
             load {load_before:.2} before{}\n\n",
            self.date,
            self.commit,
            short(*fsyncs_per_s),
            if self.is_preliminary() { " (PRELIMINARY: the machine was busy)" } else { "" },
        );
        text.push_str("| what | measured | beside | ratio | bar | |\n|---|---|---|---|---|---|\n");
        for line in &self.lines {
            text.push_str(&row(line));
            text.push('\n');
        }
        text
    }
}

fn row(line: &Line) -> String {
    let figure = line.figure.map_or_else(|| "–".to_owned(), |figure| figure.text());
    let limit = line.limit.as_ref();
    let limit = limit.map_or_else(String::new, |limit| format!("{}: {}", limit.what, limit.amount.text()));
    let ratio = line.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let bar = match line.bar {
        Some(Bar::AtLeast(least)) => format!("≥ {least}"),
        Some(Bar::AtMost(most)) => format!("≤ {most}"),
        None => String::new(),
    };
    let verdict = match line.verdict() {
        Verdict::Met => "met",
        Verdict::Missed => "**missed**",
        Verdict::NoBar => "",
        Verdict::Skipped => "SKIPPED",
    };
    let what =
        if line.note.is_empty() { line.what.clone() } else { format!("{} ({})", line.what, line.note) };
    format!("| {what} | {figure} | {limit} | {ratio} | {bar} | {verdict} |")
}

/// Three digits that matter, and no decimals above a hundred.
fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 || magnitude.fract() == 0.0 => grouped(&format!("{value:.0}")),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `12345` as `12,345`.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle of what was measured; of an even number the mean of the two in the middle. 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

/// The value that this part of all stay within, by the nearest rank: of a hundred values and 0.99 the 99th. 0 of nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank among values in memory")]
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = f64::from(u32::try_from(sorted.len()).unwrap_or(u32::MAX));
    let rank = (count * part).ceil().max(1.0) as usize;
    sorted.get(rank - 1).or_else(|| sorted.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figure: f64, limit: f64, bar: Bar) -> Line {
        let amount = |value| Amount::new(value, "x");
        Line::figure("f", amount(figure)).against("l", amount(limit), Some(bar))
    }

    #[test]
    fn the_verdict_table() {
        for (line, want) in [
            (line(6.0, 10.0, Bar::AtLeast(0.5)), Verdict::Met),
            (line(4.9, 10.0, Bar::AtLeast(0.5)), Verdict::Missed),
            (line(15.0, 10.0, Bar::AtMost(1.5)), Verdict::Met),
            (line(15.1, 10.0, Bar::AtMost(1.5)), Verdict::Missed),
            (line(0.0, 0.0, Bar::AtMost(0.0)), Verdict::Met),
            (line(1.0, 0.0, Bar::AtMost(0.0)), Verdict::Missed),
            (line(1.0, 0.0, Bar::AtLeast(1.0)), Verdict::Missed),
            (Line::figure("f", Amount::new(1.0, "x")), Verdict::NoBar),
            (Line::skipped("f", "npm is missing"), Verdict::Skipped),
        ] {
            assert_eq!(line.verdict(), want, "{line:?}");
        }
    }

    #[test]
    fn the_median_ignores_the_ends() {
        for (values, want) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 100.0, 2.0], 3.0)]
        {
            assert!((median(&values) - want).abs() < f64::EPSILON, "{values:?}");
        }
    }

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (values, part, want) in [
            (vec![], 0.99, 0.0),
            (vec![5.0], 0.99, 5.0),
            (hundred.clone(), 0.99, 99.0),
            (hundred.clone(), 0.5, 50.0),
            (hundred.clone(), 1.0, 100.0),
            (hundred, 0.0, 1.0),
        ] {
            assert!((percentile(&values, part) - want).abs() < f64::EPSILON, "{part} of {}", values.len());
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, want) in [
            (0.0, "0"),
            (0.756, "0.76"),
            (7.0, "7"),
            (38.44, "38.4"),
            (999.6, "1,000"),
            (25_000.4, "25,000"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(short(value), want);
        }
    }

    #[test]
    fn a_report_reads_as_a_table() {
        let machine = Machine {
            cores: 2,
            processor: "Some CPU".into(),
            memory_mib: 8_000,
            file_system: "ext4".into(),
            fsyncs_per_s: 1_200.0,
            load_before: 0.7,
        };
        let lines =
            vec![line(30.0, 40.0, Bar::AtLeast(0.5)).note("how"), Line::skipped("peer", "npm is missing")];
        let report = Report { date: "2026-01-02".into(), commit: "abc".into(), machine, lines };
        assert_eq!(
            report.markdown(),
            "2026-01-02 at abc: 2 cores (Some CPU), 8000 MiB, ext4, 1,200 appends with fdatasync/s, \
             load 0.70 before (PRELIMINARY: the machine was busy)\n\n\
             | what | measured | beside | ratio | bar | |\n|---|---|---|---|---|---|\n\
             | f (how) | 30 x | l: 40 x | 0.75 | ≥ 0.5 | met |\n\
             | peer (npm is missing) | – |  |  |  | SKIPPED |\n"
        );
    }
}
