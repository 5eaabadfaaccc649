//! Reads the pages whose addresses the question names, through `http.fetch`, and extracts what they say.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Plan;
use super::summary;
use super::transcript::{Transcript, longest, quoted};

const FETCH: &str = "http__fetch";
const PAGES_MAX: usize = 5;
const SENTENCES: usize = 3;

/// Applies when `http.fetch` is offered and the question names at least one address.
pub(super) fn plan(transcript: &Transcript<'_>) -> Option<Plan> {
    let urls = urls(&transcript.question);
    if urls.is_empty() || !transcript.offers(FETCH) {
        return None;
    }
    let calls: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    match transcript.results(FETCH, &calls, 1) {
        Ok(results) => Some(Plan::Say(report(&urls, &results))),
        Err(ask) => Some(ask),
    }
}

/// The addresses in a text, each once, without the punctuation that follows them.
fn urls(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    let breaks = |c: char| c.is_whitespace() || "\"<>`|{}[]\\^".contains(c);
    for word in text.split(breaks) {
        let start = word.find("https://").or_else(|| word.find("http://"));
        let Some(url) = start.and_then(|at| word.get(at..)) else { continue };
        let url = url.trim_end_matches(|c| ".,;:!?')*_".contains(c));
        let host = url.split_once("://").map_or("", |(_, host)| host);
        if !host.is_empty() && !found.contains(&url) && found.len() < PAGES_MAX {
            found.push(url);
        }
    }
    found
}

fn report(urls: &[&str], results: &[&str]) -> String {
    let mut text = String::new();
    for (url, result) in urls.iter().zip(results) {
        _ = write!(text, "## {url}\n\n{}\n\n", page(result));
    }
    text.truncate(text.trim_end().len());
    text
}

fn page(result: &str) -> String {
    let parsed: Value = serde_json::from_str(result).unwrap_or_default();
    let body = ["body", "text", "content"].iter().find_map(|field| parsed.get(field)?.as_str());
    let body = body.or_else(|| longest(&parsed).filter(|_| parsed.get("error").is_none()));
    match body.map(without_markup).filter(|text| !text.trim().is_empty()) {
        Some(text) => summary::top(&text, SENTENCES).join(" "),
        None => format!("The tool answered {}", quoted(result)),
    }
}

/// The text of a page: tags become spaces, scripts and styles disappear, the commonest entities are read.
fn without_markup(page: &str) -> String {
    if !page.contains("</") {
        return page.to_owned();
    }
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        rest = after_tag(tag);
    }
    text.push_str(rest);
    [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text, |text, (entity, plain)| text.replace(entity, plain))
}

/// What follows the tag that starts here, or the whole element when it holds no text.
fn after_tag(tag: &str) -> &str {
    for (name, end) in [("script", "</script>"), ("style", "</style>")] {
        if tag.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            return tag.split_once(end).map_or("", |(_, rest)| rest);
        }
    }
    tag.split_once('>').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_a_text() {
        let text =
            "See https://a.example/x?y=1, (http://b.example) and <https://a.example/x?y=1>. https:// ftp://c";
        assert_eq!(urls(text), ["https://a.example/x?y=1", "http://b.example"]);
        let many: Vec<String> = (0..9).map(|n| format!("http://h{n}")).collect();
        assert_eq!(urls(&many.join(" ")).len(), PAGES_MAX);
    }

    #[test]
    fn pages_lose_their_markup() {
        let page = "<html><script>var x = '<p>';</script><style>p{}</style><p>Fish &amp; chips.</p></html>";
        assert_eq!(without_markup(page).trim(), "Fish & chips.");
        assert_eq!(without_markup("a < b"), "a < b");
        assert_eq!(without_markup("</p").trim(), "");
    }

    #[test]
    fn results_that_are_no_page_are_quoted() {
        assert_eq!(page(r#"{"error":"egress_denied"}"#), r#"The tool answered “{"error":"egress_denied"}”"#);
        assert_eq!(page("oops"), "The tool answered “oops”");
        assert_eq!(page(r#"{"status":200,"body":"One fact."}"#), "One fact.");
    }
}
