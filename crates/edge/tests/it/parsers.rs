//! What clients write in addresses, headers and bodies: read or refused, and what was read is written as it is read.

use axum::extract::FromRequestParts as _;
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_edge::etag::IfMatch;
use lantern_edge::sse::Resume;
use lantern_edge::{Page, Paging, Params, idempotency, json, prefer};
use lantern_types::At;
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

/// The parameters of a request; nothing when no request has this address.
fn params(query: &str) -> Option<lantern_edge::Result<Params>> {
    let request = http::Request::get(format!("/v1/runs?{query}")).body(()).ok()?;
    let (mut parts, ()) = request.into_parts();
    Params::from_request_parts(&mut parts, &()).now_or_never()
}

fn headers(name: &'static str, bytes: &[u8]) -> HeaderMap {
    let value = HeaderValue::from_bytes(bytes).ok();
    value.into_iter().map(|value| (HeaderName::from_static(name), value)).collect()
}

/// Pieces of queries: names in either casing and written in whichever way, values, and what belongs nowhere.
fn query() -> impl Strategy<Value = String> {
    const NAMES: &[&str] =
        &["cursor", "%63ursor", "limit", "from_seq", "fromSeq", "live", "label", "+cursor", ""];
    let value = prop_oneof![
        "[0-9]{0,20}",
        "[a-zA-Z0-9_-]{0,34}",
        "(%[0-9a-fA-F]{2}|%|\\+|[a-z]){0,8}",
        Just("true".to_owned()),
        "[é🐢]{0,3}",
    ];
    let pair = (proptest::sample::select(NAMES), "=?", value);
    let pair = pair.prop_map(|(name, is, value)| format!("{name}{is}{value}"));
    prop_oneof![
        4 => proptest::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join("&")),
        1 => "[ -~é]{0,40}",
    ]
}

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}|[\\x00-\\x1f\"\\\\]{0,4}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("\\PC{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_query_is_read_or_refused(query in query()) {
        if let Some(Ok(params)) = params(&query) {
            for name in ["cursor", "limit", "fromSeq", "live", "label"] {
                prop_assert!(params.all(name).all(|value| !value.is_empty() && !value.contains('\0')));
            }
            if let Ok(paging) = Paging::of(&params) {
                prop_assert!((1..=100).contains(&paging.limit));
            }
            if let Ok(resume) = Resume::of(&HeaderMap::new(), &params) {
                prop_assert!(i64::try_from(resume.from_seq).is_ok());
            }
        }
    }

    /// Who follows the link of a page asks for what comes after it, and for nothing else than before.
    #[test]
    fn the_next_page_begins_after_this_one(query in query(), micros in any::<i64>(), id in any::<u128>()) {
        let Some(Ok(params)) = params(&query) else { return Ok(()) };
        // A cursor that was given is another's here, and is refused: it is what the link replaces.
        let limit = params.at_most("limit", 100);
        let Ok(limit) = limit.map(|limit| limit.unwrap_or(100)) else { return Ok(()) };
        let key = (At::from_micros(micros), Uuid::from_u128(id));
        let page = Page::cut_or(Vec::<u8>::new(), Some(key), &Paging { limit, before: None }, &params, |_| key);
        let response = page.into_response();
        let link = std::str::from_utf8(response.headers()[header::LINK].as_bytes()).unwrap();
        let link = link.strip_prefix("</v1/runs?").and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).unwrap();
        let next = self::params(link).unwrap().unwrap();
        let asked = Paging::of(&next);
        prop_assert!(asked.is_ok(), "{}", link);
        let asked = asked.unwrap();
        prop_assert_eq!((asked.before, asked.limit), (Some(key), limit), "{}", link);
        for name in ["label", "live", "fromSeq"] {
            let (before, after): (Vec<_>, Vec<_>) = (params.all(name).collect(), next.all(name).collect());
            prop_assert_eq!(before, after, "{}", link);
        }
    }

    #[test]
    fn any_header_is_read_or_refused(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "(\"|wait=|W/|[0-9]{1,20}|[,;= *\\\\-]|[a-z]){0,8}".prop_map(String::into_bytes),
        ],
    ) {
        let headed = headers("if-match", &bytes);
        if let (false, Ok(asked)) = (headed.is_empty(), IfMatch::of(&headed)) {
            // It matches everything, or the one number that stands in it in quotes, or nothing.
            let text = String::from_utf8_lossy(&bytes);
            let matched = (0..10).filter(|revision| asked.check(*revision).is_ok());
            for revision in matched {
                prop_assert!(text.trim() == "*" || text.contains(&format!("\"{revision}\"")), "{}", text);
            }
        }
        prop_assert!(prefer::wait(&headers("prefer", &bytes)).is_none_or(|wait| wait <= prefer::WAIT_MAX));
        if let Ok(Some(key)) = idempotency::key(&headers("idempotency-key", &bytes)) {
            prop_assert_eq!(key.as_bytes(), bytes.as_slice());
        }
        let none = params("").unwrap().unwrap();
        if let Ok(resume) = Resume::of(&headers("last-event-id", &bytes), &none) {
            prop_assert!(i64::try_from(resume.from_seq).is_ok());
        }
    }

    /// Whatever else is preferred, and however it is quoted.
    #[test]
    fn a_wait_is_found_among_other_preferences(
        seconds in 0_i64..200,
        before in proptest::collection::vec(
            "[a-v-]{1,8}(=[a-z]{1,5}|=\"[a-z=,; ]{0,9}\")?(; ?[a-z]{1,4}=\"[,;=]{0,3}\")?", 0..4),
        quote in any::<bool>(),
    ) {
        let wait = if quote { format!("Wait=\"{seconds}\"") } else { format!("wait = {seconds}; x=y") };
        let line = before.into_iter().chain([wait]).collect::<Vec<_>>().join(", ");
        let found = prefer::wait(&headers("prefer", line.as_bytes()));
        prop_assert_eq!(found.map(|wait| wait.millis() / 1_000), Some(seconds.min(55)), "{}", line);
    }

    #[test]
    fn json_that_is_written_is_read(value in value()) {
        prop_assert_eq!(json::read(&value.to_string()).ok(), Some(value));
    }

    /// JSON with something else in one place: what is taken is what the library takes, and it says the same when it is
    /// written.
    #[test]
    fn any_text_is_json_or_refused(
        value in value(),
        at in any::<proptest::sample::Index>(),
        with in "|[\\[\\]{}:,\"\\\\0-9eE.+-]{1,3}|\\PC",
        cut in 0_usize..4,
    ) {
        let mut text = value.to_string();
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let from = at.index(places.len());
        let to = places.get(from + cut).copied().unwrap_or(text.len());
        text.replace_range(places[from]..to, &with);
        if let Ok(read) = json::read(&text) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(read.clone()), "{}", text);
            prop_assert_eq!(json::read(&read.to_string()).ok(), Some(read), "{}", text);
        }
    }
}
