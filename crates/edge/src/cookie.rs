//! Session cookies: what a browser shows for its pages, which cannot read it.
//!
//! Invariant: a cookie counts only beside a header that a page of another origin cannot send: that header is in no answer to a
//! preflight (`cors.rs`). The cookie names its sign-in under a mac of its own key, so it is no access token, is stored nowhere,
//! and is over when the sign-in's row is. It never stands in for a credential that was sent.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_store::Keys;
use lantern_types::{Dur, SignInId, TenantId};
use uuid::Uuid;

use crate::code::Code;
use crate::problem::{Error, Result};

/// The cookie's name.
pub const NAME: &str = "lantern_session";
/// What a page sends with every request. Its value says nothing.
pub const PAGE: HeaderName = HeaderName::from_static("x-lantern-page");

/// Tenant, sign-in.
const SAID: usize = 16 + 16;
const MAC: usize = 32;
/// The longest cookie that is worth reading, in bytes.
const BYTES_MAX: usize = 256;

/// Issues session cookies and reads them back.
pub struct Cookies {
    key: hmac::Key,
}

impl Cookies {
    /// Those of this instance: every process with the same key reads them.
    pub fn new(keys: &Keys) -> Result<Self, lantern_store::Error> {
        let key = keys.derive("session-cookie-mac")?;
        Ok(Self { key: hmac::Key::new(HMAC_SHA256, key.expose()) })
    }

    /// The `Set-Cookie` header of this sign-in, for a page that was reached over TLS or not.
    pub fn issue(&self, tenant: TenantId, sign_in: SignInId, lasts: Dur, tls: bool) -> Result<HeaderValue> {
        let said = [tenant.uuid().into_bytes(), sign_in.uuid().into_bytes()].concat();
        let mac = hmac::sign(&self.key, &said);
        let text = TEXT.encode([said.as_slice(), mac.as_ref()].concat());
        set(&text, lasts.millis() / 1_000, tls)
    }

    /// Whose sign-in a cookie names; `None` when it was not issued here.
    pub(crate) fn read(&self, text: &str) -> Option<(TenantId, SignInId)> {
        let bytes = TEXT.decode(text).ok()?;
        let bytes: [u8; SAID + MAC] = bytes.try_into().ok()?;
        let (said, mac) = bytes.split_first_chunk::<SAID>()?;
        hmac::verify(&self.key, said, mac).ok()?;
        let (tenant, rest) = said.split_first_chunk::<16>()?;
        let sign_in: [u8; 16] = rest.try_into().ok()?;
        let id = Uuid::from_bytes;
        Some((TenantId::from_uuid(id(*tenant)), SignInId::from_uuid(id(sign_in))))
    }
}

/// The `Set-Cookie` header that forgets it.
pub fn forget(tls: bool) -> Result<HeaderValue> {
    set("", 0, tls)
}

/// Refuses what was not sent by a page of this origin. `invalid_header` when it was not.
pub fn from_page(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key(PAGE) {
        return Ok(());
    }
    let words =
        format!("{PAGE}: this is for pages of this server, which send it; programs use POST /auth/login");
    Err(Error::new(Code::InvalidHeader, words))
}

/// Whether a page was reached over TLS: its browser says so, whatever ended the TLS before this server.
pub fn over_tls(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

/// The cookie that counts: a page of this origin sent it.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    if !headers.contains_key(PAGE) {
        return None;
    }
    named(headers, NAME)
}

/// What a browser sends under this name; the first, where it sends several.
pub fn named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, text) = pairs.find(|(found, _)| *found == name)?;
    Some(text).filter(|text| !text.is_empty() && text.len() <= BYTES_MAX)
}

fn set(text: &str, seconds: i64, tls: bool) -> Result<HeaderValue> {
    let secure = if tls { "; Secure" } else { "" };
    let line = format!("{NAME}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&line).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refresh::testing::keys;
    use lantern_types::DEV_TENANT;

    fn cookies(key: u8) -> Cookies {
        Cookies::new(&keys(key)).unwrap()
    }

    const SIGN_IN: SignInId = SignInId::from_uuid(Uuid::from_u128(7));

    fn issued(tls: bool) -> String {
        let line = cookies(1).issue(DEV_TENANT, SIGN_IN, Dur::from_secs(60), tls).unwrap();
        line.to_str().unwrap().to_owned()
    }

    #[test]
    fn no_page_reads_it_and_no_other_site_sends_it() {
        let line = issued(false);
        assert!(line.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"), "{line}");
        assert!(issued(true).ends_with("; HttpOnly; SameSite=Strict; Secure"));
        assert!(forget(false).unwrap().to_str().unwrap().starts_with("lantern_session=; Path=/; Max-Age=0;"));
    }

    #[test]
    fn a_cookie_with_anything_changed_is_none() {
        let line = issued(false);
        let text = line.split(['=', ';']).nth(1).unwrap();
        assert_eq!(cookies(1).read(text), Some((DEV_TENANT, SIGN_IN)));
        assert_eq!(cookies(2).read(text), None);
        let bytes = TEXT.decode(text).unwrap();
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 1;
            assert_eq!(cookies(1).read(&TEXT.encode(other)), None, "{place}");
        }
        for other in [format!("{text}A"), text[1..].to_owned(), String::new()] {
            assert_eq!(cookies(1).read(&other), None, "{other}");
        }
    }

    #[test]
    fn a_cookie_counts_beside_the_header_alone() {
        for (page, cookie, want) in [
            (true, Some("lantern_session=abc"), Some("abc")),
            (true, Some("a=b; lantern_session=abc;c=d"), Some("abc")),
            (true, Some("xlantern_session=abc"), None),
            (true, Some("lantern_session="), None),
            (true, None, None),
            (false, Some("lantern_session=abc"), None),
        ] {
            let mut headers = HeaderMap::new();
            if page {
                headers.insert(PAGE, HeaderValue::from_static("1"));
            }
            if let Some(cookie) = cookie {
                headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
            }
            assert_eq!(presented(&headers), want, "{page} {cookie:?}");
            assert_eq!(from_page(&headers).is_ok(), page);
        }
        let long = format!("{NAME}={}", "a".repeat(BYTES_MAX + 1));
        let mut headers = HeaderMap::from_iter([(PAGE, HeaderValue::from_static("1"))]);
        headers.insert(header::COOKIE, HeaderValue::from_str(&long).unwrap());
        assert_eq!(presented(&headers), None);
    }

    #[test]
    fn the_browser_says_how_the_page_was_reached() {
        for (origin, want) in
            [(None, false), (Some("http://127.0.0.1:8080"), false), (Some("https://lantern.example"), true)]
        {
            let headers = origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin)));
            assert_eq!(over_tls(&HeaderMap::from_iter(headers)), want, "{origin:?}");
        }
    }
}
