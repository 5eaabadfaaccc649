//! Golden cases of the conversions, in `tests/golden/FAMILY/`. `UPDATE=1` rewrites what is expected.
//!
//! Every request, reply and stream of one family is shown on all five, with what was left out. Streams are cut at every
//! byte.

use std::path::{Path, PathBuf};

use lantern_net::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lantern_types::{Dur, Failure};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::golden::expect;
use super::{
    Decoder, Encoder, Problem, ProblemKind, Stamp, Written, read_reply, read_request, write_reply,
    write_request,
};
use crate::Family;
use crate::frames::{Message, Reader};
use crate::neutral::{Assembly, Content, Delta, Finish, Json, Opening, Part, Reply, Request};
use crate::vendor::{VENDORS, errors, vendor};

/// Who speaks a family, for the cases.
const SPEAKERS: [(Family, &str); 5] = [
    (Family::Chat, "openai"),
    (Family::Responses, "openai-responses"),
    (Family::Messages, "anthropic"),
    (Family::Generate, "gemini"),
    (Family::Converse, "bedrock"),
];

fn stamp() -> Stamp {
    Stamp { id: "id_1".to_owned(), created: 1_700_000_000, model: String::new(), stream_usage: true }
}

#[test]
fn requests_on_every_wire() {
    for (family, path) in inputs("ask", ".in.json") {
        let body = std::fs::read(&path).unwrap();
        let want = match read_request(family, &body) {
            Ok(request) => {
                let request = asked(family, request);
                comes_back(family, &request, &path);
                on_every_wire(|to| {
                    let name = SPEAKERS.iter().find(|(family, _)| *family == to).unwrap().1;
                    shown(write_request(&request, &vendor(name).unwrap().dialect))
                })
            }
            Err(malformed) => json!({"malformed": {"at": malformed.at, "message": malformed.message}}),
        };
        expect(&path, ".in.json", &want);
    }
}

/// The path names the model in two families.
fn asked(family: Family, mut request: Request) -> Request {
    match family {
        Family::Generate => request.model = "gemini-3-pro".to_owned(),
        Family::Converse => request.model = "anthropic.claude-sonnet-4-5-v1:0".to_owned(),
        _ => {}
    }
    request
}

/// What a family says comes back from its own writer with the same meaning, unknown fields included, unless the writer
/// said that something is lost.
fn comes_back(family: Family, request: &Request, path: &Path) {
    let name = SPEAKERS.iter().find(|(speaker, _)| *speaker == family).unwrap().1;
    let written = write_request(request, &vendor(name).unwrap().dialect);
    if !written.ignored.is_empty() {
        return;
    }
    let again = asked(family, read_request(family, &written.body).unwrap());
    let again = Request { stream: request.stream, stream_usage: request.stream_usage, ..again };
    assert_eq!(&again, request, "{}", path.display());
}

#[test]
fn chat_requests_in_every_dialect() {
    let body = std::fs::read(folder().join("chat/ask/tools.in.json")).unwrap();
    let mut request = read_request(Family::Chat, &body).unwrap();
    let more = std::fs::read(folder().join("chat/ask/structured.in.json")).unwrap();
    let more = read_request(Family::Chat, &more).unwrap();
    (request.output, request.thinking) = (more.output, more.thinking);
    let text =
        read_request(Family::Chat, &std::fs::read(folder().join("chat/ask/text.in.json")).unwrap()).unwrap();
    (request.sampling, request.user, request.max_tokens) = (text.sampling, text.user, Some(64));
    let in_each = |request: &Request| {
        let dialects = VENDORS.iter().filter(|vendor| vendor.dialect.family == Family::Chat);
        let written =
            dialects.map(|vendor| (vendor.name.to_owned(), shown(write_request(request, &vendor.dialect))));
        Value::Object(written.collect())
    };
    expect(&folder().join("dialects.in.json"), ".in.json", &in_each(&request));
    let thoughts = std::fs::read(folder().join("chat/ask/reasoning.in.json")).unwrap();
    let thoughts = read_request(Family::Chat, &thoughts).unwrap();
    expect(&folder().join("dialects_thoughts.in.json"), ".in.json", &in_each(&thoughts));
}

#[test]
fn replies_on_every_wire() {
    for (family, path) in inputs("reply", ".body.json") {
        let body = std::fs::read(&path).unwrap();
        let want = match read_reply(family, &body, "asked") {
            Ok(reply) => {
                let mut want = on_every_wire(|to| shown(write_reply(to, &reply, &stamp())));
                want["finish"] = json!(format!("{:?}", reply.finish));
                want["usage"] = json!(format!("{:?}", reply.usage));
                // What a client of the same family is shown reads as the reply did.
                let own = write_reply(family, &reply, &stamp());
                let again = read_reply(family, &own.body, "asked").unwrap();
                assert_eq!(compact(again.parts), compact(reply.parts), "{}", path.display());
                assert_eq!((again.finish, again.usage), (reply.finish, reply.usage), "{}", path.display());
                want
            }
            Err(failure) => json!({"failure": told(&failure)}),
        };
        expect(&path, ".body.json", &want);
    }
}

#[test]
fn streams_on_every_wire_however_they_are_cut() {
    let mut streams = inputs("stream", ".sse");
    streams.extend(inputs("stream", ".events.json"));
    for (family, path) in streams {
        let bytes = stream_bytes(&path);
        let whole = decode(family, &[&bytes]);
        for cut in 0..=bytes.len() {
            assert_eq!(decode(family, &[&bytes[..cut], &bytes[cut..]]), whole, "{} at {cut}", path.display());
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(family, &single), whole, "{}", path.display());
        let (deltas, end) = whole;
        let steps: Vec<String> = deltas.iter().map(|delta| format!("{delta:?}")).collect();
        let mut want = json!({"deltas": steps});
        match end {
            Ok(()) => {
                let reply = assembled(family, &deltas);
                for to in Family::ALL {
                    let told = encode(to, family, &deltas);
                    // The client of the other wire is told the same.
                    let (heard, end) = decode(to, &[&told]);
                    assert_eq!(end, Ok(()), "{} on {}", path.display(), to.name());
                    same_words(&reply, &assembled(to, &heard), &path, to);
                    want[to.name()] = frames(to, &told);
                }
            }
            Err(failure) => want["failure"] = told(&failure),
        }
        let suffix = if family == Family::Converse { ".events.json" } else { ".sse" };
        expect(&path, suffix, &want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A stream with a byte that is wrong comes to the same, however it is cut, and never to a panic.
    #[test]
    fn damaged_streams_come_to_the_same_however_they_are_cut(
        which in any::<Index>(), at in any::<Index>(), with in any::<u8>(), cuts in proptest::collection::vec(any::<Index>(), 0..5),
    ) {
        let mut streams = inputs("stream", ".sse");
        streams.extend(inputs("stream", ".events.json"));
        let (family, path) = &streams[which.index(streams.len())];
        let mut bytes = stream_bytes(path);
        let place = at.index(bytes.len());
        bytes[place] = with;
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let whole = decode(*family, &[&bytes]);
        prop_assert_eq!(&decode(*family, &pieces), &whole);
        if whole.1.is_ok() {
            let reply = assembled(*family, &whole.0);
            for to in Family::ALL {
                drop(encode(to, *family, &whole.0));
                drop(write_reply(to, &reply, &stamp()));
            }
        }
    }

    /// So does a request with a byte that is wrong: it is read and written on every wire, or refused.
    #[test]
    fn damaged_requests_are_read_or_refused(which in any::<Index>(), at in any::<Index>(), with in any::<u8>()) {
        let requests = inputs("ask", ".in.json");
        let (family, path) = &requests[which.index(requests.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let place = at.index(bytes.len());
        bytes[place] = with;
        if let Ok(request) = read_request(*family, &bytes) {
            for vendor in VENDORS {
                let written = write_request(&request, &vendor.dialect);
                prop_assert!(serde_json::from_slice::<Value>(&written.body).is_ok(), "{}", vendor.name);
            }
        }
    }
}

fn stream_bytes(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|ending| ending == "sse") {
        return bytes;
    }
    let mut out = Vec::new();
    for event in serde_json::from_slice::<Vec<Value>>(&bytes).unwrap() {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let kind = text("kind");
        let headers = vec![
            (format!(":{kind}-type"), text("type")),
            (":content-type".to_owned(), "application/json".to_owned()),
            (":message-type".to_owned(), kind),
        ];
        Message { headers, payload: event["payload"].to_string().into_bytes() }.write(&mut out);
    }
    out
}

/// The steps of a stream that comes in these pieces, and how it ended.
fn decode(family: Family, pieces: &[&[u8]]) -> (Vec<Delta>, Result<(), Failure>) {
    let (mut decoder, mut deltas) = (Decoder::new(family), Vec::new());
    for piece in pieces {
        if let Err(failure) = decoder.push_into(piece, &mut deltas) {
            return (deltas, Err(failure));
        }
    }
    let end = decoder.finish().map(|last| deltas.extend(last));
    (deltas, end)
}

fn encode(to: Family, from: Family, deltas: &[Delta]) -> Vec<u8> {
    let mut encoder = Encoder::new(to, from, stamp());
    deltas.iter().flat_map(|delta| encoder.push(delta)).collect()
}

fn assembled(family: Family, deltas: &[Delta]) -> Reply {
    let mut assembly = Assembly::default();
    for delta in deltas {
        assembly.take(delta).unwrap();
    }
    assembly.finish(family, "asked").unwrap()
}

fn same_words(said: &Reply, heard: &Reply, path: &Path, to: Family) {
    let calls = |reply: &Reply| {
        let calls = reply.calls().map(|call| {
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
            (call.name.clone(), call.id.clone(), arguments)
        });
        calls.collect::<Vec<_>>()
    };
    let place = format!("{} on {}", path.display(), to.name());
    assert_eq!(calls(heard), calls(said), "{place}");
    // Words for not answering are words where there is no other way to say them.
    if !said.text().is_empty() {
        assert_eq!(heard.text(), said.text(), "{place}");
    }
    if let Some(usage) = said.usage {
        let heard = heard.usage.unwrap();
        assert_eq!(
            (heard.input, heard.output, heard.cache_read),
            (usage.input, usage.output, usage.cache_read),
            "{place}"
        );
    }
}

/// Parts with JSON in one form, and without what a front door says of its own: as values they have no spaces.
fn compact(mut parts: Vec<Part>) -> Vec<Part> {
    for part in &mut parts {
        part.extra.clear();
        match &mut part.content {
            Content::Call(call) => {
                let value: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
                call.arguments = value.to_string();
            }
            Content::Other(json) => *json = Json::of(&json.value()),
            _ => {}
        }
    }
    parts
}

/// A stream as people can read it.
fn frames(family: Family, bytes: &[u8]) -> Value {
    if family != Family::Converse {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        return json!(text.split_terminator("\n\n").collect::<Vec<_>>());
    }
    let mut messages = Vec::new();
    Reader::new(1 << 20).push(bytes, &mut messages).unwrap();
    let shown = messages.iter().map(|message| {
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        json!({"headers": message.headers, "payload": payload})
    });
    json!(shown.collect::<Vec<_>>())
}

#[test]
fn a_stream_that_is_stopped_ends_cleanly_and_one_that_fails_says_so() {
    let start = [
        Delta::Start { id: None, model: Some("m".to_owned()) },
        Delta::Open { part: 0, what: Opening::Text },
        Delta::Add { part: 0, text: "Hel".to_owned() },
    ];
    let problem = Problem::new(ProblemKind::OverBudget, "the budget is used up");
    let mut want = json!({});
    for family in Family::ALL {
        let mut stopped = Encoder::new(family, Family::Chat, stamp());
        let mut bytes: Vec<u8> = start.iter().flat_map(|delta| stopped.push(delta)).collect();
        let end =
            [Delta::Close { part: 0 }, Delta::Finish { finish: Finish::Length, stop: None }, Delta::End];
        bytes.extend(end.iter().flat_map(|delta| stopped.push(delta)));
        let (heard, ended) = decode(family, &[&bytes]);
        assert_eq!(ended, Ok(()), "{}", family.name());
        let reply = assembled(family, &heard);
        assert_eq!((reply.text().as_str(), reply.finish), ("Hel", Finish::Length));
        let mut failed = Encoder::new(family, Family::Chat, stamp());
        let mut broken: Vec<u8> = start.iter().flat_map(|delta| failed.push(delta)).collect();
        let last = failed.fail(&problem);
        broken.extend(&last);
        let (_, end) = decode(family, &[&broken]);
        let failure = end.unwrap_err();
        assert!(failure.message.contains("used up"), "{}: {failure:?}", family.name());
        want[family.name()] = frames(family, &last);
    }
    expect(&folder().join("failing.in.json"), ".in.json", &want);
}

#[test]
fn errors_of_providers() {
    for (_, path) in inputs("error", ".in.json") {
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().unwrap() {
            let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
            headers.insert(name.parse::<HeaderName>().unwrap(), value);
        }
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        expect(
            &path,
            ".in.json",
            &told(&errors::refusal(status, &headers, case["body"].to_string().as_bytes())),
        );
    }
}

#[test]
fn problems_in_every_familys_words() {
    use ProblemKind::{
        Forbidden, Internal, Invalid, NotFound, OverBudget, RateLimited, Timeout, TooLarge, Unauthenticated,
        Unavailable,
    };
    let mut want = Map::new();
    for kind in [
        Invalid,
        Unauthenticated,
        Forbidden,
        NotFound,
        TooLarge,
        RateLimited,
        OverBudget,
        Unavailable,
        Timeout,
        Internal,
    ] {
        let problem = Problem {
            code: Some("our_code".to_owned()),
            param: (kind == Invalid).then(|| "messages".to_owned()),
            retry_after: (kind == RateLimited).then(|| Dur::from_millis(1_200)),
            request_id: Some("req_1".to_owned()),
            ..Problem::new(kind, "words")
        };
        let told = on_every_wire(|family| {
            let told = problem.told(family);
            let body: Value = serde_json::from_slice(&told.body).unwrap();
            json!({"status": told.status, "headers": told.headers, "body": body})
        });
        want.insert(format!("{kind:?}"), told);
    }
    expect(&folder().join("problems.in.json"), ".in.json", &Value::Object(want));
}

fn on_every_wire(show: impl Fn(Family) -> Value) -> Value {
    let shown = Family::ALL.into_iter().map(|family| (family.name().to_owned(), show(family)));
    Value::Object(shown.collect())
}

fn shown(written: Written) -> Value {
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    json!({"body": body, "ignored": written.ignored})
}

fn told(failure: &Failure) -> Value {
    json!({
        "code": failure.code, "message": failure.message, "acted": failure.acted,
        "retryable": failure.retryable, "retryAfterMs": failure.retry_after.map(Dur::millis),
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The inputs of one kind, with their families. There must be some: a wrong path would pass otherwise.
fn inputs(kind: &str, suffix: &str) -> Vec<(Family, PathBuf)> {
    let mut found = Vec::new();
    for family in Family::ALL {
        let files = std::fs::read_dir(folder().join(family.name()).join(kind)).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.to_str().unwrap().ends_with(suffix));
        found.extend(files.map(|path| (family, path)));
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    assert!(!found.is_empty());
    found
}
