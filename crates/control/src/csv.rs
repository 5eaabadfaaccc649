//! Tables for spreadsheets.
//!
//! Invariant: a cell never begins with what spreadsheets take for a formula.

/// A cell as RFC 4180 has it.
pub(crate) fn cell(text: &str) -> String {
    let text =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula_and_no_two_cells() {
        for (text, want) in [
            ("/v1/agents", "/v1/agents"),
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("-1,2", "\"'-1,2\""),
        ] {
            assert_eq!(cell(text), want);
        }
    }
}
