//! The line-based lists under `golden/`: one entry a line, `#` starts a comment, blank lines are nothing.

use crate::tree::Tree;

/// The entries of a list with their line numbers; none when the list does not exist.
pub(crate) fn entries<'a>(tree: &'a Tree, path: &str) -> Vec<(usize, &'a str)> {
    tree.file(path).map(read).unwrap_or_default()
}

/// The same from the list's text.
pub(crate) fn read(text: &str) -> Vec<(usize, &str)> {
    let without_comment = |line: &'_ str| line.find('#').map_or(line.len(), |at| at);
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.get(..without_comment(line)).unwrap_or_default().trim()))
        .filter(|(_, entry)| !entry.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        assert_eq!(read("# head\n\na.rs  # why\nb.rs\n"), [(3, "a.rs"), (4, "b.rs")]);
    }
}
