//! What `--input`, `--system` and `--value` mean: JSON, text, a file (`@path`) or standard input (`@-`).
//!
//! Invariant: no byte is dropped in silence. What is not UTF-8 is replaced and counted, and what is too big to be
//! sent is refused with its size. Sends nothing.

use std::fs::File;
use std::io::{self, Read};

use lantern_edge::json::{self, Fault};
use serde_json::{Value, json};

use crate::cli::api::mebibytes;
use crate::cli::failure::Failure;

/// More than any server takes; a guard against sending a whole disk.
const BYTES_MAX: u64 = 64 << 20;

/// Text from the command line or a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The text.
    pub(crate) text: String,
    /// The file it came from; `None` when it stood on the command line or came from standard input.
    pub(crate) path: Option<String>,
    /// What the user should know about it.
    pub(crate) note: Option<String>,
    from_file: bool,
}

/// Reads an argument: itself, or what the file it names holds.
pub(crate) fn read(argument: &str, stdin: impl Read) -> Result<Source, Failure> {
    let (bytes, path) = match argument.strip_prefix('@') {
        None => {
            let text = argument.to_owned();
            return Ok(Source { text, path: None, note: None, from_file: false });
        }
        Some("") => {
            return Err(Failure::usage("`@` names no file").hint("write @FILE, or @- for standard input"));
        }
        Some("-") => (bounded(stdin, "standard input")?, None),
        Some(path) => {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            (bounded(file, path)?, Some(path.to_owned()))
        }
    };
    let wrong = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    let name = path.as_deref().unwrap_or("standard input");
    let note = match wrong {
        0 => None,
        1 => Some(format!("{name} is not all UTF-8: 1 place was replaced by U+FFFD (\u{fffd})")),
        n => Some(format!("{name} is not all UTF-8: {n} places were replaced by U+FFFD (\u{fffd})")),
    };
    Ok(Source { text, path, note, from_file: true })
}

/// What a run gets. JSON is sent as it is; any other text as `{"text": "..."}`.
///
/// On the command line, what begins like JSON must be JSON: a forgotten quote is more likely than prose in braces.
/// In a file only an object or a list counts as JSON, unless its name ends in `.json`.
pub(crate) fn as_input(source: &Source) -> Result<Value, Failure> {
    let trimmed = source.text.trim_start();
    let named = source.path.as_deref().is_some_and(|path| {
        std::path::Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
    });
    let wanted = named || (!source.from_file && trimmed.starts_with(['{', '[', '"']));
    match json::read(trimmed) {
        Ok(value) if named || value.is_object() || value.is_array() || !source.from_file => Ok(value),
        Err(fault) if wanted || is_meant(&fault, trimmed, source) => {
            Err(refused(source.path.as_deref().unwrap_or("the input"), &fault))
        }
        _ => Ok(json!({ "text": source.text })),
    }
}

/// Whether a text is JSON for all that is wrong with it, and not words that begin like some.
fn is_meant(fault: &Fault, text: &str, source: &Source) -> bool {
    let alone = !source.from_file && !text.trim_end().contains(char::is_whitespace);
    !matches!(fault, Fault::Syntax(_)) && (alone || text.starts_with(['{', '[']))
}

fn refused(name: &str, fault: &Fault) -> Failure {
    let what = if fault.place().is_some() { "would be altered" } else { "is not JSON" };
    Failure::usage(format!("{name} {what}: {fault}"))
        .hint("to send it as text, put it into a file and use @file")
}

/// A signal's value or a step's output: JSON if it reads as JSON, else a string. On the command line, what begins like
/// JSON must be JSON, as for an input.
pub(crate) fn as_value(source: Source) -> Result<Value, Failure> {
    let trimmed = source.text.trim_start();
    match json::read(trimmed) {
        Ok(value) => Ok(value),
        Err(fault)
            if !source.from_file && trimmed.starts_with(['{', '[', '"'])
                || is_meant(&fault, trimmed, &source) =>
        {
            Err(refused("the value", &fault))
        }
        Err(_) => Ok(Value::String(source.text)),
    }
}

fn bounded(reader: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > BYTES_MAX {
        let max = mebibytes(BYTES_MAX);
        return Err(Failure::usage(format!("{name} has more than {max}, which no server takes"))
            .hint("send less: a part, a summary, or a link that a tool can fetch"));
    }
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {name}: {error}")).hint("name a file that is there and can be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(text: &str) -> Result<Value, Failure> {
        as_input(&read(text, io::empty()).unwrap())
    }

    fn file(path: &str, text: &str) -> Result<Value, Failure> {
        as_input(&Source { text: text.into(), path: Some(path.into()), note: None, from_file: true })
    }

    #[test]
    fn json_is_sent_as_it_is_and_text_is_wrapped() {
        for (text, want) in [
            ("{\"a\": 1}", json!({ "a": 1 })),
            ("[1]", json!([1])),
            ("7", json!(7)),
            ("hello there", json!({ "text": "hello there" })),
            ("", json!({ "text": "" })),
        ] {
            assert_eq!(inline(text), Ok(want), "{text}");
        }
        for (path, text, want) in [
            ("a.txt", " {\"a\": 1}\n", json!({ "a": 1 })),
            ("a.txt", "commit 1\n", json!({ "text": "commit 1\n" })),
            ("a.txt", "{ not json", json!({ "text": "{ not json" })),
            ("a.txt", "42", json!({ "text": "42" })),
            ("a.JSON", "42", json!(42)),
        ] {
            assert_eq!(file(path, text), Ok(want), "{path} {text}");
        }
    }

    #[test]
    fn what_should_be_json_must_be() {
        assert!(inline("{\"a\": 1").unwrap_err().message.contains("is not JSON"));
        assert!(file("a.json", "a: 1").unwrap_err().message.starts_with("a.json is not JSON"));
    }

    #[test]
    fn what_would_be_altered_is_not_sent() {
        let wide = "123456789012345678901234567890";
        for text in
            ["{\"a\": 1, \"a\": 2}".to_owned(), format!("[{wide}]"), wide.to_owned(), "1e999".to_owned()]
        {
            let failure = inline(&text).unwrap_err();
            assert!(failure.message.starts_with("the input would be altered: "), "{text}: {failure:?}");
            let failure = as_value(read(&text, io::empty()).unwrap()).unwrap_err();
            assert!(failure.message.starts_with("the value would be altered: "), "{text}: {failure:?}");
        }
        assert!(file("a.txt", "{\"a\": 1, \"a\": 2}").is_err());
        assert!(file("a.json", wide).is_err());
        for text in [wide, "1e999 stars", "99999999999999999999 bottles"] {
            assert_eq!(file("a.txt", text), Ok(json!({ "text": text })));
        }
        assert_eq!(
            inline("99999999999999999999 bottles"),
            Ok(json!({ "text": "99999999999999999999 bottles" }))
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_counted() {
        let read = read("@-", &b"\xef\xbb\xbfa\xffb\xfe\xfd"[..]).unwrap();
        assert_eq!(read.text, "a\u{fffd}b\u{fffd}\u{fffd}");
        assert!(read.note.unwrap().contains("standard input is not all UTF-8: 3 places"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = read("@no/such/file", io::empty()).unwrap_err();
        assert!(failure.message.starts_with("cannot read no/such/file"));
        assert!(read("@", io::empty()).is_err());
    }

    #[test]
    fn endless_input_is_refused() {
        let failure = read("@-", io::repeat(b'a')).unwrap_err();
        assert!(failure.message.contains("more than 64.0 MiB"));
    }

    #[test]
    fn values_are_json_or_strings() {
        let value = |text: &str| as_value(read(text, io::empty()).unwrap()).ok();
        assert_eq!(value("{\"ok\":true}"), Some(json!({ "ok": true })));
        assert_eq!(value("go on"), Some(json!("go on")));
        assert_eq!(value("{bad"), None, "a forgotten quote is more likely than prose in braces");
    }
}
