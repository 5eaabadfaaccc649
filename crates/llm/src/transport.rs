//! The exchange with a provider: send, tell a reply from a refusal, read it to its end.
//!
//! Invariant: every exchange ends within its timeout, and with a whole reply or a failure. Redirects are not
//! followed: a request with a key in it goes to the configured address or nowhere.

use lantern_net::Client;
use lantern_net::http::{Deadlines, HeaderMap, Method, Request, Response, header, traced};
use lantern_types::llm::{Cause, LlmCall, LlmReply, Unlisted};
use lantern_types::{At, Dur, Failure};

use crate::failure::{INVALID_RESPONSE, cause, of_connection};
use crate::neutral::Request as Asked;
use crate::reader::{Reader, whole};
use crate::vendor::{errors, request};
use crate::wire::write_request;
use crate::{Deltas, Endpoint, Family, types};

/// A stream that is silent for longer has hung. Models that think without a word need this long.
const IDLE_MAX: Dur = Dur::from_secs(120);
/// How long to wait, after a reply's last event, for the end of its body.
const END_WAIT: Dur = Dur::from_millis(100);
/// A reply that comes whole.
const BODY_BYTES_MAX: usize = 8 << 20;
const ERROR_BYTES_MAX: usize = 64 << 10;
const LIST_BYTES_MAX: usize = 4 << 20;

/// Makes one model call, at `now`.
pub(crate) async fn call(
    client: &Client,
    endpoint: &Endpoint,
    call: &LlmCall,
    now: At,
    timeout: Dur,
    deltas: Deltas<'_>,
) -> Result<LlmReply, Failure> {
    let vendor = endpoint.vendor();
    let family = vendor.dialect.family;
    let body = write_request(&Asked::from(call), &vendor.dialect).body;
    let url = request::call_url(endpoint, &vendor, &call.model, true);
    let mut headers = request::call_headers(endpoint, &vendor, &call.key.header())?;
    request::signed(endpoint, &vendor, &url, &body, now, &mut headers)?;
    headers.extend(call.trace.and_then(traced));
    let request = Request { method: Method::POST, url, headers, body: body.into() };
    let deadlines = Deadlines { first_byte: timeout, idle: timeout.min(IDLE_MAX), total: timeout };
    let response = accepted(client, endpoint, request, deadlines).await?;
    if is_stream(&response) {
        return streamed(response, family, &call.model, deltas).await;
    }
    let body = response.bytes(BODY_BYTES_MAX).await.map_err(of_connection)?;
    let reply = whole(family, &body, &call.model)?;
    if !reply.content.is_empty() {
        deltas(&reply.content);
    }
    Ok(reply)
}

/// Asks which models there are.
pub(crate) async fn list_models(
    client: &Client,
    endpoint: &Endpoint,
    timeout: Dur,
) -> Result<Vec<String>, Unlisted> {
    let broke =
        |error: lantern_net::Error| Unlisted { cause: cause(&error), code: of_connection(error).code };
    let vendor = endpoint.vendor();
    let none = Unlisted { code: INVALID_RESPONSE, cause: Some(Cause::Form) };
    let url = request::models_url(endpoint, &vendor).ok_or(none)?;
    let headers: HeaderMap =
        request::headers(endpoint, &vendor).map_err(|Failure { code, .. }| Unlisted { code, cause: None })?;
    let request = Request { headers, ..Request::get(url) };
    let deadlines = Deadlines::total(timeout);
    let response = client.send(endpoint.reach, request, deadlines).await.map_err(broke)?;
    let status = response.status();
    if !status.is_success() {
        let Failure { code, .. } = refused(response).await;
        return Err(Unlisted { code, cause: Some(Cause::Status(status.as_u16())) });
    }
    let body = response.bytes(LIST_BYTES_MAX).await.map_err(broke)?;
    let list: types::chat::ModelList = serde_json::from_slice(&body).map_err(|_| none)?;
    let listed = list.data.or(list.models).ok_or(none)?;
    // Some lists name a model by its place: `models/NAME`.
    let name = |model: types::chat::ListedModel| {
        model.id.or_else(|| model.name.map(|name| name.trim_start_matches("models/").to_owned()))
    };
    listed.into_iter().map(|model| name(model).ok_or(none)).collect()
}

/// A response with a 2xx status; every other is a failure.
async fn accepted(
    client: &Client,
    endpoint: &Endpoint,
    request: Request,
    deadlines: Deadlines,
) -> Result<Response, Failure> {
    let response = client.send(endpoint.reach, request, deadlines).await.map_err(of_connection)?;
    if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
}

/// What a status says that is not 2xx.
async fn refused(mut response: Response) -> Failure {
    // The status alone says what to do; a body that breaks off only costs the provider's words.
    let body = response.up_to(ERROR_BYTES_MAX).await.map(|(body, _)| body).unwrap_or_default();
    errors::refusal(response.status(), response.headers(), &body)
}

fn is_stream(response: &Response) -> bool {
    response.header(&header::CONTENT_TYPE).is_some_and(|kind| {
        kind.starts_with("text/event-stream") || kind.starts_with("application/vnd.amazon.eventstream")
    })
}

async fn streamed(
    mut response: Response,
    family: Family,
    asked: &str,
    deltas: Deltas<'_>,
) -> Result<LlmReply, Failure> {
    let mut reader = Reader::new(family);
    while let Some(bytes) = response.chunk().await.map_err(of_connection)? {
        if reader.push(&bytes, deltas)? {
            // A connection is used again only when its body was read to the end. Nothing else depends on it.
            drop(tokio::time::timeout(END_WAIT.std(), response.chunk()).await);
            break;
        }
    }
    reader.finish(asked)
}
