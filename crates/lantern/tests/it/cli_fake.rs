//! A small server that answers as a test says, and a user with a home folder of their own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The run that most tests are about.
pub(crate) const RUN: &str = "018f0000-0000-7000-8000-000000000001";

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method, path and query.
    pub(crate) line: String,
    pub(crate) body: Value,
    headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What the server does.
pub(crate) enum Answer {
    Json(u16, Value),
    /// With these headers.
    With(u16, Value, Vec<(&'static str, String)>),
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// These bytes of an event stream, and then.
    Events(String, Then),
}

/// How an event stream goes on.
pub(crate) enum Then {
    Close,
    /// The connection breaks.
    Break,
    /// Nothing more comes.
    Hang,
}

/// A running server. Dropping it breaks its connections and frees its port.
pub(crate) struct Fake {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(0, answer)
    }

    pub(crate) fn start_at(port: u16, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let answer = Arc::new(answer);
        let router = Router::new().fallback(move |request: Request| {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            async move {
                let request = read(request).await;
                let answer = answer(&request);
                kept.lock().unwrap().push(request);
                respond(answer)
            }
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
                ready.send(listener.local_addr().unwrap().port()).unwrap();
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    served = axum::serve(listener, router) => served.unwrap(),
                }
            });
        });
        Self { port: bound.recv().unwrap(), seen, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and path of every request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn read(request: Request) -> Seen {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    Seen {
        line: format!("{} {}", head.method, head.uri),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        headers: head.headers,
    }
}

fn respond(answer: Answer) -> Response {
    match answer {
        Answer::Json(status, body) => respond(Answer::With(status, body, Vec::new())),
        Answer::With(status, body, headers) => {
            let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
            let builder = Response::builder().status(status);
            headers.into_iter().fold(builder, |b, (name, value)| b.header(name, value)).body(body).unwrap()
        }
        Answer::Bytes(bytes) => Response::new(Body::from(bytes)),
        Answer::Events(text, then) => {
            let rest = match then {
                Then::Close => stream::empty().boxed(),
                // Yields once, so that what was said before is sent before it breaks.
                Then::Break => stream::once(async {
                    tokio::task::yield_now().await;
                    Err(std::io::Error::other("broken"))
                })
                .boxed(),
                Then::Hang => stream::pending().boxed(),
            };
            let body = Body::from_stream(stream::once(async { Ok(text) }).chain(rest));
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }
    }
}

/// A refusal in the server's words.
pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::Json(status, json!({ "error": message, "code": code, "requestId": "r-1" }))
}

/// What a test did not foresee. A refusal and no panic: a client waits for a server that breaks.
pub(crate) fn unforeseen(what: impl std::fmt::Debug) -> Answer {
    refusal(400, "unforeseen", &format!("{what:?}"))
}

/// A user: the binary with a home folder, and nothing of this machine's environment.
pub(crate) struct User {
    pub(crate) home: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl User {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("lantern-cli-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        Self { home, env: Vec::new() }
    }

    /// A user whose server is `fake` and who has an API key.
    pub(crate) fn of(fake: &Fake) -> Self {
        Self::new().with("LANTERN_API_URL", &fake.url()).with("LANTERN_API_KEY", "hlx_live_test")
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Writes a file into the home folder; answers with its path.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.home.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command with more environment.
    pub(crate) fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Done {
        Done::of(self.command(args).envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command that reads this from standard input.
    pub(crate) fn run_reading(&self, args: &[&str], input: &str) -> Done {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input.as_bytes()).unwrap();
        drop(writer);
        Done::of(self.command(args).stdin(reader).output().unwrap())
    }

    /// Runs a command whose output goes to a full disk.
    pub(crate) fn run_into_the_full(&self, args: &[&str]) -> Done {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        Done::of(self.command(args).stdin(Stdio::null()).stdout(full).output().unwrap())
    }

    /// Runs a command whose output goes to a reader that is gone.
    pub(crate) fn run_into_the_closed(&self, args: &[&str]) -> Done {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Done::of(self.command(args).stdin(Stdio::null()).stdout(writer).output().unwrap())
    }

    /// Starts a command whose output is read while it runs.
    pub(crate) fn begin(&self, args: &[&str]) -> Running {
        let piped = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut child = piped(&mut self.command(args));
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lantern"));
        command.args(args).env_clear().env("HOME", &self.home).env("TERM", "xterm").current_dir(&self.home);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.home));
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Its standard output, once it is known to have succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

/// A command that is still running.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end. The output is what was not read before.
    pub(crate) fn end(mut self) -> Done {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Done { out, ..Done::of(output) }
    }
}

/// The permission bits of a file or folder.
pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
