//! Words of a text and where they stand.

use crate::Fault;
use crate::ast::{Glob, Place};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A name or a word of the language.
    Name(String),
    /// Text, as a pattern: what stands for any text is marked.
    Text(Vec<Glob>),
    /// A number without a sign.
    Number(u64),
    /// Anything else.
    Sign(&'static str),
    /// The end.
    End,
}

/// Longer ones first.
const SIGNS: [&str; 26] = [
    "::", "==", "!=", "<=", ">=", "&&", "||", "(", ")", "{", "}", "[", "]", ",", ";", ".", "@", "<", ">",
    "!", "+", "-", "*", ":", "=", "?",
];

/// The words of a text.
pub(crate) fn words(text: &str) -> Result<Vec<(Place, Token)>, Fault> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if first == '"' {
            let (token, length) = quoted(text, at)?;
            words.push((at, token));
            at += length;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let length = rest.find(is_other).unwrap_or(rest.len());
            let name = rest.get(..length).unwrap_or_default();
            words.push((at, Token::Name(name.to_owned())));
            at += length;
        } else if first.is_ascii_digit() {
            let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let number = rest.get(..length).unwrap_or_default().parse::<u64>();
            // The largest one has a sign before it.
            let number = number.ok().filter(|n| *n <= i64::MIN.unsigned_abs());
            let number = number.ok_or_else(|| fault(text, at, "the number is too large"))?;
            words.push((at, Token::Number(number)));
            at += length;
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            words.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            return Err(fault(text, at, format!("{first:?} has no meaning here")));
        }
    }
    words.push((text.len(), Token::End));
    Ok(words)
}

/// A text in quotation marks, with the bytes that it takes.
fn quoted(text: &str, at: Place) -> Result<(Token, usize), Fault> {
    let inside = text.get(at + 1..).unwrap_or_default();
    let mut pieces = Vec::new();
    let mut chars = inside.char_indices();
    while let Some((n, char)) = chars.next() {
        match char {
            '"' => return Ok((Token::Text(pieces), n + 2)),
            '*' => pieces.push(Glob::Any),
            '\\' => {
                let wrong = || fault(text, at + 1 + n, "no such escape");
                let escaped = match chars.next().map(|(_, char)| char) {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some('0') => '\0',
                    Some(same @ ('\\' | '"' | '\'' | '*')) => same,
                    Some('x') => {
                        let digits: String = chars.by_ref().take(2).map(|(_, char)| char).collect();
                        hex(&digits).filter(char::is_ascii).ok_or_else(wrong)?
                    }
                    Some('u') => {
                        let opened = chars.next().is_some_and(|(_, char)| char == '{');
                        let digits: String = chars
                            .by_ref()
                            .map(|(_, char)| char)
                            .take_while(|char| *char != '}')
                            .take(7)
                            .collect();
                        hex(&digits).filter(|_| opened).ok_or_else(wrong)?
                    }
                    _ => return Err(wrong()),
                };
                pieces.push(Glob::Char(escaped));
            }
            other => pieces.push(Glob::Char(other)),
        }
    }
    Err(fault(text, at, "the text has no end"))
}

fn hex(digits: &str) -> Option<char> {
    let are = (1..=6).contains(&digits.len()) && digits.chars().all(|char| char.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| are).and_then(char::from_u32)
}

/// A fault at a byte of the text.
pub(crate) fn fault(text: &str, at: Place, words: impl Into<String>) -> Fault {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Fault { line: number(line), column: number(column), words: words.into() }
}
