//! `Idempotency-Key`: a POST that is sent again with its key is answered with what the first one was answered.
//!
//! Invariant: a key stands for one request of one tenant to one path. What was answered is remembered for a day, sealed,
//! because an answer may hold a secret that is shown once. Only successes are remembered: after a refusal the same key may
//! try again. Of an answer that shows what may be deleted the body is not kept: a repeat is shown it as it is by then.
//! Whoever sent a request may go away: it is done, and remembered, all the same. Nor does it matter to an answer that it cannot be
//! remembered just now. A request whose process died halfway may be made again after a minute; whatever must not happen twice even
//! then has a guard of its own, as starting a run has. Event streams are never remembered.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lantern_policy::{Act, Scope};
use lantern_store::seal::Place;
use lantern_store::{Db, Sealer, Value};
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{At, Digest, Dur};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::auth::Gate;
use crate::body;
use crate::code::Code;
use crate::json;
use crate::permit::permit;
use crate::problem::{Error, Result};
use crate::request::Ignored;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest key.
pub const KEY_BYTES_MAX: usize = 255;
/// How long an answer is remembered.
const KEPT: Dur = Dur::from_secs(24 * 60 * 60);
/// How long a request may be under way before its key may be used again: its process died.
const UNDER_WAY_MAX: Dur = Dur::from_secs(60);
/// How long after a write that failed it is tried again.
const LATE: Dur = Dur::from_secs(2);
/// The largest answer that is remembered. After a larger one the request is made again.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Headers that are part of an answer; the others are made afresh.
const HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];

const SWEEP: &str = "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND expires_at <= $2";
const CLAIM: &str = "INSERT INTO idempotency_keys (tenant_id, id, request, claimed_at, expires_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, id) DO NOTHING";
const FIND: &str =
    "SELECT request, claimed_at, answer FROM idempotency_keys WHERE tenant_id = $1 AND id = $2";
const TAKE_OVER: &str = "UPDATE idempotency_keys SET claimed_at = $4
    WHERE tenant_id = $1 AND id = $2 AND claimed_at = $3 AND answer IS NULL";
const KEEP: &str = "UPDATE idempotency_keys SET answer = $4
    WHERE tenant_id = $1 AND id = $2 AND claimed_at = $3 AND answer IS NULL";
const FORGET: &str =
    "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND id = $2 AND claimed_at = $3 AND answer IS NULL";

/// Every statement of this file.
pub const STATEMENTS: &[&str] = &[SWEEP, CLAIM, FIND, TAKE_OVER, KEEP, FORGET];

/// The state of a router whose POST routes take keys.
pub trait Remembers: Clone + Send + Sync + 'static {
    /// Tells who asks.
    fn gate(&self) -> &Gate;
    /// What was answered.
    fn answers(&self) -> &Answers;
    /// Shows what an answer was [`About`], as it is now.
    fn show(&self, scope: Scope, about: Uuid) -> impl Future<Output = Result<Response>> + Send;
}

/// What an answer shows, as an extension of it, where that may be deleted later: then nothing of it may remain here.
#[derive(Clone, Copy, Debug)]
pub struct About(pub Uuid);

/// What was answered to requests with keys. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    db: Db,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    tasks: Arc<dyn Tasks>,
}

/// What a key stands for, and when this request took it.
struct Claim {
    id: Digest,
    at: At,
}

enum Found {
    /// Nobody has used the key, or whoever did has failed.
    Mine,
    /// The key stands for another request.
    Other,
    /// The same request is under way.
    UnderWay,
    /// The same request was answered, sealed.
    Answered(Vec<u8>),
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// Empty when it is about something.
    body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<Uuid>,
}

/// The key that a request brings, if any.
pub fn key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(KEY) else { return Ok(None) };
    if headers.get_all(KEY).iter().any(|other| other != value) {
        let words = "Idempotency-Key: is given twice, with different values";
        return Err(Error::new(Code::InvalidHeader, words));
    }
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= KEY_BYTES_MAX => Ok(Some(text.to_owned())),
        _ => {
            let words = format!("Idempotency-Key: expected at most {KEY_BYTES_MAX} visible ASCII characters");
            Err(Error::new(Code::InvalidHeader, words))
        }
    }
}

/// Marks an answer as one that was given before.
pub fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Names the key of a request in its answer, where the route reads none.
pub(crate) fn tell_unread(request: &Request) {
    if let Some(ignored) =
        request.extensions().get::<Ignored>().filter(|_| request.headers().contains_key(KEY))
    {
        ignored.add(vec!["Idempotency-Key".to_owned()]);
    }
}

/// Answers a request by `handle`, or by what was answered when its key was first used. Who may not make the request is told
/// so before anything is looked up.
pub(crate) async fn once<A: Act, S: Remembers, F: Future<Output = Response> + Send + 'static>(
    state: &S,
    request: Request,
    handle: impl FnOnce(Request) -> F + Send + 'static,
) -> Response {
    let key = match key(request.headers()) {
        Ok(None) => return handle(request).await,
        Ok(Some(key)) => key,
        Err(error) => return error.into_response(),
    };
    let (tell, told) = oneshot::channel();
    let own = state.clone();
    let work = async move {
        let (answer, left) = match keyed::<A, S, F>(&own, request, &key, handle).await {
            Ok(done) => done,
            Err(error) => (error.into_response(), None),
        };
        // Nobody may be there any more to be told.
        drop(tell.send(answer));
        if let Some(left) = left {
            own.answers().write_late(left).await;
        }
    };
    state.answers().tasks.spawn("idempotency.request", Box::pin(work));
    told.await.unwrap_or_else(|_| Error::new(Code::Internal, "internal error").into_response())
}

/// A write about a key that could not be made yet.
struct Left {
    scope: Scope,
    sql: &'static str,
    params: Vec<Value>,
}

async fn keyed<A: Act, S: Remembers, F: Future<Output = Response>>(
    state: &S,
    request: Request,
    key: &str,
    handle: impl FnOnce(Request) -> F,
) -> Result<(Response, Option<Left>)> {
    let (parts, body) = request.into_parts();
    let scope = permit::<A>(&parts, state.gate()).await?.scope();
    let bytes = body::bytes(Request::from_parts(parts.clone(), body)).await?;
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let (id, digest) = (Digest::of_parts(&[path.as_bytes(), key.as_bytes()]), said(&bytes));
    let answers = state.answers();
    let claim = Claim { id, at: answers.clock.now() };
    match answers.claim(scope, &claim, [digest, Digest::of(&bytes)]).await? {
        Found::Mine => {}
        Found::Answered(sealed) => {
            return Ok((again(state, scope, answers.open(scope, &claim, &sealed).await?).await?, None));
        }
        Found::Other => {
            let words = "this idempotency key stands for another request to this path";
            return Err(Error::new(Code::IdempotencyMismatch, words));
        }
        Found::UnderWay => {
            let words = "the request with this idempotency key is under way";
            return Err(Error::new(Code::Conflict, words).retry_after(Dur::from_secs(1)));
        }
    }
    let response = handle(Request::from_parts(parts, Body::from(bytes))).await;
    answers.remember(scope, claim, response).await
}

/// Names what a body says: white space and the order of members say nothing, and an empty body is read like `{}`. What no
/// handler takes is named by its bytes.
fn said(body: &[u8]) -> Digest {
    if body.trim_ascii().is_empty() {
        return said(b"{}");
    }
    match std::str::from_utf8(body).ok().and_then(|text| json::read(text).ok()) {
        // Members are written in the order of their names.
        Some(value) => Digest::of(value.to_string().as_bytes()),
        None => Digest::of(body),
    }
}

impl Answers {
    /// Remembers in this database, sealed. What is under way with a key is one of these tasks.
    pub fn new(db: Db, sealer: Sealer, clock: Arc<dyn Clock>, tasks: Arc<dyn Tasks>) -> Self {
        Self { db, sealer, clock, tasks }
    }

    /// Takes the key for a body of this digest. One that an earlier build took for it is known by the body's bytes.
    async fn claim(&self, scope: Scope, claim: &Claim, [digest, bytes]: [Digest; 2]) -> Result<Found> {
        let (id, at) = (claim.id, claim.at);
        let found = self.db.write(scope, move |tx| {
            Box::pin(async move {
                tx.exec(SWEEP, &[at.into()]).await?;
                let new = [id.into(), digest.into(), at.into(), (at + KEPT).into()];
                if tx.exec(CLAIM, &new).await? > 0 {
                    return Ok(Found::Mine);
                }
                // Swept by another request since: as good as under way.
                let Some(mut row) = tx.one(FIND, &[id.into()]).await? else { return Ok(Found::UnderWay) };
                if ![digest, bytes].contains(&row.digest("request")?) {
                    return Ok(Found::Other);
                }
                if let Some(answer) = row.take_bytes("answer")? {
                    return Ok(Found::Answered(answer));
                }
                let before = row.at("claimed_at")?;
                let dead = before + UNDER_WAY_MAX <= at;
                let mine = dead && tx.exec(TAKE_OVER, &[id.into(), before.into(), at.into()]).await? > 0;
                Ok(if mine { Found::Mine } else { Found::UnderWay })
            })
        });
        Ok(found.await?)
    }

    /// Remembers an answer, or forgets the key when it is none to remember. What it cannot write now is left.
    async fn remember(
        &self,
        scope: Scope,
        claim: Claim,
        response: Response,
    ) -> Result<(Response, Option<Left>)> {
        let (parts, body) = response.into_parts();
        let streams = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let forget =
            |claim: &Claim| Left { scope, sql: FORGET, params: vec![claim.id.into(), claim.at.into()] };
        if streams || !parts.status.is_success() {
            let left = self.write(forget(&claim)).await;
            return Ok((Response::from_parts(parts, body), left));
        }
        let bytes = to_bytes(body, usize::MAX).await.map_err(Error::internal)?;
        let text =
            |name: &HeaderName| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
        let headers = HEADERS.iter().filter_map(text).collect();
        let about = parts.extensions.get().map(|About(id)| *id);
        let write = match std::str::from_utf8(if about.is_some() { &[] } else { &bytes }) {
            Ok(body) if body.len() <= ANSWER_BYTES_MAX => {
                let answer = Answer { status: parts.status.as_u16(), headers, body: body.to_owned(), about };
                let plain = serde_json::to_vec(&answer).map_err(Error::internal)?;
                let sealed = self.sealer.seal(scope, place(&claim.id), &plain).await?;
                Left { scope, sql: KEEP, params: vec![claim.id.into(), claim.at.into(), sealed.into()] }
            }
            _ => forget(&claim),
        };
        let left = self.write(write).await;
        Ok((Response::from_parts(parts, Body::from(bytes)), left))
    }

    /// Writes, or gives back what could not be written: what was answered is true all the same.
    async fn write(&self, left: Left) -> Option<Left> {
        let (scope, sql, params) = (left.scope, left.sql, left.params.clone());
        let wrote =
            self.db.write(scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await })).await;
        let error = wrote.err()?;
        tracing::warn!(%error, "an answer to a request with a key is not remembered yet");
        Some(left)
    }

    /// Goes on trying while the key is still taken for it.
    async fn write_late(&self, left: Left) {
        let until = self.clock.now() + UNDER_WAY_MAX;
        let mut left = Some(left);
        while let Some(again) = left.filter(|_| self.clock.now() < until) {
            tokio::time::sleep(LATE.std()).await;
            left = self.write(again).await;
        }
    }

    async fn open(&self, scope: Scope, claim: &Claim, sealed: &[u8]) -> Result<Answer> {
        let plain = self.sealer.open(scope, place(&claim.id), sealed).await?;
        serde_json::from_slice(&plain).map_err(Error::internal)
    }
}

async fn again(state: &impl Remembers, scope: Scope, answer: Answer) -> Result<Response> {
    let mut response = match answer.about {
        Some(about) => state.show(scope, about).await?,
        None => Response::new(Body::from(answer.body)),
    };
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(replayed(response))
}

fn place(id: &Digest) -> Place<'_> {
    Place { purpose: "idempotency", row: id.bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_visible() {
        let long = "x".repeat(256);
        for (value, want) in [
            (None, Ok(None)),
            (Some(""), Ok(None)),
            (Some("k-1"), Ok(Some("k-1"))),
            (Some(long.as_str()), Err(Code::InvalidHeader)),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (KEY, HeaderValue::from_str(value).unwrap())));
            let got = key(&headers).map_err(|error| error.code());
            assert_eq!(got, want.map(|key: Option<&str>| key.map(ToOwned::to_owned)), "{value:?}");
        }
        for (second, fine) in [("a", true), ("b", false), ("", false)] {
            let mut headers = HeaderMap::new();
            headers.append(KEY, HeaderValue::from_static("a"));
            headers.append(KEY, HeaderValue::from_static(second));
            assert_eq!(key(&headers).is_ok(), fine, "{second}");
        }
    }
}
