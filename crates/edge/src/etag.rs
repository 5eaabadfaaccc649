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
