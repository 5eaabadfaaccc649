//! Traces in a real server, and a collector that takes them: one trace for a run, whatever happens to the processes.

use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use lantern_net::http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::api::{Api, answer, said, tick};
use super::process::{Folder, NEVER, Server, lantern};
use super::provider::{Answer, Provider};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// In every prompt, argument and answer of these tests, and in no span.
const CANARY: &str = "canary-of-what-was-said";

/// A collector of OTLP over HTTP that answers as it is told, and keeps what it took.
#[derive(Clone, Default)]
struct Collector {
    /// What is answered first, each with a `Retry-After`; 200 from then on.
    refusals: Arc<Mutex<VecDeque<u16>>>,
    taken: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    asked: Arc<Mutex<usize>>,
    url: String,
}

impl Collector {
    async fn start(refusals: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let refusals = Arc::new(Mutex::new(refusals.iter().copied().collect()));
        let collector = Self { refusals, url, ..Self::default() };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "a peer of the process under test, which ends with the test"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    fn env(&self) -> Vec<(&str, &str)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hush%20hush"),
        ]
    }

    /// Everything that it took, as text.
    fn words(&self) -> String {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|(_, body)| String::from_utf8_lossy(body).into_owned()).collect()
    }

    /// The spans that it took, each once. One that came again must have been the same.
    fn spans(&self) -> BTreeMap<String, Span> {
        let mut spans = BTreeMap::new();
        for (_, body) in self.taken.lock().unwrap().iter() {
            let body: Value = serde_json::from_slice(body).unwrap();
            for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
                let id = span["spanId"].as_str().unwrap().to_owned();
                if let Some(Span(before)) = spans.insert(id, Span(span.clone())) {
                    assert_eq!(before, *span, "exported again as another one");
                }
            }
        }
        spans
    }

    /// Waits until it has taken the span of so many runs' ends, and answers all spans.
    async fn ends(&self, runs: usize) -> BTreeMap<String, Span> {
        let look = async {
            loop {
                let spans = self.spans();
                if spans.values().filter(|span| span.is_root()).count() >= runs {
                    return spans;
                }
                tick().await;
            }
        };
        tokio::time::timeout(NEVER, look).await.expect("the run's own span never came")
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> Response {
    *collector.asked.lock().unwrap() += 1;
    if let Some(status) = collector.refusals.lock().unwrap().pop_front() {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, [("retry-after", "1")], "not now").into_response();
    }
    collector.taken.lock().unwrap().push((headers, body));
    ([("content-type", "application/json")], "{}").into_response()
}

#[derive(Clone, Debug, PartialEq)]
struct Span(Value);

impl Span {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }
    fn said(&self, key: &str) -> Option<&str> {
        let found = self.0["attributes"].as_array().unwrap().iter().find(|entry| entry["key"] == key)?;
        found["value"].as_object().unwrap().values().next().unwrap().as_str()
    }
    fn is_root(&self) -> bool {
        self.text("name").starts_with("invoke_agent ")
    }
    fn attempt(&self) -> String {
        let [step, attempt] =
            ["lantern.step_id", "lantern.step_attempt"].map(|key| self.said(key).unwrap_or("-"));
        format!(
            "{} {step} {attempt} {}",
            self.text("name"),
            self.0["status"]["message"].as_str().unwrap_or("ok")
        )
    }
}

#[tokio::test]
async fn a_run_is_one_trace_through_a_kill() {
    let (folder, collector) = (Folder::new(), Collector::start(&[]).await);
    let answers = vec![
        Answer::Call("calc", json!({"expression": "2+2"})),
        Answer::Hang,
        Answer::Say("canary-of-what-was-said"),
    ];
    let provider = Provider::start(answers).await;
    let env = [provider.env(), collector.env()].concat();
    let server = Server::dev_with(folder.path(), &env);
    let api = Api::of(&server).await;
    let agent = json!({"tools": ["calc"], "model": "gpt-4o", "systemPrompt": CANARY});
    api.agent("sums", agent).await;
    let run = api.run_under(&format!("00-{TRACE}-{CALLER}-01"), "sums", json!({"prompt": CANARY})).await;
    provider.called(2).await;
    server.kill();

    let server = Server::dev_with(folder.path(), &env);
    let api = Api::of(&server).await;
    assert_eq!(api.ended(&run).await["output"]["result"], CANARY);
    let spans = collector.ends(1).await;
    assert!(spans.values().all(|span| span.text("traceId") == TRACE), "{spans:#?}");
    let (roots, steps): (Vec<_>, Vec<_>) = spans.values().partition(|span| span.is_root());
    let [root] = roots.as_slice() else { panic!("one root: {roots:#?}") };
    assert_eq!((root.text("name"), root.text("parentSpanId")), ("invoke_agent sums", CALLER));
    assert_eq!(root.said("lantern.run_id"), Some(run.as_str()));
    assert_eq!(root.said("lantern.cost_micro_usd"), Some("7000"));
    assert!(steps.iter().all(|span| span.text("parentSpanId") == root.text("spanId")), "{steps:#?}");
    let mut attempts: Vec<String> = steps.iter().map(|span| span.attempt()).collect();
    attempts.sort();
    assert_eq!(
        attempts,
        [
            "chat gpt-4o llm-1 1 ok",
            "chat gpt-4o llm-2 1 crashed",
            "chat gpt-4o llm-2 2 ok",
            "execute_tool calc llm-1.tool-1 1 ok",
        ]
    );
    let last = steps.iter().find(|span| span.attempt().ends_with("llm-2 2 ok")).unwrap();
    for (key, want) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.response.model", "gpt-4o-2024"),
        ("gen_ai.usage.input_tokens", "1000"),
        ("gen_ai.usage.output_tokens", "100"),
        ("lantern.cost_micro_usd", "3500"),
        ("lantern.tenant_id", "00000000-0000-0000-0000-000000000001"),
        ("lantern.agent_instance_id", &format!("ai-{run}")),
    ] {
        assert_eq!(last.said(key), Some(want), "{key}: {last:#?}");
    }
    // Each call named the span that came of it, also the one that was cut.
    let named: Vec<String> = provider.traces();
    assert_eq!(named.len(), 3);
    for (name, attempt) in named.iter().zip(["llm-1 1 ok", "llm-2 1 crashed", "llm-2 2 ok"]) {
        let [_, trace, span, flags] = *name.split('-').collect::<Vec<_>>() else { panic!("{name}") };
        assert_eq!((trace, flags), (TRACE, "01"));
        assert!(spans[span].attempt().ends_with(attempt), "{attempt}: {:?}", spans[span]);
    }
    assert!(!collector.words().contains(CANARY), "nothing that was said is in a span");
    let taken = collector.taken.lock().unwrap();
    assert!(taken.iter().all(|(headers, _)| headers["x-key"] == "hush hush"));
}

#[tokio::test]
async fn a_collector_that_is_away_delays_no_run_and_gets_all_of_them_once_it_is_back() {
    let (folder, collector) = (Folder::new(), Collector::start(&[503, 429, 401]).await);
    let server = Server::dev_with(folder.path(), &collector.env());
    let api = Api::of(&server).await;
    let sum =
        json!({"id": "sum", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1+1"}}});
    api.agent("kid", json!({"program": "steps", "steps": [sum]})).await;
    let child = json!({"id": "sub", "kind": "child", "data": {"agent": "kid", "input": {}}});
    let map = json!({"id": "each", "kind": "map", "items": [1, 2], "steps": [child]});
    api.agent("parent", json!({"program": "steps", "steps": [map]})).await;
    let unwanted = api.run_under(&format!("00-{TRACE}-{CALLER}-00"), "kid", json!({})).await;
    let run = api.run("parent", json!({"text": CANARY})).await;
    assert_eq!(api.ended(&unwanted).await["status"], "succeeded");
    assert_eq!(api.ended(&run).await["status"], "succeeded", "the run waits for no collector");

    let spans = collector.ends(3).await;
    assert!(*collector.asked.lock().unwrap() >= 4, "it was asked again after each refusal");
    let roots: Vec<&Span> = spans.values().filter(|span| span.is_root()).collect();
    assert_eq!(roots.len(), 3, "the parent and its children, and not the run whose caller keeps no trace");
    let parent = roots.iter().find(|span| span.text("name") == "invoke_agent parent").unwrap();
    assert_eq!((parent.text("parentSpanId"), parent.said("lantern.run_id")), ("", Some(run.as_str())));
    assert!(spans.values().all(|span| span.text("traceId") == parent.text("traceId")), "{spans:#?}");
    for kid in roots.iter().filter(|span| span.text("name") == "invoke_agent kid") {
        let step = &spans[kid.text("parentSpanId")];
        assert_eq!((step.text("name"), step.said("lantern.run_id")), ("child kid", Some(run.as_str())));
        let map = &spans[step.text("parentSpanId")];
        assert_eq!((map.text("name"), map.text("parentSpanId")), ("map", parent.text("spanId")));
    }
    assert!(!collector.words().contains(&unwanted) && !collector.words().contains(CANARY));

    let measured = api.send(Method::GET, "/metrics", None, None).await.bytes(4 << 20).await.unwrap();
    let measured = String::from_utf8(measured.to_vec()).unwrap();
    let of = |name: &str| -> f64 {
        let line = measured.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or("- -1");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(of("trace_exports_failed_total") >= 3.0, "{measured}");
    assert!(of("trace_spans_exported_total") >= 8.0 && of("trace_spans_dropped_total") == 0.0, "{measured}");
    let looked = answer(&said(&server, &api, &["doctor"]));
    let check = looked["checks"].as_array().unwrap().iter().find(|check| check["name"] == "traces").unwrap();
    assert!(check.to_string().contains(&collector.url) && !looked.to_string().contains("hush"), "{looked}");
}

#[tokio::test]
async fn spans_that_a_collector_refuses_for_good_are_counted_and_hold_up_no_other() {
    // The group, then its only run by itself.
    let (folder, collector) = (Folder::new(), Collector::start(&[400, 400]).await);
    let url = format!("{}/v1/traces", collector.url);
    let server = Server::dev_with(folder.path(), &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url)]);
    let api = Api::of(&server).await;
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "1ms"}});
    api.agent("naps", json!({"program": "steps", "steps": [nap]})).await;
    let first = api.run("naps", json!({})).await;
    api.ended(&first).await;
    let look = async {
        while *collector.asked.lock().unwrap() < 2 {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.expect("it was never asked");
    let second = api.run("naps", json!({})).await;
    api.ended(&second).await;
    let look = async {
        while !collector.words().contains(&second) {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.expect("the second run's spans never came");
    assert!(!collector.words().contains(&first), "they are not sent again");
    let (headers, body) = collector.taken.lock().unwrap()[0].clone();
    assert_eq!(headers["content-type"], "application/x-protobuf", "what every collector takes");
    assert!(body.windows(12).any(|part| part == b"service.name"));
    let measured = api.send(Method::GET, "/metrics", None, None).await.bytes(4 << 20).await.unwrap();
    let measured = String::from_utf8(measured.to_vec()).unwrap();
    assert!(measured.lines().any(|line| line == "trace_spans_dropped_total 2"), "{measured}");
}

#[test]
fn a_protocol_that_is_not_spoken_is_refused_at_the_start() {
    let folder = Folder::new();
    let mut command = lantern();
    command.args(["dev", "--no-open", "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(folder.path()).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("does not speak") && words.contains("4318"), "{words}");
}
