//! YAML, and JSON with it, into a [`Node`]: one document, no anchors, no tags, no name twice, bounded in depth and size.
//!
//! Anchors are refused rather than followed: a few lines of them stand for gigabytes. Words are read as YAML 1.2's core
//! schema has it, so `no` and `on` are text.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::doc::{Node, What};
use super::read::Problem;

/// How deep lists and mappings may be nested.
const DEPTH_MAX: usize = 16;
/// Bytes of a document.
const BYTES_MAX: usize = 256 * 1_024;

/// A mapping or list that is not complete.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, Node)>, Option<String>),
}

/// Reads one document.
pub fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > BYTES_MAX {
        return Err(Problem::at(0, "", format!("has {} bytes; the limit is {BYTES_MAX}", text.len())));
    }
    let (mut stack, mut whole, mut documents) = (Vec::new(), None, 0);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Problem::at(error.marker().line(), "", format!("is no YAML: {}", error.info()))
        })?;
        let line = span.start.line();
        let node = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(Problem::at(line, "", "has a second document; write one file for each"));
                }
                continue;
            }
            Event::Alias(_) => return Err(anchored(line)),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return Err(anchored(line));
            }
            Event::Scalar(_, _, _, Some(tag))
            | Event::SequenceStart(_, Some(tag))
            | Event::MappingStart(_, Some(tag)) => {
                return Err(Problem::at(line, "", format!("has the tag {tag}; write the value without")));
            }
            Event::Scalar(text, style, _, None) => Node { line, what: scalar(&text, style) },
            Event::SequenceStart(..) => {
                deeper(&stack, line)?;
                stack.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                deeper(&stack, line)?;
                stack.push(Open::Map(line, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::List(line, list)) => Node { line, what: What::List(list) },
                Some(Open::Map(line, map, _)) => Node { line, what: What::Map(map) },
                None => continue,
            },
            _ => continue,
        };
        place(&mut stack, &mut whole, node)?;
    }
    whole.ok_or_else(|| Problem::at(0, "", "is empty"))
}

fn deeper(stack: &[Open], line: usize) -> Result<(), Problem> {
    if stack.len() < DEPTH_MAX {
        return Ok(());
    }
    Err(Problem::at(line, "", format!("is nested deeper than {DEPTH_MAX}")))
}

/// Puts a complete value where it belongs.
fn place(stack: &mut [Open], whole: &mut Option<Node>, node: Node) -> Result<(), Problem> {
    match stack.last_mut() {
        None => *whole = Some(node),
        Some(Open::List(_, list)) => list.push(node),
        Some(Open::Map(_, map, name)) => match name.take() {
            Some(key) => map.push((key, node)),
            None => {
                let key = match node.what {
                    What::Text(text) | What::Number(text) => text,
                    What::Bool(value) => value.to_string(),
                    _ => return Err(Problem::at(node.line, "", "has a name that is no text")),
                };
                if map.iter().any(|(known, _)| *known == key) {
                    return Err(Problem::at(node.line, &key, "is said twice"));
                }
                *name = Some(key);
            }
        },
    }
    Ok(())
}

fn anchored(line: usize) -> Problem {
    Problem::at(line, "", "uses an anchor; write the value out")
}

fn scalar(text: &str, style: ScalarStyle) -> What {
    if style != ScalarStyle::Plain {
        return What::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => What::Null,
        "true" | "True" | "TRUE" => What::Bool(true),
        "false" | "False" | "FALSE" => What::Bool(false),
        text if is_number(text) => What::Number(text.to_owned()),
        text => What::Text(text.to_owned()),
    }
}

/// Numbers as JSON writes them.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
    let short = !whole.starts_with('0') || whole.len() == 1;
    digits(whole) && short && rest.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_reads_as_the_json_it_means() {
        for (text, want) in [
            ("a: 1\nb: [x, \"1\", 0.25, true, ~]\n", json!({"a": 1, "b": ["x", "1", 0.25, true, null]})),
            ("{\"a\": {\"b\": \"no\"}}", json!({"a": {"b": "no"}})),
            (
                "a: no\nb: 0123\nc: 1e3\nd: 12:30:45\n",
                json!({"a": "no", "b": "0123", "c": "1e3", "d": "12:30:45"}),
            ),
            ("---\na: |\n  two\n  lines\n", json!({"a": "two\nlines\n"})),
            ("a:\n", json!({"a": null})),
        ] {
            assert_eq!(parse(text).map(|node| node.to_json()), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_document_is_refused_with_its_line() {
        let deep = "[".repeat(17) + &"]".repeat(17);
        let long = "x".repeat(BYTES_MAX + 1);
        for (text, line, words) in [
            ("", 0, "is empty"),
            ("a: &x 1\nb: *x\n", 1, "uses an anchor"),
            ("a: 1\na: 2\n", 2, "is said twice"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("a: !!binary x\n", 1, "has the tag"),
            ("a: [1\nb: 2\n", 2, "is no YAML"),
            ("? [x]\n: 1\n", 1, "has a name that is no text"),
            (&deep, 1, "is nested deeper"),
            (&long, 0, "the limit is"),
        ] {
            let problem = parse(text).unwrap_err();
            let shown = text.chars().take(40).collect::<String>();
            assert_eq!((problem.line, problem.message.contains(words)), (line, true), "{shown}: {problem:?}");
        }
    }
}
