//! The HTTP API as a client sees it.

use std::process::Output;
use std::time::Duration;

use lantern_control::testing::{Answered, undocumented};
use lantern_net::http::{Deadlines, HeaderValue, Method, Request, Response, StatusCode, header};
use lantern_net::sse::{Event, Parser};
use lantern_net::{Client, Reach};
use lantern_types::Dur;
use serde_json::{Value, json};

use super::process::{NEVER, Server, lantern};

pub(crate) struct Api {
    client: Client,
    base: String,
    pub(crate) token: String,
}

impl Api {
    /// Signs in to a dev server.
    pub(crate) async fn of(server: &Server) -> Self {
        Self::login(server, "admin@lantern.dev", "lantern").await
    }

    /// Signs in.
    pub(crate) async fn login(server: &Server, email: &str, password: &str) -> Self {
        let mut api = Self::nobody(server);
        let login = json!({"email": email, "password": password});
        let (status, body) = api.post("/auth/login", &login).await;
        assert_eq!(status, 200, "{body}");
        api.token = body["token"].as_str().unwrap().to_owned();
        api
    }

    /// A client of this server that has no credential.
    pub(crate) fn nobody(server: &Server) -> Self {
        Self::with(server, "")
    }

    /// Whoever has this token or key.
    pub(crate) fn with(server: &Server, token: &str) -> Self {
        Self { client: Client::new().unwrap(), base: server.api.clone(), token: token.to_owned() }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json(Method::POST, path, Some(body)).await
    }
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.json(Method::GET, path, None).await
    }

    /// Asks for something to be removed, and answers the status.
    pub(crate) async fn delete(&self, path: &str) -> u16 {
        self.send(Method::DELETE, path, None, None).await.status().as_u16()
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let name = method.to_string();
        let response = self.send(method, path, body, None).await;
        let status = response.status().as_u16();
        let media = response.header(&header::CONTENT_TYPE).map(str::to_owned);
        let bytes = response.bytes(16 << 20).await.unwrap();
        let (media, body) = (media.as_deref(), Some(&*bytes));
        assert_eq!(undocumented(&Answered { method: &name, path, status, media, body }), None);
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Sends a request and answers with its answer as it comes.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        last_event: Option<u64>,
    ) -> Response {
        let mut request = Request::get(format!("{}{path}", self.base));
        request.method = method;
        if !self.token.is_empty() {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token)).unwrap();
            request.headers.insert(header::AUTHORIZATION, bearer);
        }
        if let Some(body) = body {
            request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            request.body = body.to_string().into();
        }
        if let Some(seq) = last_event {
            request.headers.insert("last-event-id", HeaderValue::from(seq));
        }
        let deadline = Dur::from_millis(u64::try_from(NEVER.as_millis()).unwrap());
        self.client.send(Reach::Private, request, Deadlines::total(deadline)).await.unwrap()
    }

    /// Posts as a proxy that says whom it asks for.
    pub(crate) async fn send_for(&self, peer: &str, path: &str, body: &Value) -> Response {
        let mut request = Request::get(format!("{}{path}", self.base));
        request.method = Method::POST;
        request.headers.insert("x-forwarded-for", HeaderValue::from_str(peer).unwrap());
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = body.to_string().into();
        let deadline = Dur::from_millis(u64::try_from(NEVER.as_millis()).unwrap());
        self.client.send(Reach::Private, request, Deadlines::total(deadline)).await.unwrap()
    }

    /// Posts, and answers with the text of what came, a stream's to its end.
    pub(crate) async fn text(&self, path: &str, body: &Value) -> String {
        let response = self.send(Method::POST, path, Some(body), None).await;
        assert_eq!(response.status(), 200, "{path}");
        String::from_utf8(response.bytes(16 << 20).await.unwrap().to_vec()).unwrap()
    }

    /// Saves an agent.
    pub(crate) async fn agent(&self, name: &str, fields: Value) {
        let mut body = fields;
        body["name"] = json!(name);
        let (status, answer) = self.post("/v1/agents", &body).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Starts a run and answers its id.
    pub(crate) async fn run(&self, agent: &str, input: Value) -> String {
        let (status, run) = self.post("/v1/runs", &json!({"agentName": agent, "input": input})).await;
        assert_eq!(status, 201, "{run}");
        run["id"].as_str().unwrap().to_owned()
    }

    /// The same, under a span of the caller's.
    pub(crate) async fn run_under(&self, trace: &str, agent: &str, input: Value) -> String {
        let mut request = Request::get(format!("{}/v1/runs", self.base));
        request.method = Method::POST;
        let headers =
            [("authorization", format!("Bearer {}", self.token)), ("traceparent", trace.to_owned())];
        for (name, value) in headers {
            request.headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = json!({"agentName": agent, "input": input}).to_string().into();
        let deadline = Dur::from_millis(u64::try_from(NEVER.as_millis()).unwrap());
        let answer = self.client.send(Reach::Private, request, Deadlines::total(deadline)).await.unwrap();
        assert_eq!(answer.status(), 201);
        let run: Value = serde_json::from_slice(&answer.bytes(1 << 20).await.unwrap()).unwrap();
        run["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the run has ended and answers it.
    pub(crate) async fn ended(&self, run: &str) -> Value {
        let (_, frames) = self.events(run, None).await;
        assert!(frames.iter().any(|frame| frame.event == "end"), "the stream ended with the run");
        let (status, run) = self.get(&format!("/v1/runs/{run}")).await;
        assert_eq!(status, 200, "{run}");
        run
    }

    /// Every event until the stream closes.
    pub(crate) async fn events(&self, run: &str, after: Option<u64>) -> (StatusCode, Vec<Event>) {
        self.stream(&format!("/v1/runs/{run}/events"), after).await
    }

    /// Every event of a stream that ends by itself.
    pub(crate) async fn frames(&self, path: &str) -> Vec<Event> {
        self.stream(path, None).await.1
    }

    async fn stream(&self, path: &str, after: Option<u64>) -> (StatusCode, Vec<Event>) {
        let mut response = self.send(Method::GET, path, None, after).await;
        let mut parser = Parser::new(1 << 20);
        let mut events = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            events.extend(parser.push(&chunk).unwrap());
        }
        (response.status(), events)
    }

    /// Reads a run's stream until `enough` says so of an event.
    pub(crate) async fn listen(&self, run: &str, enough: impl Fn(&Event) -> bool) -> Event {
        let listening = async {
            let mut response = self.send(Method::GET, &format!("/v1/runs/{run}/events"), None, None).await;
            let mut parser = Parser::new(1 << 20);
            loop {
                let chunk = response.chunk().await.unwrap().expect("the stream ended too early");
                if let Some(event) = parser.push(&chunk).unwrap().into_iter().find(&enough) {
                    return event;
                }
            }
        };
        tokio::time::timeout(NEVER, listening).await.expect("it was never said")
    }

    /// What a stream at this path says, up to what is `enough` or its end.
    pub(crate) async fn heard(&self, path: &str, enough: impl Fn(&Event) -> bool) -> Vec<Event> {
        let listening = async {
            let mut response = self.send(Method::GET, path, None, None).await;
            let (mut parser, mut heard) = (Parser::new(1 << 20), Vec::new());
            while let Some(chunk) = response.chunk().await.unwrap() {
                for event in parser.push(&chunk).unwrap() {
                    let last = enough(&event);
                    heard.push(event);
                    if last {
                        return heard;
                    }
                }
            }
            heard
        };
        tokio::time::timeout(NEVER, listening).await.expect("it was never said")
    }

    /// Waits until `test` says yes of the run.
    pub(crate) async fn until(&self, run: &str, test: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let (_, run) = self.get(&format!("/v1/runs/{run}")).await;
                if test(&run) {
                    return run;
                }
                tick().await;
            }
        };
        tokio::time::timeout(NEVER, look).await.expect("it never came to that")
    }
}

/// Lets a little time pass between two looks at something outside this process.
pub(crate) async fn tick() {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    interval.tick().await;
    interval.tick().await;
}

/// The sequence numbers of events, `end` and deltas left out.
pub(crate) fn seqs(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .filter(|event| event.event != "end" && event.event != "llm_delta")
        .map(|event| event.id.as_deref().unwrap_or_default().parse().unwrap())
        .collect()
}

/// What the program answers to this command, as JSON, by whoever is signed in here.
pub(crate) fn said(server: &Server, api: &Api, args: &[&str]) -> Output {
    let mut command = lantern();
    command.args(args).args(["-o", "json"]).env("LANTERN_API_URL", &server.api);
    command.env("LANTERN_API_TOKEN", &api.token).output().unwrap()
}

/// The JSON of a command that came to its end.
pub(crate) fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
