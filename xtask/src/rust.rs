//! A Rust file taken apart, as far as the rules need it: code, comments, string literals, and which lines are tests.
//!
//! Invariant: `code` and `comments` have the same lines as the file, with everything else blanked, so a word found in
//! them is at its own line and is what it looks like. This is a lexer, not a parser: it knows no types and no paths.

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Repository path.
    pub(crate) path: String,
    /// The text, whole.
    pub(crate) text: String,
    code: String,
    comments: String,
    /// String literals: the line they start on and what is between the quotes, escapes as written.
    strings: Vec<(usize, String)>,
    /// For each line, whether only tests see it.
    tests: Vec<bool>,
}

impl Source {
    /// Takes `text` apart.
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let Lexed { code, comments, strings } = Lexer::new(text).run();
        let tests =
            if is_test_file(path) { vec![true; text.lines().count()] } else { test_lines(&code, text) };
        Self { path: path.to_owned(), text: text.to_owned(), code, comments, strings, tests }
    }

    /// Lines of code with their numbers, comments and string contents blanked; tests left out.
    pub(crate) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all_code().filter(|&(line, _)| !self.is_test(line))
    }

    /// The same for the lines that only tests see.
    pub(crate) fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all_code().filter(|&(line, _)| self.is_test(line))
    }

    /// The same for all lines.
    pub(crate) fn all_code(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code)
    }

    /// What the comments say, line by line.
    pub(crate) fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.comments)
    }

    /// String literals outside tests, with the line they start on.
    pub(crate) fn product_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings
            .iter()
            .filter(|(line, _)| !self.is_test(*line))
            .map(|(line, text)| (*line, text.as_str()))
    }

    /// Whether only tests see this line.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.tests.get(line.saturating_sub(1)).copied().unwrap_or(false)
    }

    /// The modules in files of their own that only tests see.
    pub(crate) fn test_modules(&self) -> impl Iterator<Item = &str> {
        self.test_code().filter_map(|(_, code)| {
            let declared = code.trim().strip_suffix(';')?;
            declared.rsplit_once("mod ").map(|(_, name)| name)
        })
    }

    /// Says that only tests see this file.
    pub(crate) fn mark_as_tests(&mut self) {
        self.tests.fill(true);
    }

    /// How many lines the file has, tests left out.
    pub(crate) fn product_lines(&self) -> usize {
        self.text.lines().count() - self.tests.iter().filter(|test| **test).count()
    }
}

/// Whether `word` stands in `text` with no letter, digit or underscore touching its ends.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|s| s.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|s| s.chars().next());
        let touches =
            |inner: Option<char>, outer: Option<char>| inner.is_some_and(ident) && outer.is_some_and(ident);
        !touches(word.chars().next(), before) && !touches(word.chars().next_back(), after)
    })
}

/// Part of an identifier.
pub(crate) fn ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Integration tests, benchmarks and the simulator.
fn is_test_file(path: &str) -> bool {
    path.starts_with("crates/sim/") || path.contains("/tests/") || path.contains("/benches/")
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Marks the lines from each `#[cfg(test)]`, or the same for the `testing` feature, to the end of the item below it.
fn test_lines(code: &str, text: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    for (at, _) in code.match_indices("#[cfg(") {
        let rest = code.get(at..).unwrap_or_default();
        let Some(attribute) = rest.find(']').and_then(|end| rest.get(..=end)) else { continue };
        let first = code.get(..at).unwrap_or_default().matches('\n').count();
        // What is between quotes is blanked in `code`.
        let harness = text.lines().nth(first).is_some_and(|line| line.contains("feature = \"testing\""));
        if has_word(attribute, "not") || !(harness || has_word(attribute, "test")) {
            continue;
        }
        let item = rest.get(attribute.len()..).unwrap_or_default();
        let length =
            rest.get(..attribute.len() + item_length(item)).unwrap_or_default().matches('\n').count();
        for mark in marks.iter_mut().skip(first).take(length + 1) {
            *mark = true;
        }
    }
    marks
}

/// Bytes up to the end of the item that starts here: its closing brace, or its semicolon.
fn item_length(item: &str) -> usize {
    let mut depth = 0_usize;
    let mut braced = false;
    for (at, c) in item.char_indices() {
        match c {
            '{' | '(' | '[' => {
                braced |= c == '{' && depth == 0;
                depth += 1;
            }
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && braced {
                    return at;
                }
            }
            ';' if depth == 0 => return at,
            _ => {}
        }
    }
    item.len()
}

#[derive(Default)]
struct Lexed {
    code: String,
    comments: String,
    strings: Vec<(usize, String)>,
}

/// Where a character belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Code,
    Comment,
    String,
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Lexed,
}

impl Lexer {
    fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), at: 0, line: 1, out: Lexed::default() }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn is(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    /// Moves over `n` characters and files each where it belongs.
    fn take(&mut self, n: usize, to: To) {
        for _ in 0..n {
            let Some(c) = self.peek(0) else { return };
            self.at += 1;
            let blank = if c == '\n' { '\n' } else { ' ' };
            self.line += usize::from(c == '\n');
            self.out.code.push(if to == To::Code { c } else { blank });
            self.out.comments.push(if to == To::Comment { c } else { blank });
            if to == To::String
                && let Some((_, text)) = self.out.strings.last_mut()
            {
                text.push(c);
            }
        }
    }

    fn run(mut self) -> Lexed {
        while let Some(c) = self.peek(0) {
            if self.is("//") {
                self.line_comment();
            } else if self.is("/*") {
                self.block_comment();
            } else if let Some(hashes) = self.raw_string_hashes() {
                self.raw_string(hashes);
            } else if c == '"' {
                self.string();
            } else if c == '\'' {
                self.quote();
            } else {
                self.take(1, To::Code);
            }
        }
        self.out
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.take(1, To::Comment);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.peek(0).is_some() {
            if self.is("/*") {
                depth += 1;
                self.take(2, To::Comment);
            } else if self.is("*/") {
                depth -= 1;
                self.take(2, To::Comment);
                if depth == 0 {
                    return;
                }
            } else {
                self.take(1, To::Comment);
            }
        }
    }

    /// `Some(n)` at the `r` of `r##"…"##`, with or without a `b` or `c` before it; `r#type` is no string.
    fn raw_string_hashes(&self) -> Option<usize> {
        if self.peek(0) != Some('r') || self.after_identifier() {
            return None;
        }
        let hashes = (1..256).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        (self.peek(1 + hashes) == Some('"')).then_some(hashes)
    }

    fn after_identifier(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.chars.get(at)).copied();
        match before(1) {
            Some('b' | 'c') => before(2).is_some_and(ident),
            Some(c) => ident(c),
            None => false,
        }
    }

    fn raw_string(&mut self, hashes: usize) {
        let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        self.take(2 + hashes, To::Code);
        self.out.strings.push((self.line, String::new()));
        while self.peek(0).is_some() && !self.is(&end) {
            self.take(1, To::String);
        }
        self.take(1 + hashes, To::Code);
    }

    fn string(&mut self) {
        self.take(1, To::Code);
        self.out.strings.push((self.line, String::new()));
        while let Some(c) = self.peek(0) {
            match c {
                '"' => break,
                '\\' => self.take(2, To::String),
                _ => self.take(1, To::String),
            }
        }
        self.take(1, To::Code);
    }

    /// A character literal, whose content is dropped, or a lifetime.
    fn quote(&mut self) {
        let literal = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.take(1, To::Code);
        if !literal {
            return;
        }
        let escape = usize::from(self.peek(0) == Some('\\'));
        let length = (escape + 1..12).find(|ahead| self.peek(*ahead) == Some('\'')).unwrap_or(0);
        for _ in 0..length {
            self.at += 1;
            self.out.code.push(' ');
            self.out.comments.push(' ');
        }
        self.take(1, To::Code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::read("crates/a/src/lib.rs", text).code
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        for (text, want) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"b \\\" c\") g", "f(\"      \") g"),
            ("r#\"a\"b\"# c", "r#\"   \"# c"),
            ("br\"x\" y", "br\" \" y"),
            ("r#type x", "r#type x"),
            ("'\"' x '\\'' y", "' ' x '  ' y"),
            ("&'a str, 'b'", "&'a str, ' '"),
            ("'\\u{1F600}' z", "'         ' z"),
            ("\"// no comment\" x", "\"             \" x"),
        ] {
            assert_eq!(code(text), want, "{text}");
        }
    }

    #[test]
    fn string_literals_keep_their_lines() {
        let source = Source::read("crates/a/src/lib.rs", "x\n\"UPDATE\n  runs\" \"b\"");
        let strings: Vec<_> = source.product_strings().collect();
        assert_eq!(strings, [(2, "UPDATE\n  runs"), (3, "b")]);
    }

    #[test]
    fn test_items_are_marked_to_their_end() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { \"}\"; }\n}\nfn c() {}\n#[cfg(test)]\nuse d;\nfn e() {}\n#[cfg(not(test))]\nfn f() {}\n";
        let source = Source::read("crates/a/src/lib.rs", text);
        let product: Vec<usize> = source.product_code().map(|(line, _)| line).collect();
        assert_eq!(product, [1, 6, 9, 10, 11]);
        assert_eq!(source.product_lines(), 5);
        assert!(Source::read("crates/a/tests/it/main.rs", text).product_code().next().is_none());
        let harness =
            "#[cfg(feature = \"testing\")]\npub mod testing;\n#[cfg(feature = \"wasm\")]\nmod wasm;\n";
        let source = Source::read("crates/a/src/lib.rs", harness);
        assert_eq!(source.test_modules().collect::<Vec<_>>(), ["testing"]);
        assert_eq!(source.product_code().count(), 2);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("a::Instant::now()", "Instant::now"));
        assert!(!has_word("MyInstant::now", "Instant::now"));
        assert!(!has_word("std::fsync", "std::fs"));
        assert!(has_word("std::fs::read", "std::fs"));
        assert!(has_word("x.expose()", ".expose()"));
    }
}
