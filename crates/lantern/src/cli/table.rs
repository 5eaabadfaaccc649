//! Lists as columns under each other, made to fit the terminal.
//!
//! Invariant: what somebody copies out of a list, an id or a name, stands whole on one line. Where there is not room for
//! everything, other columns are shortened or left out. Pure: the terminal's width is an argument.

use comfy_table::{Table, presets};

use crate::cli::format::{cut, line, width};

/// Columns of the screen between two of the table.
const GAP: usize = 2;
/// Less of a text than this says nothing.
const SHORTEST: usize = 12;

/// What a column does when there is not room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Give {
    /// It stays as it is.
    Nothing,
    /// It is shortened, and left out when that is not enough.
    Length,
    /// It is left out.
    Way,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    give: Give,
}

impl Column {
    /// A column that is always there, whole.
    pub(crate) const fn whole(name: &'static str) -> Self {
        Self { name, give: Give::Nothing }
    }

    /// A column of text, of which the beginning is worth something.
    pub(crate) const fn text(name: &'static str) -> Self {
        Self { name, give: Give::Length }
    }

    /// A column that can be missing.
    pub(crate) const fn spare(name: &'static str) -> Self {
        Self { name, give: Give::Way }
    }
}

/// A table without borders, in at most `room` columns of the screen where its whole columns allow that.
pub(crate) fn table(columns: &[Column], rows: &[Vec<String>], room: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| line(cell)).collect()).collect();
    let widest = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| columns_of(cell));
        cells.max().unwrap_or_default().max(column.name.len())
    };
    let wants: Vec<(Give, usize)> =
        columns.iter().enumerate().map(|(index, column)| (column.give, widest(index, column))).collect();
    let widths = fit(&wants, room);
    let shown = |cells: Vec<&str>| -> Vec<String> {
        cells.iter().zip(&widths).filter_map(|(cell, width)| width.map(|width| cut(cell, width))).collect()
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(shown(columns.iter().map(|column| column.name).collect()));
    table.add_rows(rows.iter().map(|row| shown(row.iter().map(String::as_str).collect())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// How wide each column is shown; `None`: not at all. Spare columns go first and texts last, from the right.
fn fit(wants: &[(Give, usize)], room: Option<usize>) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = wants.iter().map(|(_, width)| Some(*width)).collect();
    let Some(room) = room else { return widths };
    let least = |(give, width): &(Give, usize)| match give {
        Give::Length => (*width).min(SHORTEST),
        Give::Nothing | Give::Way => *width,
    };
    let leave = |which: Give| wants.iter().enumerate().rev().filter(move |(_, (give, _))| *give == which);
    let mut leaving = leave(Give::Way).chain(leave(Give::Length)).map(|(index, _)| index);
    // What is over when every column that is left has the least it can do with; `None` when even that is too much.
    let spare = |widths: &[Option<usize>]| {
        let least =
            wants.iter().zip(widths).filter(|(_, width)| width.is_some()).map(|(want, _)| least(want));
        let (count, sum) = least.fold((0_usize, 0), |(count, sum), width| (count + 1, sum + width));
        room.checked_sub(sum + GAP * count.saturating_sub(1))
    };
    let mut over = spare(&widths);
    while over.is_none() {
        let Some(gone) = leaving.next().and_then(|index| widths.get_mut(index)) else { break };
        *gone = None;
        over = spare(&widths);
    }
    let mut over = over.unwrap_or_default();
    for (want, width) in wants.iter().zip(&mut widths) {
        if let Some(width) = width {
            let more = width.saturating_sub(least(want)).min(over);
            *width = least(want) + more;
            over -= more;
        }
    }
    widths
}

fn columns_of(text: &str) -> usize {
    text.chars().map(width).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_safe() {
        let columns = [Column::whole("NAME"), Column::text("TEXT")];
        let rows = vec![
            vec!["digest".to_owned(), "a\u{1b}[31m".to_owned()],
            vec!["a-longer-name".to_owned(), "b".to_owned()],
        ];
        let want = "NAME           TEXT\ndigest         a [31m\na-longer-name  b";
        assert_eq!(table(&columns, &rows, None), want);
        assert_eq!(table(&columns, &[], None), "NAME  TEXT");
    }

    #[test]
    fn ids_stay_whole_and_the_rest_gives_way() {
        use Give::{Length, Nothing, Way};
        // id, text, id, spare, spare
        let wants = [(Nothing, 36), (Length, 30), (Nothing, 9), (Way, 6), (Way, 20)];
        for (room, want) in [
            (None, [Some(36), Some(30), Some(9), Some(6), Some(20)]),
            (Some(200), [Some(36), Some(30), Some(9), Some(6), Some(20)]),
            (Some(109), [Some(36), Some(30), Some(9), Some(6), Some(20)]),
            (Some(108), [Some(36), Some(29), Some(9), Some(6), Some(20)]),
            (Some(91), [Some(36), Some(12), Some(9), Some(6), Some(20)]),
            (Some(90), [Some(36), Some(30), Some(9), Some(6), None]),
            (Some(80), [Some(36), Some(23), Some(9), Some(6), None]),
            (Some(68), [Some(36), Some(19), Some(9), None, None]),
            (Some(60), [Some(36), None, Some(9), None, None]),
            (Some(20), [Some(36), None, Some(9), None, None]),
        ] {
            assert_eq!(fit(&wants, room), want, "{room:?}");
        }
    }

    #[test]
    fn lists_fit_common_terminals() {
        let id = "018f0000-0000-7000-8000-000000000001";
        let columns =
            [Column::whole("NAME"), Column::whole("ID"), Column::text("TEXT"), Column::spare("CREATED")];
        let text = "one two three four five six seven eight nine ten 日本語".to_owned();
        let row = vec!["digest".to_owned(), id.to_owned(), text, "2026-09-21 14:13:20Z".to_owned()];
        for room in [60, 80, 100, 120] {
            let shown = table(&columns, std::slice::from_ref(&row), Some(room));
            assert_eq!(shown.lines().count(), 2, "{shown}");
            assert!(shown.contains(id) && shown.lines().all(|line| columns_of(line) <= room), "{shown}");
        }
    }
}
