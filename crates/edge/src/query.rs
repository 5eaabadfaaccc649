//! Query strings and path segments, read with the same strictness as bodies: what cannot be meant is refused.
//!
//! Invariant: text that comes out of here has no NUL. A path segment that cannot name anything is a 404, never a 400,
//! because a path is a name and not an argument.

use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Query, Request};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::code::Code;
use crate::fields::snake;
use crate::openapi::Param;
use crate::problem::{Error, Result};
use crate::request::Ignored;
use crate::ticket;

/// A query's parameters, in either casing. Unknown ones are ignored, and named in the answer where the route says what it takes; of
/// one given twice the first counts. Unless the route says [`only`](Params::only).
#[derive(Debug)]
pub struct Params {
    pairs: Vec<(String, String)>,
    path_and_query: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|error| {
            Error::new(Code::InvalidQuery, "the query string cannot be read").caused_by(error)
        })?;
        // What is no text was replaced by a mark above, and would be looked for as such.
        if let Some(pair) = parts.uri.query().unwrap_or_default().split('&').find(|pair| !is_text(pair)) {
            return Err(wrong(pair.split('=').next().unwrap_or_default(), "expected UTF-8"));
        }
        let path_and_query =
            parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let params = Self { pairs: pairs.0, path_and_query };
        match params.pairs.iter().find(|(_, value)| value.contains('\0')) {
            Some((name, _)) => Err(wrong(name, "must not contain NUL characters")),
            None => Ok(params),
        }
    }
}

/// Other names of what pages are asked for by.
pub(crate) const PAGE_SIZE: &str = "pageSize";
pub(crate) const PAGE_TOKEN: &str = "pageToken";

/// Names those parameters of a query in the answer that the route does not take. A ticket is taken on its way in.
pub(crate) fn tell_unread(request: &Request, known: &[Param]) {
    let Some(query) = request.uri().query() else { return };
    let Some(ignored) = request.extensions().get::<Ignored>() else { return };
    let taken = |name: &str| {
        let other = [PAGE_SIZE, PAGE_TOKEN].into_iter().chain(ticket::PARAMS);
        known.iter().map(|param| param.name).chain(other).any(|known| name == known || name == snake(known))
    };
    // Nothing that is taken needs an escape, and what is left is named as it was written.
    let names = query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty());
    let unread =
        |name: &&str| !taken(name) && percent_decode_str(name).decode_utf8().is_ok_and(|name| !taken(&name));
    ignored.add(names.filter(unread).map(ToOwned::to_owned).collect());
}

impl Params {
    /// A parameter as text; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        let snake = snake(name);
        let found = self.pairs.iter().find(|(key, _)| key == name || *key == snake);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter that may be given several times; empty ones count as absent.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let snake = snake(name);
        let found = self.pairs.iter().filter(move |(key, _)| key == name || *key == snake);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Refuses a parameter that is none of these, and one that stands `once` in the list and says two things.
    pub fn only(&self, once: &[&str], often: &[&str]) -> Result<()> {
        let known = |key: &str| once.iter().chain(often).any(|name| key == *name || key == snake(name));
        if let Some((key, _)) = self.pairs.iter().find(|(key, _)| !known(key)) {
            let key: String = key.chars().take(64).collect();
            let names: Vec<&str> = once.iter().chain(often).copied().collect();
            return Err(wrong(
                &key,
                format!("there is no such parameter here; there are {}", names.join(", ")),
            ));
        }
        let twice = once.iter().find(|name| {
            let mut values = self.all(name);
            let first = values.next();
            values.any(|value| Some(value) != first)
        });
        twice.map_or(Ok(()), |name| Err(wrong(name, "is given twice, with different values")))
    }

    /// A parameter that `T` reads.
    pub fn parsed<T: FromStr>(&self, name: &str, want: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| wrong(name, format!("expected {want}")))
    }

    /// A whole number in `range`.
    pub fn integer(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>> {
        let want = format!("a whole number from {} to {}", range.start(), range.end());
        match self.parsed::<u32>(name, &want)? {
            Some(n) if !range.contains(&n) => Err(wrong(name, format!("expected {want}"))),
            read => Ok(read),
        }
    }

    /// A whole number from 1 on; what is more than `most` is `most`.
    pub fn at_most(&self, name: &str, most: u32) -> Result<Option<u32>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.bytes().all(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte != b'0');
        // A number that does not fit is larger than any limit.
        if number {
            Ok(Some(text.parse().unwrap_or(most).min(most)))
        } else {
            Err(wrong(name, "expected a whole number from 1 on"))
        }
    }

    /// One of these words.
    pub fn word(&self, name: &str, words: &[&str]) -> Result<Option<&str>> {
        match self.text(name) {
            Some(text) if !words.contains(&text) => {
                Err(wrong(name, format!("expected one of {}", words.join(", "))))
            }
            found => Ok(found),
        }
    }

    /// The request's path.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The request's path and query with another `cursor`.
    pub(crate) fn with_cursor(&self, cursor: &str) -> String {
        let (path, query) = self.path_and_query.split_once('?').unwrap_or((&self.path_and_query, ""));
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        // However its name is written: one that stayed would be the first, and count.
        pairs.retain(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            percent_decode_str(name).decode_utf8_lossy() != "cursor"
        });
        let cursor = format!("cursor={cursor}");
        pairs.push(&cursor);
        format!("{path}?{}", pairs.join("&"))
    }
}

/// Whether what the percent signs of a query stand for is text.
fn is_text(query: &str) -> bool {
    percent_decode_str(query).decode_utf8().is_ok()
}

pub(crate) fn wrong(name: &str, message: impl Into<String>) -> Error {
    let message = message.into();
    Error::new(Code::InvalidQuery, format!("{name}: {message}")).with_field(name, message)
}

/// The path's variable segments, decoded.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let nothing = |rejection: PathRejection| {
            Error::new(Code::RouteNotFound, format!("there is nothing at {}", parts.uri.path()))
                .caused_by(rejection)
        };
        read.map(|axum::extract::Path(segments)| Self(segments)).map_err(nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn params(uri: &str) -> Result<Params> {
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        Params::from_request_parts(&mut parts, &()).now_or_never().unwrap()
    }

    #[test]
    fn parameters_are_read_or_refused() {
        let read = params("/v1/runs?session_id=x&limit=7&limit=9&status=&q=a%20b").unwrap();
        assert_eq!(read.text("sessionId"), Some("x"));
        assert_eq!(read.text("status"), None);
        assert_eq!(read.text("q"), Some("a b"));
        assert_eq!(read.integer("limit", 1..=100).unwrap(), Some(7));
        assert_eq!(read.integer("limit", 8..=100).unwrap_err().code(), Code::InvalidQuery);
        assert!(read.parsed::<lantern_types::RunId>("sessionId", "an id").is_err());
        assert!(read.word("q", &["a", "b"]).is_err());
        assert!(params("/v1/runs?agent=%00").is_err());
        for (query, fine) in
            [("a=%ff", false), ("a=%c3", false), ("b=1&%ff=2", false), ("a=%c3%a4", true), ("a=%zz%", true)]
        {
            let read = params(&format!("/v1/runs?{query}")).map_err(|error| error.code());
            assert_eq!(read.err(), (!fine).then_some(Code::InvalidQuery), "{query}");
        }
        for (limit, want) in [
            ("1", Some(1)),
            ("050", Some(50)),
            ("51", Some(50)),
            ("99999999999999999999", Some(50)),
            ("0", None),
            ("-1", None),
            ("x", None),
        ] {
            let read = params(&format!("/v1/runs?limit={limit}")).unwrap().at_most("limit", 50);
            assert_eq!(read.ok().flatten(), want, "{limit}");
        }
        assert!(params("/v1/runs?limit=99999999999999999999").unwrap().integer("limit", 1..=5).is_err());
    }

    #[test]
    fn what_a_route_does_not_take_can_be_refused() {
        let only = |uri: &str| params(uri).unwrap().only(&["sessionId", "created[gte]"], &["label"]);
        for (query, wrong) in [
            ("session_id=1&label=a&label=b&created[gte]=x&created%5Bgte%5D=x", None),
            ("sessionId=1&session_id=1&limit=", Some("limit")),
            ("sessionId=1&session_id=2", Some("sessionId")),
            ("created[gt]=x", Some("created[gt]")),
            ("Label=a", Some("Label")),
            ("", None),
        ] {
            let refused = only(&format!("/v1/runs?{query}")).map_err(|error| error.to_string());
            assert_eq!(refused.is_err(), wrong.is_some(), "{query}: {refused:?}");
            assert!(refused.err().is_none_or(|words| {
                words.starts_with(&format!("invalid_query: {}: ", wrong.unwrap_or_default()))
            }));
        }
        let read = params("/v1/runs?label=a&label=&label=b").unwrap();
        assert_eq!(read.all("label").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_cursor_replaces_the_one_before() {
        let read = params("/v1/runs?agent=a%26b&cursor=old&limit=2").unwrap();
        assert_eq!(read.with_cursor("new"), "/v1/runs?agent=a%26b&limit=2&cursor=new");
        assert_eq!(params("/v1/runs").unwrap().with_cursor("new"), "/v1/runs?cursor=new");
    }
}
