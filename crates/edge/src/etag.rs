//! Optimistic concurrency: a thing's revision as its `ETag`, and `If-Match` as the revision that an update is about. A
//! revision counts changes; the versions of an agent are something else.
//!
//! Invariant: an update that names a revision happens on that revision or not at all. Without the header the last
//! writer wins, as the contract's clients expect.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};

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

/// The revision that `If-Match` names; `None` without the header or with `*`.
pub fn if_match(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|n| n.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Error::new(Code::InvalidHeader, "If-Match: expected an ETag of this resource"))
}

/// Refuses an update of another revision than the one asked for.
pub fn check(asked: Option<i64>, revision: i64) -> Result<()> {
    match asked {
        Some(asked) if asked != revision => {
            let words = format!("the revision (its ETag) is \"{revision}\", not \"{asked}\"; read it again");
            Err(Error::new(Code::VersionMismatch, words))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_matched_or_refused() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            if_match(&headers)
        };
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read("*").unwrap(), None);
        assert_eq!(read("\"7\"").unwrap(), Some(7));
        assert!(read("7").is_err() && read("W/\"7\"").is_err() && read("\"x\"").is_err());
        assert!(check(Some(7), 7).is_ok() && check(None, 7).is_ok() && check(Some(6), 7).is_err());
    }
}
