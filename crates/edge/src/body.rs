//! Request bodies: bounded, timed, UTF-8, JSON, and read into a model that names every problem with its path.
//!
//! Invariant: a handler that has a [`Body`] has a valid model, and nothing in it was altered on the way ([`json`]). Fields that the model does not know are ignored and
//! named in the answer's `Lantern-Ignored` header, because the contract's clients send such.

use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use lantern_types::Dur;
use lantern_types::limits::JSON_DEPTH_MAX;
use serde_json::{Map, Value};

use crate::code::Code;
use crate::fields::Fields;
use crate::json::{self, Fault};
use crate::problem::{Error, FieldError, Result};
use crate::request::{BodyMax, Ignored};

/// How long a client may take to send a body.
const TIME_MAX: Dur = Dur::from_secs(30);
/// What some editors put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a body becomes. Problems are reported through the fields; `None` only when there was one.
pub trait Model: Sized {
    /// Reads the fields that it knows.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// A request's body, read. An empty one reads like `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: Model> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let ignored = request.extensions().get::<Ignored>().cloned().unwrap_or_default();
        let bytes = bytes(request).await?;
        let map = object(&bytes)?;
        let mut fields = Fields::of(&map);
        let model = T::read(&mut fields);
        match (fields.finish(), model) {
            (Ok(names), Some(model)) => {
                ignored.add(names);
                Ok(Self(model))
            }
            (Err(issues), _) => Err(Error::about(Code::InvalidBody, "invalid request body", issues)),
            (Ok(_), None) => Err(Error::new(Code::InvalidBody, "the body cannot be read")),
        }
    }
}

/// A request's body as it came.
#[derive(Debug)]
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        bytes(request).await.map(Self)
    }
}

/// A request's body as it came, within its time and size.
pub(crate) async fn bytes(request: Request) -> Result<Bytes> {
    plain(request.headers())?;
    // Whoever says how long it is need not send it to be told.
    let said =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let max = request.extensions().get::<BodyMax>();
    if said.zip(max).is_some_and(|(said, BodyMax(max)): (u64, _)| said > *max) {
        return Err(too_large());
    }
    match tokio::time::timeout(TIME_MAX.std(), Bytes::from_request(request, &())).await {
        Ok(read) => read.map_err(unread),
        Err(_) => Err(Error::new(Code::BodyTooSlow, "the body took too long to arrive")),
    }
}

/// Refuses a body that is compressed: read as it is, it would be taken for another one.
fn plain(headers: &HeaderMap) -> Result<()> {
    let identity = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or("?");
        text.split(',')
            .map(str::trim)
            .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
    };
    if headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Ok(());
    }
    Err(Error::new(
        Code::EncodingUnsupported,
        "Content-Encoding: send the body as it is, without an encoding",
    ))
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Error::new(Code::InvalidUtf8, format!("the body is not UTF-8 from byte {at} on"))
    })?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        let words = "the body is not JSON: it begins with a byte order mark; send it without";
        return Err(Error::new(Code::InvalidJson, words));
    }
    match json::read(text).map_err(|fault| refused(&fault))? {
        Value::Object(map) => Ok(map),
        _ => Err(Error::new(Code::InvalidBody, "invalid request body: expected an object")
            .with_field("", "expected an object")),
    }
}

fn refused(fault: &Fault) -> Error {
    let (code, place) = match fault {
        Fault::Syntax(error) => {
            return Error::new(Code::InvalidJson, format!("the body is not JSON: {error}"));
        }
        Fault::Deep => {
            let words = format!("the body is nested deeper than {JSON_DEPTH_MAX}");
            return Error::new(Code::InvalidJson, words);
        }
        Fault::Twice(place) => (Code::DuplicateKey, place),
        Fault::Number(place) => (Code::NumberTooLarge, place),
        Fault::Reserved(place) => (Code::InvalidJson, place),
    };
    let field = FieldError { path: place.path(), message: fault.words().to_owned() };
    let error = Error::about(code, "the body would be altered", vec![field]);
    match place.pointer() {
        Some(pointer) => error.with_extra("pointer", pointer),
        None => error,
    }
}

fn too_large() -> Error {
    Error::new(Code::BodyTooLarge, "the body is larger than this server takes")
}

fn unread(rejection: BytesRejection) -> Error {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_large(),
        other => Error::new(Code::InvalidBody, "the body could not be received").caused_by(other),
    }
}

/// A body without fields.
impl Model for () {
    fn read(_: &mut Fields<'_>) -> Option<Self> {
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_body_is_refused() {
        for (codings, fine) in [
            (&[][..], true),
            (&["identity"], true),
            (&["Identity, identity", ""], true),
            (&["gzip"], false),
            (&["identity", "br"], false),
            (&["identity, x-own"], false),
        ] {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            assert_eq!(plain(&headers).is_ok(), fine, "{codings:?}");
        }
    }

    #[test]
    fn bodies_that_are_not_objects_are_told_apart() {
        for (bytes, want) in [
            (&b""[..], None),
            (b" \n", None),
            (b"{}", None),
            (b"\xff\xfe", Some("invalid_utf8")),
            (b"{\"a\":", Some("invalid_json")),
            (b"{\"a\": 1e999}", Some("number_too_large")),
            (b"{\"a\": 18446744073709551616}", Some("number_too_large")),
            (b"{\"a\": 18446744073709551615}", None),
            (b"{\"a\": {\"b\": 1, \"b\": 1}}", Some("duplicate_key")),
            (b"\xef\xbb\xbf{}", Some("invalid_json")),
            (b"{\"a\": \"\\ud800\"}", Some("invalid_json")),
            (b"[]", Some("invalid_body")),
            (b"null", Some("invalid_body")),
            (b"\"x\"", Some("invalid_body")),
        ] {
            assert_eq!(object(bytes).err().map(|error| error.code().as_str()), want, "{bytes:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(object(deep.as_bytes()).unwrap_err().code(), Code::InvalidJson);
    }
}
