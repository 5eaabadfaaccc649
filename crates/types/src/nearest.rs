//! The word that somebody probably meant: for messages that refuse one that is not known.

/// The word that was probably meant, if one is near enough.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|known| distance(wrong, known)).filter(|known| 2 * distance(wrong, known) <= known.len())
}

/// How many letters must change to make one word of another, letter case apart (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((y, above), diagonal) in b.chars().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(left + 1).min(diagonal + usize::from(x != y)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_meant_when_at_most_half_of_it_is_wrong() {
        let known = || ["http.fetch", "calc", "input"].into_iter();
        for (wrong, meant) in [
            ("http.fecth", Some("http.fetch")),
            ("Clac", Some("calc")),
            ("imput", Some("input")),
            ("teleport", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, known()), meant, "{wrong}");
        }
    }
}
