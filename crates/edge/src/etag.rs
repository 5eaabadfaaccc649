//! Optimistic concurrency: a thing's revision as its `ETag`, and `If-Match` as the revision that an update is about. A
//! revision counts changes; the versions of an agent are something else. And what a reader has already: `If-None-Match`.
//!
//! Invariant: an update that names a revision happens on that revision or not at all. Without the header the last
//! writer wins, as the contract's clients expect. A read is answered 304 only where its tag is of all that it shows: an
//! answer without a tag of its own gets one of its bytes.

use axum::body::{self, Body};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::body::Body as _;
use lantern_types::Digest;

use crate::code::Code;
use crate::problem::{Error, Result};

/// An answer that carries the revision of what it shows.
#[derive(Debug)]
pub struct Versioned<T> {
    /// The answer.
    pub body: T,
    /// The revision.
    pub revision: i64,
}

impl<T: IntoResponse> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = self.body.into_response();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.revision)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// An answer whose tag says how something was set, and not all that is shown beside it: it is for `If-Match`, and is no reason to
/// answer 304.
#[derive(Debug)]
pub struct Live<T>(pub Versioned<T>);

#[derive(Clone, Copy)]
struct IsLive;

impl<T: IntoResponse> IntoResponse for Live<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.extensions_mut().insert(IsLive);
        response
    }
}

/// The largest answer that gets a tag of its bytes. Whoever reads more reads a file.
const TAGGED_BYTES_MAX: usize = 1 << 20;
/// How many letters of a digest are a tag.
const TAG_LETTERS: usize = 32;

/// What a reader has already, as `If-None-Match` lists it. What cannot be read is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(Vec<String>);

impl Seen {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let lines: Vec<&str> =
            headers.get_all(header::IF_NONE_MATCH).iter().map(|line| line.to_str().unwrap_or("?")).collect();
        let text = lines.join(",");
        if text.trim() == "*" { Self(vec!["*".to_owned()]) } else { Self(tags(&text).unwrap_or_default()) }
    }

    /// Whether it is this one: a tag that was made weak on the way is the same one.
    fn has(&self, own: &HeaderValue) -> bool {
        let own = own.to_str().unwrap_or_default();
        let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        self.0.iter().any(|tag| tag == "*" || bare(tag) == bare(own))
    }
}

/// The answer to a read: with a tag, where it is JSON that is there as a whole, and without what its reader has already.
pub(crate) async fn answered(response: Response, seen: &Seen) -> Response {
    if response.status() != StatusCode::OK || response.extensions().get::<IsLive>().is_some() {
        return response;
    }
    let response =
        if response.headers().contains_key(header::ETAG) { response } else { tagged(response).await };
    match response.headers().get(header::ETAG) {
        Some(tag) if seen.has(tag) => {
            let (mut parts, _) = response.into_parts();
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_TYPE);
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::empty())
        }
        _ => response,
    }
}

async fn tagged(response: Response) -> Response {
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let length = response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
    if !json || length.is_none_or(|length| length > TAGGED_BYTES_MAX) {
        return response;
    }
    let (mut parts, whole) = response.into_parts();
    let bytes = match body::to_bytes(whole, TAGGED_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return Error::internal(error).into_response(),
    };
    let mut letters = Digest::of(&bytes).to_string();
    letters.truncate(TAG_LETTERS);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{letters}\"")) {
        parts.headers.insert(header::ETAG, tag);
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Which revisions an update is about, as `If-Match` lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// Reads the header, in all its lines. Without it, or with `*`, any revision will do. A weak tag is a tag, and is none of
    /// ours: it matches nothing.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let lines: Vec<&str> =
            headers.get_all(header::IF_MATCH).iter().map(|line| line.to_str().unwrap_or("?")).collect();
        let text = lines.join(",");
        if lines.is_empty() || text.trim() == "*" {
            return Ok(Self(None));
        }
        let words = "If-Match: expected ETags of this resource in quotes, with commas between them, or *";
        tags(&text).map(|tags| Self(Some(tags))).ok_or_else(|| Error::new(Code::InvalidHeader, words))
    }

    /// Refuses an update of a revision that is not asked for.
    pub fn check(&self, revision: i64) -> Result<()> {
        let own = format!("\"{revision}\"");
        match &self.0 {
            Some(asked) if !asked.contains(&own) => {
                let asked = asked.join(", ");
                let words = format!("the revision (its ETag) is {own}, not {asked}; read it again");
                Err(Error::new(Code::VersionMismatch, words))
            }
            _ => Ok(()),
        }
    }
}

/// What a request that makes or changes a thing wants there to be before it: by `If-Match` one at a revision (`*`: at any), by
/// `If-None-Match: *` none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wished {
    /// Neither is said.
    Any,
    /// Nothing of that name.
    Absent,
    /// A thing at one of these revisions.
    Present(IfMatch),
}

impl Wished {
    /// Reads both headers. Tags in `If-None-Match` are for reading, and are refused here, as are both headers together.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let refuse = |words| Err(Error::new(Code::InvalidHeader, words));
        match (headers.contains_key(header::IF_MATCH), headers.get(header::IF_NONE_MATCH)) {
            (false, None) => Ok(Self::Any),
            (true, None) => IfMatch::of(headers).map(Self::Present),
            (false, Some(value)) if value == "*" => Ok(Self::Absent),
            (false, Some(_)) => refuse("If-None-Match: expected * here, for a thing that is not there yet"),
            (true, Some(_)) => refuse("If-Match and If-None-Match: say one of them"),
        }
    }

    /// Refuses what is there, at this revision, or is not.
    pub fn check(&self, there: Option<i64>) -> Result<()> {
        let refuse = |words| Err(Error::new(Code::VersionMismatch, words));
        match (self, there) {
            (Self::Any, _) | (Self::Absent, None) => Ok(()),
            (Self::Absent, Some(_)) => {
                refuse("it is there already, and If-None-Match says that it must not be")
            }
            (Self::Present(_), None) => refuse("it is not there, and If-Match says that it must be"),
            (Self::Present(asked), Some(revision)) => asked.check(revision),
        }
    }
}

/// The tags of a list, each as it stands; at least one. Empty places are no fault.
fn tags(mut text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Some(found).filter(|found| !found.is_empty());
        }
        let (weak, rest) = text.strip_prefix("W/").map_or(("", text), |rest| ("W/", rest));
        let (tag, rest) = rest.strip_prefix('"')?.split_once('"')?;
        if !tag.bytes().all(|byte| byte == 0x21 || byte > 0x22 && byte != 0x7f) {
            return None;
        }
        found.push(format!("{weak}\"{tag}\""));
        text = rest.trim_start_matches([' ', '\t']);
        if !text.is_empty() && !text.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

    #[tokio::test]
    async fn a_reader_is_not_sent_what_it_has() {
        let shown = || Json(serde_json::json!({ "a": 1 })).into_response();
        let own = answered(shown(), &Seen::default()).await.headers()[header::ETAG].clone();
        let own = own.to_str().unwrap();
        let weak = format!("W/{own}");
        let revision = || Versioned { body: Json(1), revision: 7 };
        for (response, has, want) in [
            (shown(), "", 200),
            (shown(), own, 304),
            (shown(), &weak, 304),
            (shown(), "\"other\", *", 200),
            (shown(), &format!("\"other\", {own}"), 304),
            (shown(), "*", 304),
            (shown(), "nonsense", 200),
            (Json(serde_json::json!({ "a": 2 })).into_response(), own, 200),
            (revision().into_response(), "\"7\"", 304),
            (revision().into_response(), "\"6\"", 200),
            (Live(revision()).into_response(), "\"7\"", 200),
            (crate::Created { body: 1, location: "/x".to_owned() }.into_response(), "*", 201),
            (([(header::CONTENT_TYPE, "text/plain")], "x").into_response(), "*", 200),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, has.parse().unwrap());
            let response = answered(response, &Seen::of(&headers)).await;
            assert_eq!(response.status().as_u16(), want, "{has}");
            let empty = body::to_bytes(response.into_body(), 1 << 10).await.unwrap().is_empty();
            assert_eq!(empty, want == 304, "{has}");
        }
    }

    #[test]
    fn a_revision_is_matched_or_refused() {
        let none = IfMatch::of(&HeaderMap::new()).unwrap();
        assert!(none.check(7).is_ok());
        for (lines, want) in [
            (&["*"][..], Some(true)),
            (&["\"7\""], Some(true)),
            (&[" \"7\" "], Some(true)),
            (&["\"6\", \"7\""], Some(true)),
            (&["\"6\"", "\"7\""], Some(true)),
            (&[",\"6\" ,, \"7\","], Some(true)),
            (&["\"6\""], Some(false)),
            (&["\"abc\""], Some(false)),
            (&["\"07\""], Some(false)),
            (&["\"\""], Some(false)),
            (&["\"a,7\""], Some(false)),
            (&["W/\"7\""], Some(false)),
            (&["7"], None),
            (&["\"7"], None),
            (&["\"6\" \"7\""], None),
            (&["*, \"7\""], None),
            (&["\"a b\""], None),
            (&[""], None),
            (&[","], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::IF_MATCH, HeaderValue::from_static(line));
            }
            let read = IfMatch::of(&headers).ok().map(|asked| asked.check(7).is_ok());
            assert_eq!(read, want, "{lines:?}");
        }
    }
}
