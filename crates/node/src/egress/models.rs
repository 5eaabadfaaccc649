//! Model calls of a program in a box: asked of us with the token of its box, counted on the meter of its workload.
//!
//! Invariant: on the paths of the doors nobody is asked before the token was the one of this very box, which came in over this box's own
//! listener; a token that is another's is refused and told. A recorded step needs none, as no step does: only the box reaches the
//! listener. What a call may cost is held before it is sent, by whoever answers. A body that came to
//! its end here is settled there.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt as _};
use lantern_ledger::Meter;
use lantern_policy::Scope;
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::secret::BOX_TOKEN_PREFIX;
use lantern_types::{AgentId, Digest, Dur};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::head::Head;
use super::{Egress, Told};

/// Bytes of what a model is asked.
pub(super) const BODY_MAX: u64 = 8 << 20;
/// Bytes of an answer that is recorded.
const RECORDED_MAX: usize = 2 << 20;
/// How long a program may take to read a piece of its answer.
const READING_MAX: Dur = Dur::from_secs(300);
const PATHS: [&str; 5] =
    ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/models"];
/// What is between a program and its listener, and not for a provider.
const OURS: [&str; 5] = ["authorization", "x-api-key", "host", "connection", "content-length"];

/// Answers model calls.
pub type Models = Arc<dyn Fn(Ask) -> BoxFuture<'static, Answer> + Send + Sync>;

/// What a program asks.
pub struct Ask {
    /// The tenant of its workload.
    pub scope: Scope,
    /// The agent of its run and its name, if there is one.
    pub agent: Option<(AgentId, String)>,
    /// The workload's meter.
    pub meter: Meter,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Headers that are for a provider.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Why it is to be refused, in the words of its wire.
    pub denied: Option<&'static str>,
}

/// A body as it comes.
pub type Body = Pin<Box<dyn Stream<Item = io::Result<Vec<u8>>> + Send>>;

/// What a program is answered.
pub struct Answer {
    /// `200 OK`.
    pub status: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
    /// Why it was refused, when it was.
    pub refused: Option<String>,
}

/// The door to models of one box.
pub(crate) struct Door {
    pub(crate) models: Models,
    pub(crate) scope: Scope,
    pub(crate) agent: Option<(AgentId, String)>,
    pub(crate) meter: Meter,
    /// What the token of this box comes to: compared instead of it, so that no time tells how much of a guess is right.
    pub(crate) token: Digest,
    // Steps under way; a section under this lock is one look-up or change.
    pub(crate) under_way: Mutex<BTreeSet<String>>,
}

impl Door {
    /// Why whoever shows this is refused; nobody who shows the token of this box is.
    fn denies(&self, head: &Head) -> Option<&'static str> {
        let bearer = head.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match bearer.or_else(|| head.header("x-api-key")) {
            Some(token) if Digest::of(token.as_bytes()) == self.token => None,
            Some(token) if token.starts_with(BOX_TOKEN_PREFIX) => Some(
                "this is the token of another workload, or of an earlier box: it is good in its own box alone",
            ),
            Some(_) => Some("this is no token of this box: LANTERN_AGENT_INSTANCE_TOKEN holds it"),
            None => Some("no token was shown: LANTERN_AGENT_INSTANCE_TOKEN holds the one of this box"),
        }
    }

    fn ask(&self, method: &str, path: &str, head: Option<&Head>, body: Vec<u8>) -> Ask {
        let passed = |(name, _): &&(String, String)| !OURS.contains(&name.as_str());
        Ask {
            scope: self.scope,
            agent: self.agent.clone(),
            meter: self.meter.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: head
                .map(|head| head.headers.iter().filter(passed).cloned().collect())
                .unwrap_or_default(),
            body,
            denied: None,
        }
    }
}

/// Whether a question to ourselves is one for a model.
pub(super) fn is_for_a_model(path: &str) -> bool {
    PATHS.contains(&path.split('?').next().unwrap_or_default())
}

/// One call of a model, to the end of its answer.
pub(super) async fn call(
    egress: &Egress,
    client: TcpStream,
    door: &Door,
    (head, path): (&Head, &str),
    body: Vec<u8>,
) {
    let path = path.split('?').next().unwrap_or_default();
    let ask = door.ask(&head.method, path, Some(head), body);
    let ask = Ask { denied: door.denies(head), ..ask };
    let answer = (door.models)(ask).await;
    if !refused(egress, path, answer.refused.as_deref()).await {
        return;
    }
    send(&*egress.clock, client, answer).await;
}

/// Tells that a call was refused, if it was. `false` when nobody hears it.
async fn refused(egress: &Egress, path: &str, why: Option<&str>) -> bool {
    match why {
        Some(why) => egress.told.send(Told::Refused(path.to_owned(), why.to_owned())).await.is_ok(),
        None => true,
    }
}

/// A call whose answer is recorded under a key and is answered with ever after: a status, JSON, and whether it is to be recorded.
pub(super) async fn step(egress: &Egress, door: &Door, request: &Value) -> (String, Value, bool) {
    let mut request = request.clone();
    if let Some(fields) = request.as_object_mut() {
        fields.insert("stream".to_owned(), Value::Bool(false));
    }
    let path = "/v1/chat/completions";
    let mut ask = door.ask("POST", path, None, request.to_string().into_bytes());
    ask.headers.push(("content-type".to_owned(), "application/json".to_owned()));
    let mut answer = (door.models)(ask).await;
    refused(egress, path, answer.refused.as_deref()).await;
    let mut whole = Vec::new();
    while let Some(piece) = answer.body.next().await {
        match piece {
            Ok(piece) if whole.len() + piece.len() <= RECORDED_MAX => whole.extend(piece),
            _ => {
                let words = json!({ "code": "answer_lost", "error": "the answer broke off or is too long to record" });
                return ("502 Bad Gateway".to_owned(), words, false);
            }
        }
    }
    let fine = answer.status.starts_with('2');
    match serde_json::from_slice(&whole) {
        Ok(value) => (answer.status, value, fine),
        Err(_) => {
            let words = json!({ "code": "answer_invalid", "error": "the answer is not JSON" });
            ("502 Bad Gateway".to_owned(), words, false)
        }
    }
}

/// A key whose step is under way, until it is dropped.
pub(super) struct UnderWay<'a>(&'a Door, String);

impl<'a> UnderWay<'a> {
    /// `None` when somebody else does this step now.
    pub(super) fn begin(door: &'a Door, key: &str) -> Option<Self> {
        let mut under_way = door.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(key.to_owned()).then(|| Self(door, key.to_owned()))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Sends an answer in chunks, so that one which breaks off is seen to.
async fn send(clock: &dyn Clock, mut client: TcpStream, answer: Answer) {
    let Answer { status, headers, mut body, .. } = answer;
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            head.extend([name.as_str(), ": ", &value, "\r\n"]);
        }
    }
    head.push_str("transfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    if !written(clock, &mut client, head.as_bytes()).await {
        return;
    }
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return };
        if piece.is_empty() {
            continue;
        }
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
        if !written(clock, &mut client, &chunk).await {
            return;
        }
    }
    if written(clock, &mut client, b"0\r\n\r\n").await {
        super::proxy::linger(clock, client).await;
    }
}

async fn written(clock: &dyn Clock, client: &mut TcpStream, bytes: &[u8]) -> bool {
    tokio::select! {
        biased;
        written = client.write_all(bytes) => written.is_ok(),
        () = clock.sleep(READING_MAX) => false,
    }
}
