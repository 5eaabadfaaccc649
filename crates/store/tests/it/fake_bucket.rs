//! A small S3 in this process: keeps objects, lets nobody in without the right signature, and misbehaves on request.
//!
//! It computes signatures from what came over the wire, by its own reading of the rules, and knows nothing of the code
//! that made them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use lantern_store::{BucketOptions, Credentials};
use lantern_types::{Digest, Secret};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const KEY: (&str, &str) = ("AKTEST", "a secret key");
const TOKEN: &str = "a session";
const REGION: &str = "eu-central-1";

/// What goes wrong with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A status with a code.
    Status(u16, &'static str),
    /// No answer at all.
    Silence,
    /// Done, and then the connection is reset before the answer.
    Reset,
    /// Half of the answer's body.
    Half,
    /// Another body than was kept.
    Other,
}

#[derive(Default)]
struct State {
    objects: HashMap<String, Vec<u8>>,
    wrong: VecDeque<Wrong>,
    asked: usize,
}

/// A running server; it stops when dropped.
pub(crate) struct FakeBucket {
    state: Arc<Mutex<State>>,
    port: u16,
    _tasks: JoinSet<()>,
}

impl FakeBucket {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let (served, mut tasks) = (state.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(connection(stream, served.clone()));
            }
        });
        Self { state, port, _tasks: tasks }
    }

    pub(crate) fn options(&self) -> BucketOptions {
        BucketOptions {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            bucket: "bodies".to_owned(),
            region: REGION.to_owned(),
            prefix: "lantern".to_owned(),
            path_style: true,
            credentials: Credentials {
                access_key_id: KEY.0.to_owned(),
                secret_access_key: Secret::new(KEY.1.to_owned()),
                session_token: Some(Secret::new(TOKEN.to_owned())),
            },
        }
    }

    /// The next requests go wrong like this, in this order.
    pub(crate) fn misbehave(&self, wrong: impl IntoIterator<Item = Wrong>) {
        self.state.lock().unwrap().wrong.extend(wrong);
    }

    /// How many requests came since the last call.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    pub(crate) fn objects(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let wrong = {
            let mut state = state.lock().unwrap();
            state.asked += 1;
            state.wrong.pop_front()
        };
        let (status, body) = match wrong {
            Some(Wrong::Status(status, code)) => (status, refusal(code)),
            Some(Wrong::Silence) => std::future::pending().await,
            _ => answer(&request, &state),
        };
        let (length, body) = match wrong {
            Some(Wrong::Half) => (body.len(), body[..body.len() / 2].to_vec()),
            Some(Wrong::Other) => (body.len(), vec![b'?'; body.len()]),
            _ => (body.len(), body),
        };
        if wrong == Some(Wrong::Reset) {
            stream.get_ref().set_zero_linger().unwrap();
            return;
        }
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
        let said = [head.as_bytes(), &body].concat();
        if stream.get_mut().write_all(&said).await.is_err() || wrong == Some(Wrong::Half) {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let pair = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: HashMap<String, String> = lines.iter().skip(1).filter_map(pair).collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |text| text.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, headers, body })
}

fn answer(request: &Request, state: &Mutex<State>) -> (u16, Vec<u8>) {
    if let Err(code) = admitted(request) {
        return (403, refusal(code));
    }
    if !request.path.starts_with("/bodies/") {
        return (404, refusal("NoSuchBucket"));
    }
    let objects = &mut state.lock().unwrap().objects;
    match request.method.as_str() {
        "PUT" => {
            objects.insert(request.path.clone(), request.body.clone());
            (200, Vec::new())
        }
        "GET" => match objects.get(&request.path) {
            Some(body) => (200, body.clone()),
            None => (404, refusal("NoSuchKey")),
        },
        "DELETE" => {
            objects.remove(&request.path);
            (204, Vec::new())
        }
        _ => (405, refusal("MethodNotAllowed")),
    }
}

fn refusal(code: &str) -> Vec<u8> {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>").into_bytes()
}

fn admitted(request: &Request) -> Result<(), &'static str> {
    let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
    if header("x-amz-content-sha256") != Digest::of(&request.body).to_string() {
        return Err("XAmzContentSHA256Mismatch");
    }
    if header("x-amz-security-token") != TOKEN {
        return Err("InvalidToken");
    }
    let said = header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").ok_or("AccessDenied")?;
    let parts: HashMap<&str, &str> = said.split(',').filter_map(|part| part.trim().split_once('=')).collect();
    let credential: Vec<&str> = parts.get("Credential").ok_or("AccessDenied")?.split('/').collect();
    let [id, day, region, service, end] = credential[..] else { return Err("AccessDenied") };
    if id != KEY.0 {
        return Err("InvalidAccessKeyId");
    }
    if (region, service, end) != (REGION, "s3", "aws4_request") || !header("x-amz-date").starts_with(day) {
        return Err("AuthorizationHeaderMalformed");
    }
    let names = parts.get("SignedHeaders").ok_or("AccessDenied")?;
    for needed in ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"] {
        if !names.split(';').any(|name| name == needed) {
            return Err("AccessDenied");
        }
    }
    let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
    for name in names.split(';') {
        canonical.extend([name, ":", header(name), "\n"]);
    }
    canonical.extend(["\n", names, "\n", header("x-amz-content-sha256")]);
    let text = [
        "AWS4-HMAC-SHA256",
        header("x-amz-date"),
        &format!("{day}/{region}/{service}/{end}"),
        &Digest::of(canonical.as_bytes()).to_string(),
    ]
    .join("\n");
    let mut key = format!("AWS4{}", KEY.1).into_bytes();
    for part in [day, region, service, end, &text] {
        key = hmac::sign(&hmac::Key::new(HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    let same = parts.get("Signature").is_some_and(|signature| *signature == hex::encode(&key));
    if same { Ok(()) } else { Err("SignatureDoesNotMatch") }
}
