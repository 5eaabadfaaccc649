//! Pages of a list: bare arrays, newest first, with the way to the next page in a `Link` header, and its cursor alone in
//! `X-Next-Cursor`.
//!
//! Invariant: a cursor names the last row of a page by time and id, so that rows which come or go in between neither
//! repeat nor hide others. To clients it is opaque; a cursor that this server did not write, or wrote for another list, is
//! refused. A list is what a path names: its filters may change from page to page.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, header};
use lantern_types::{At, Digest};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use uuid::Uuid;

use crate::problem::Result;
use crate::query::{PAGE_SIZE, PAGE_TOKEN, Params, wrong};
use crate::reply::Json;

const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// The most that one page holds, and what it holds when nobody says.
pub const LIMIT_MAX: u32 = 100;

/// Which page is asked for.
#[derive(Debug)]
pub struct Paging {
    /// At most so many items.
    pub limit: u32,
    /// Items older than this one: the last of the page before.
    pub before: Option<(At, Uuid)>,
}

/// What a cursor says of the list that it is of.
const MARK_BYTES: usize = 8;

impl Paging {
    /// Reads `limit` and `cursor`, or their other names `pageSize` and `pageToken`. A limit beyond the largest page asks for the largest
    /// page.
    pub fn of(params: &Params) -> Result<Self> {
        let limit = match params.at_most("limit", LIMIT_MAX)? {
            Some(limit) => limit,
            None => params.at_most(PAGE_SIZE, LIMIT_MAX)?.unwrap_or(LIMIT_MAX),
        };
        let said = [params.text("cursor"), params.text(PAGE_TOKEN)].into_iter().flatten().next();
        let before = match said {
            Some(text) => {
                let words = "expected a cursor from a Link header of this list";
                Some(decode(text, params.path()).ok_or_else(|| wrong("cursor", words))?)
            }
            None => None,
        };
        Ok(Self { limit, before })
    }

    /// How many rows to fetch: one more than the page holds tells whether there is a next page.
    pub const fn fetch(&self) -> u32 {
        self.limit + 1
    }
}

/// One page.
#[derive(Debug)]
pub struct Page<T> {
    items: Vec<T>,
    next: Option<Next>,
}

/// Where the next page is: all of the link, and its cursor.
#[derive(Debug)]
struct Next {
    link: String,
    cursor: String,
}

impl<T> Page<T> {
    /// The first `limit` of the fetched `items`, and a link when there were more. `key` is what a list is sorted by.
    pub fn cut(items: Vec<T>, paging: &Paging, params: &Params, key: impl Fn(&T) -> (At, Uuid)) -> Self {
        Self::cut_or(items, None, paging, params, key)
    }

    /// The same, where what is older than `seen` was not looked at, if that is said: the next page begins there when this one
    /// is not full.
    pub fn cut_or(
        mut items: Vec<T>,
        seen: Option<(At, Uuid)>,
        paging: &Paging,
        params: &Params,
        key: impl Fn(&T) -> (At, Uuid),
    ) -> Self {
        let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more).map(key).or(seen).map(|key| encode(key, params.path()));
        Self { items, next: last.map(|cursor| Next { link: params.with_cursor(&cursor), cursor }) }
    }

    /// An answer that leads to the next page as this one does, for lists that stand in something larger.
    pub fn leads(self, mut response: Response) -> Response {
        if let Some(Next { link, cursor }) = self.next {
            let headers = response.headers_mut();
            let values = [(header::LINK, format!("<{link}>; rel=\"next\"")), (NEXT_CURSOR, cursor)];
            headers
                .extend(values.into_iter().filter_map(|(name, value)| Some((name, value.try_into().ok()?))));
        }
        response
    }

    /// The same page of other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }

    /// The same page of other items, unless one of them cannot be made.
    pub fn try_map<U, E>(self, f: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        let items = self.items.into_iter().map(f).collect::<Result<_, E>>()?;
        Ok(Page { items, next: self.next })
    }

    /// The items, and the page without them, to be put together again with others.
    pub fn split(self) -> (Vec<T>, Page<()>) {
        (self.items, Page { items: Vec::new(), next: self.next })
    }

    /// The same page with these items.
    pub fn with<U>(self, items: Vec<U>) -> Page<U> {
        Page { items, next: self.next }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let (items, page) = self.split();
        page.leads(Json(items).into_response())
    }
}

fn encode((at, id): (At, Uuid), list: &str) -> String {
    let parts = [&at.micros().to_be_bytes()[..], id.as_bytes(), &mark(list)];
    URL_SAFE_NO_PAD.encode(parts.concat())
}

fn decode(text: &str, list: &str) -> Option<(At, Uuid)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (at, rest) = bytes.split_first_chunk::<8>()?;
    let (id, of) = rest.split_first_chunk::<16>()?;
    let found = (At::from_micros(i64::from_be_bytes(*at)), Uuid::from_bytes(*id));
    (of == mark(list)).then_some(found)
}

/// Tells the list of one path from others, however the path is written.
fn mark(list: &str) -> [u8; MARK_BYTES] {
    let path: Vec<u8> = percent_decode_str(list).collect();
    let digest = Digest::of_parts(&[b"list", &path]);
    digest.bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_foreign_ones_are_refused() {
        let key = (At::from_micros(1_700_000_000_000_000), Uuid::from_u128(7));
        let cursor = encode(key, "/v1/agents/a b/runs");
        for (list, want) in [
            ("/v1/agents/a b/runs", Some(key)),
            ("/v1/agents/a%20b/runs", Some(key)),
            ("/v1/agents/b/runs", None),
            ("/v1/runs", None),
        ] {
            assert_eq!(decode(&cursor, list), want, "{list}");
        }
        let unmarked = URL_SAFE_NO_PAD.encode([0; 24]);
        for bad in ["", "x", "AAAA", "MTcwMDAwMDAwMA==", &unmarked, &cursor[1..], &format!("{cursor}AAAA")] {
            assert_eq!(decode(bad, "/v1/agents/a b/runs"), None, "{bad}");
        }
    }
}
