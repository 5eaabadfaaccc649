//! The server as the client commands see it: one call in, JSON or a [`Failure`] with advice out.
//!
//! Invariant: a credential goes only to the address it belongs to, and every refusal becomes an exit code with a
//! hint. A saved login whose access token is over is renewed and the call made again. Knows no command and prints nothing.

mod refusal;
mod renew;
mod url;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use lantern_net::http::{
    Deadlines, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use lantern_net::{Client, Reach};
use lantern_types::{Dur, Limits, RunId, Secret, SessionId};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cli::failure::{Exit, Failure};
use crate::credentials::{Credentials, Place, Unusable};
use crate::env;

pub(crate) use url::{Base, encode};

/// Where a server listens when nobody says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The largest file that a server is asked for.
const FILE_BYTES_MAX: usize = 1 << 30;
const CALL: Deadlines = Deadlines::total(Dur::from_secs(60));
/// The server sends a heartbeat every 15 s; three of them missing is a lost connection. A run may last for weeks.
const STREAM: Deadlines = Deadlines {
    first_byte: Dur::from_secs(20),
    idle: Dur::from_secs(45),
    total: Dur::from_secs(400 * 86_400),
};

/// What the calls are authorized with.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// Nothing. The address is that of a saved login for another server, if there is one.
    None(Option<String>),
    /// `--api-key`, `LANTERN_API_KEY` or `LANTERN_API_TOKEN`: which of them, and its value.
    Given(&'static str, Secret<String>),
    /// What `lantern login` saved for this server: the access token.
    Login(Secret<String>),
}

/// One server, and who we are to it.
pub(crate) struct Api {
    client: Client,
    base: Base,
    // Replaced when a login is renewed. Sections under this lock are one copy.
    auth: Mutex<Auth>,
}

/// The beginning of a list.
pub(crate) struct Listed {
    /// As many entries as were asked for, or all.
    pub(crate) entries: Vec<Value>,
    /// Whether there are more.
    pub(crate) more: bool,
    /// Where they begin, if the server said it.
    pub(crate) cursor: Option<String>,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    headers: HeaderMap,
    public: bool,
    /// Beside those that say that it worked.
    also: Option<StatusCode>,
}

/// A successful answer.
pub(crate) struct Reply {
    /// The body; `null` when it was empty.
    pub(crate) body: Value,
    /// Where the next page of a list begins.
    pub(crate) cursor: Option<String>,
    /// Fields of the request that the server does not know.
    pub(crate) ignored: Vec<String>,
    /// Names the state of the thing that was read or changed.
    pub(crate) tag: Option<HeaderValue>,
}

impl Call {
    /// Looks.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        let path = path.into();
        Self { method: Method::GET, path, body: None, headers: HeaderMap::new(), public: false, also: None }
    }
    /// Asks for a change.
    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }
    /// Changes what the body names, and nothing else.
    pub(crate) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PATCH, ..Self::post(path, body) }
    }
    /// Replaces.
    pub(crate) fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, ..Self::post(path, body) }
    }
    /// Removes.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }
    /// Exchanges a password for tokens.
    pub(crate) fn login(email: &str, password: &Secret<String>, code: Option<&str>) -> Self {
        let mut body = json!({ "email": email, "password": password.expose() });
        if let (Some(code), Some(fields)) = (code, body.as_object_mut()) {
            fields.insert("code".to_owned(), code.into());
        }
        Self::post("/auth/login", body).public()
    }
    /// Makes an account, and answers as a login does.
    pub(crate) fn signup(email: &str, password: &Secret<String>, name: Option<&str>) -> Self {
        let body = json!({ "email": email, "password": password.expose(), "name": name });
        Self::post("/auth/signup", body).public()
    }
    /// Exchanges a refresh token for the next tokens.
    fn refresh(token: &Secret<String>) -> Self {
        Self::post("/auth/refresh", json!({ "refreshToken": token.expose() })).public()
    }
    /// Carries a header.
    pub(crate) fn header(mut self, (name, value): (HeaderName, HeaderValue)) -> Self {
        self.headers.insert(name, value);
        self
    }
    /// Takes an answer of this status for an answer, too.
    pub(crate) fn or(mut self, status: StatusCode) -> Self {
        self.also = Some(status);
        self
    }
    /// Sends no credential.
    pub(crate) fn public(mut self) -> Self {
        self.public = true;
        self
    }
}

impl Api {
    /// The server and the credential that the command line, the environment and the saved login name, in this order.
    pub(crate) fn open(globals: &Globals) -> Result<Self, Failure> {
        let api = Self::anonymous(globals)?;
        let auth = auth(globals, &api.base)?;
        Ok(Self { auth: Mutex::new(auth), ..api })
    }

    /// The server that this login was saved for, as whoever logged in.
    pub(crate) fn saved(credentials: Credentials) -> Result<Self, Failure> {
        let base = Base::parse(&credentials.api_url).map_err(Failure::usage)?;
        Self::at(base, Auth::Login(credentials.token))
    }

    /// The server alone, for who has no credential yet.
    pub(crate) fn anonymous(globals: &Globals) -> Result<Self, Failure> {
        let given = globals.api_url.clone().or_else(|| env::get(env::API_URL));
        let base = Base::parse(given.as_deref().unwrap_or(DEFAULT_URL)).map_err(Failure::usage)?;
        Self::at(base, Auth::None(None))
    }

    fn at(base: Base, auth: Auth) -> Result<Self, Failure> {
        let client = Client::new().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        Ok(Self { client, base, auth: Mutex::new(auth) })
    }

    /// The server's address.
    pub(crate) const fn base(&self) -> &Base {
        &self.base
    }

    /// What the calls are authorized with.
    pub(crate) fn auth(&self) -> Auth {
        self.auth.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a call and reads the whole answer.
    pub(crate) async fn send(&self, call: Call) -> Result<Reply, Failure> {
        let bytes = call.body.as_ref().map(|body| body.to_string().len()).unwrap_or_default();
        let response = self.request(call, CALL).await.map_err(|failure| sized(failure, bytes))?;
        let cursor = response.header(&header::LINK).and_then(url::next_cursor);
        let tag = response.header(&header::ETAG).and_then(|tag| HeaderValue::from_str(tag).ok());
        let ignored = response.header(&HeaderName::from_static("lantern-ignored")).unwrap_or_default();
        let ignored = ignored.split(',').map(str::trim).filter(|name| !name.is_empty());
        let ignored = ignored.map(str::to_owned).collect();
        let body = response.bytes(ANSWER_BYTES_MAX).await.map_err(|error| self.unreached(&error))?;
        Ok(Reply { body: self.json(&body)?, cursor, ignored, tag })
    }

    /// The answer's body alone.
    pub(crate) async fn fetch(&self, call: Call) -> Result<Value, Failure> {
        Ok(self.send(call).await?.body)
    }

    /// At most `limit` entries of a list, page by page.
    pub(crate) async fn list(&self, path: &str, limit: u32) -> Result<Listed, Failure> {
        self.list_from(path, limit, None).await
    }

    /// The same from a cursor on.
    pub(crate) async fn list_from(
        &self,
        path: &str,
        limit: u32,
        mut cursor: Option<String>,
    ) -> Result<Listed, Failure> {
        let limit = limit as usize;
        let mut entries = Vec::new();
        loop {
            let page = (limit - entries.len()).min(100);
            let glue = match path.split_once('?') {
                None => "?",
                Some((_, "")) => "",
                Some(_) => "&",
            };
            let asked = cursor;
            let from = asked.as_ref().map(|cursor| format!("&cursor={}", encode(cursor))).unwrap_or_default();
            let reply = self.send(Call::get(format!("{path}{glue}limit={page}{from}"))).await?;
            let Value::Array(found) = reply.body else {
                return Err(self.stranger());
            };
            // A page may be empty and have a next one; one that names itself as the next has not.
            let same = reply.cursor == asked;
            entries.extend(found);
            cursor = reply.cursor.filter(|_| !same);
            if entries.len() >= limit || cursor.is_none() {
                let cut = entries.len() > limit;
                entries.truncate(limit);
                let more = cut || cursor.is_some();
                return Ok(Listed { entries, more, cursor: cursor.filter(|_| !cut) });
            }
        }
    }

    /// The bytes of an answer, as they are.
    pub(crate) async fn bytes(&self, call: Call) -> Result<Bytes, Failure> {
        let response = self.request(call, CALL).await?;
        response.bytes(FILE_BYTES_MAX).await.map_err(|error| self.unreached(&error))
    }

    /// Opens the event stream of a run after the event `after`; with `live` it goes on until the run is over.
    pub(crate) async fn events(&self, run: RunId, after: u64, live: bool) -> Result<Response, Failure> {
        self.stream(format!("/v1/runs/{run}/events"), after, live).await
    }

    /// Opens the event stream of a session after the frame `after`; with `live` it goes on until the session is stopped.
    pub(crate) async fn conversation(
        &self,
        session: SessionId,
        after: u64,
        live: bool,
    ) -> Result<Response, Failure> {
        self.stream(format!("/v1/sessions/{session}/events"), after, live).await
    }

    /// Opens the stream of what a workload writes after the line `after`; with `live` it goes on until the workload is over.
    pub(crate) async fn logs(&self, vm: &str, after: u64, live: bool) -> Result<Response, Failure> {
        self.stream(format!("/v1/runtime/vms/{vm}/logs"), after, live).await
    }

    async fn stream(&self, path: String, after: u64, live: bool) -> Result<Response, Failure> {
        let query = if live { "" } else { "?live=false" };
        let mut call = Call::get(format!("{path}{query}"));
        call.headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if after > 0 {
            call.headers.insert(HeaderName::from_static("last-event-id"), HeaderValue::from(after));
        }
        self.request(call, STREAM).await
    }

    /// A broken or missing connection, with what to do about it.
    pub(crate) fn unreached(&self, error: &lantern_net::Error) -> Failure {
        refusal::unreached(&self.base, error)
    }

    /// The error that an event stream ended with, with what to do about it.
    pub(crate) fn broke_off(&self, code: &str, words: &str) -> Failure {
        refusal::broke_off(code, words, &self.auth())
    }

    async fn request(&self, call: Call, deadlines: Deadlines) -> Result<Response, Failure> {
        let (auth, also) = (self.auth(), call.also);
        let mut response = self.ask(call.clone(), &auth, deadlines).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && !call.public
            && let Auth::Login(token) = &auth
            && let Some(renewed) = self.renew(token).await?
        {
            response = self.ask(call, &renewed, deadlines).await?;
        }
        if response.status().is_success() || also == Some(response.status()) {
            return Ok(response);
        }
        Err(refusal::read(response, &auth).await)
    }

    async fn ask(&self, call: Call, auth: &Auth, deadlines: Deadlines) -> Result<Response, Failure> {
        let request = self.prepare(call, auth)?;
        let sent = self.client.send(Reach::Private, request, deadlines).await;
        sent.map_err(|error| self.unreached(&error))
    }

    fn prepare(&self, call: Call, auth: &Auth) -> Result<Request, Failure> {
        let mut headers = call.headers;
        if !call.public {
            headers.insert(header::AUTHORIZATION, self.authorization(auth)?);
        }
        let mut body = Bytes::new();
        if let Some(value) = call.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            body = Bytes::from(value.to_string());
        }
        Ok(Request { method: call.method, url: self.base.join(&call.path), headers, body })
    }

    fn authorization(&self, auth: &Auth) -> Result<HeaderValue, Failure> {
        let secret = match auth {
            Auth::None(elsewhere) => return Err(logged_out(&self.base, elsewhere.as_deref())),
            Auth::Given(_, secret) | Auth::Login(secret) => secret,
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).map_err(|_| {
            Failure::usage("the API key or token has characters that no key has")
                .hint("copy it again: a key is hlx_live_ and 32 hexadecimal digits")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn json(&self, body: &[u8]) -> Result<Value, Failure> {
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(body).map_err(|_| self.stranger())
    }

    /// The answer is not one that a Lantern server gives.
    pub(crate) fn stranger(&self) -> Failure {
        Failure::new(Exit::Failed, format!("{} does not answer like a Lantern server", self.base.as_str()))
            .hint(format!("check --api-url or {}", env::API_URL))
    }
}

/// The credential for `base`. A file that cannot be read is an error only when nothing else was given.
fn auth(globals: &Globals, base: &Base) -> Result<Auth, Failure> {
    let given = [
        ("--api-key", globals.api_key.clone()),
        (env::API_KEY, env::get(env::API_KEY)),
        (env::API_TOKEN, env::get(env::API_TOKEN)),
    ];
    for (source, value) in given {
        if let Some(value) = value {
            return Ok(Auth::Given(source, Secret::new(value.trim().to_owned())));
        }
    }
    let Some(place) = Place::find() else { return Ok(Auth::None(None)) };
    match place.load() {
        Ok(None) => Ok(Auth::None(None)),
        Ok(Some(saved)) if saved.api_url == base.as_str() => Ok(Auth::Login(saved.token)),
        Ok(Some(saved)) => Ok(Auth::None(Some(saved.api_url))),
        Err(error) => Err(unusable(&error, place.file())),
    }
}

/// A saved login that is there and not used.
fn unusable(error: &Unusable, file: &Path) -> Failure {
    let file = file.display();
    match error {
        Unusable::Exposed => {
            let hint = format!(
                "chmod 600 {file}; if somebody may have read it, run `lantern logout`, then `lantern login`"
            );
            Failure::new(Exit::Forbidden, format!("the saved login in {file} can be read by others"))
                .code("login_exposed")
                .hint(hint)
        }
        Unusable::Unreadable(error) => {
            Failure::new(Exit::Failed, format!("the saved login in {file} cannot be read: {error}"))
                .hint("run `lantern logout`, then `lantern login`")
        }
    }
}

fn logged_out(base: &Base, elsewhere: Option<&str>) -> Failure {
    let message = match elsewhere {
        None => "not logged in".to_owned(),
        Some(other) => format!("not logged in to {} (the saved login is for {other})", base.as_str()),
    };
    let login = match base.as_str() {
        DEFAULT_URL => "run `lantern login`".to_owned(),
        other => format!("run `lantern login --api-url {other}`"),
    };
    let next = match elsewhere {
        None => login,
        Some(other) => format!("{login}, or set {}={other} to use that server", env::API_URL),
    };
    Failure::new(Exit::Forbidden, message).code("not_logged_in").hint(next)
}

/// A server that has read enough closes the connection, and its refusal may be lost with it: say how big we were.
fn sized(mut failure: Failure, bytes: usize) -> Failure {
    let limits = Limits::default();
    let refused = failure.code.as_deref().is_some_and(|code| code.ends_with("too_large"));
    let cut_off = failure.exit == Exit::Unreachable && bytes as u64 > limits.body_bytes_max;
    if refused || cut_off {
        failure.details.push(format!(
            "the request has {}; a server takes {} unless it is configured otherwise, of which {} are input",
            mebibytes(bytes as u64),
            mebibytes(limits.body_bytes_max),
            mebibytes(limits.input_bytes_max),
        ));
        failure.hint = Some("send less, or raise the server's limits".to_owned());
    }
    failure
}

/// Bytes as `4.0 MiB`, rounded up so that too much never looks like enough.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes.saturating_mul(10)).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up() {
        for (bytes, want) in
            [(0, "0.0 MiB"), (1, "0.1 MiB"), (4 << 20, "4.0 MiB"), ((4 << 20) + 1, "4.1 MiB")]
        {
            assert_eq!(mebibytes(bytes), want);
        }
    }

    #[test]
    fn a_refusal_for_size_says_how_big_it_was() {
        let mut refused = Failure::new(Exit::Failed, "too large");
        refused.code = Some("body_too_large".to_owned());
        assert_eq!(sized(refused, 9 << 20).details.len(), 1);
        let cut_off = Failure::new(Exit::Unreachable, "broke");
        assert_eq!(sized(cut_off.clone(), 9 << 20).details.len(), 1);
        assert_eq!(sized(cut_off.clone(), 100), cut_off);
    }
}
