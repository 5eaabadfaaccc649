//! The front doors beside a bare proxy: the same HTTP stack with no feature at all, in a process of its own, before the same
//! provider. Caps and records are on for ours.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use http::{HeaderMap, header};
use lantern_bench::{Amount, Bar, Line, median, percentile};
use lantern_net::http::{Deadlines, Method, Request};
use lantern_net::{Client, Reach};
use lantern_store::testing::Folder;
use lantern_types::Dur;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Bench;
use crate::load::{self, Shot};
use crate::server::Server;

/// What this program is called with to be the provider, or the bare proxy before it.
pub(crate) const PROVIDER: &str = "gateway-provider";
pub(crate) const PROXY: &str = "gateway-proxy";

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;
const ROUND: Dur = Dur::from_secs(3);
/// Requests a second of the measurement of what is added.
const CALM: f64 = 200.0;
const PATH: &str = "/v1/chat/completions";
const CHUNKS: usize = 20;

/// A helper process. It ends with this value.
struct Helper {
    _process: Child,
    url: String,
}

impl Helper {
    async fn start(word: &str, about: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([word, about]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("start a helper")?;
        let output = process.stdout.take().context("the helper's output")?;
        let url = BufReader::new(output).lines().next_line().await?.context("the helper ended")?;
        Ok(Self { _process: process, url })
    }
}

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let provider = Helper::start(PROVIDER, "").await?;
    let proxy = Helper::start(PROXY, &provider.url).await?;
    let folder = Folder::new("bench-gateway");
    let server =
        Server::start(&bench.lantern(), folder.path(), Some(&format!("{}/v1", provider.url))).await?;
    let api = server.login().await?;
    api.post(
        "/v1/settings/caps",
        &json!({ "maxCostUsdPerDay": 1_000_000, "maxCostUsdPerMonth": 10_000_000 }),
    )
    .await?;
    let key = api.post("/v1/api-keys", &json!({ "name": "bench", "scopes": ["write"] })).await?;
    let key = key.get("rawKey").and_then(serde_json::Value::as_str).context("no key")?.to_owned();
    let bearer = format!("Bearer {key}");
    let ask = |stream: bool| {
        let words = "word ".repeat(150);
        let messages = [json!({ "role": "user", "content": words })];
        json!({ "model": "gpt-4o", "messages": messages, "max_tokens": 100, "stream": stream }).to_string()
    };
    let (whole, streamed) = (Shot::call(PATH, &bearer, &ask(false)), Shot::call(PATH, &bearer, &ask(true)));
    let (mut ours, mut bare, mut our_streams, mut bare_streams) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        bare.push(load::flood(&bench.clock, &proxy.url, &whole, CONNECTIONS, ROUND).await?);
        ours.push(load::flood(&bench.clock, &server.api, &whole, CONNECTIONS, ROUND).await?);
        bare_streams.push(load::flood(&bench.clock, &proxy.url, &streamed, CONNECTIONS, ROUND).await?);
        our_streams.push(load::flood(&bench.clock, &server.api, &streamed, CONNECTIONS, ROUND).await?);
    }
    let calm = |url: String| {
        let (clock, shot) = (bench.clock.clone(), whole.clone());
        async move { load::paced(&clock, &url, &shot, 8, (CALM, ROUND)).await }
    };
    let direct = calm(provider.url.clone()).await?;
    let by_proxy = calm(proxy.url.clone()).await?;
    let by_ours = calm(server.api.clone()).await?;
    server.stop().await?;
    let rate = |value| Amount::new(value, "requests/s");
    let added = |times: &[f64], share: f64| {
        Amount::new((percentile(times, share) - percentile(&direct, share)).max(0.0), "ms")
    };
    Ok(vec![
        Line::figure("calls through the front door, 32 connections", rate(median(&ours)))
            .against("a bare proxy", rate(median(&bare)), Some(Bar::AtLeast(0.5)))
            .note("a cap of a day and one of a month, every call recorded"),
        Line::figure("streams of 20 chunks through it, 32 connections", rate(median(&our_streams))).against(
            "a bare proxy",
            rate(median(&bare_streams)),
            Some(Bar::AtLeast(0.5)),
        ),
        Line::figure("added to a call at 200 a second, median", added(&by_ours, 0.5)).against(
            "a bare proxy",
            added(&by_proxy, 0.5),
            Some(Bar::AtMost(1.5)),
        ),
        Line::figure("the same, 99 of 100 within", added(&by_ours, 0.99)).against(
            "a bare proxy",
            added(&by_proxy, 0.99),
            Some(Bar::AtMost(2.0)),
        ),
    ])
}

/// A provider that answers at once, until it is killed.
pub(crate) async fn provide() -> Result<()> {
    let answer = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "word ".repeat(100) }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 160, "completion_tokens": 100, "total_tokens": 260 } });
    let whole = Bytes::from(answer.to_string());
    let chunk = |delta: serde_json::Value, end: serde_json::Value| {
        let choices = [json!({ "index": 0, "delta": delta, "finish_reason": end })];
        format!(
            "data: {}\n\n",
            json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": choices })
        )
    };
    let mut chunks: Vec<Bytes> = (0..CHUNKS)
        .map(|_| chunk(json!({ "content": "some words " }), serde_json::Value::Null).into())
        .collect();
    chunks.push(chunk(json!({}), json!("stop")).into());
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 160, "completion_tokens": 40 } });
    chunks.push(format!("data: {usage}\n\ndata: [DONE]\n\n").into());
    let answer = move |body: Bytes| {
        let (whole, chunks) = (whole.clone(), chunks.clone());
        async move {
            let streams = body.windows(13).any(|window| window == b"\"stream\":true");
            let (kind, body) = if streams {
                let chunks = chunks.into_iter().map(Ok::<_, std::convert::Infallible>);
                ("text/event-stream", Body::from_stream(stream::iter(chunks)))
            } else {
                ("application/json", Body::from(whole))
            };
            ([(header::CONTENT_TYPE, kind)], body)
        }
    };
    serve(Router::new().route(PATH, post(answer))).await
}

/// A proxy that does nothing else, until it is killed.
pub(crate) async fn proxy(upstream: &str) -> Result<()> {
    let state = (Client::new()?, format!("{upstream}{PATH}"));
    serve(Router::new().route(PATH, post(pass)).with_state(state)).await
}

async fn pass(State((client, url)): State<(Client, String)>, headers: HeaderMap, body: Bytes) -> Response {
    let mut passed = HeaderMap::new();
    passed.extend(headers.get(header::CONTENT_TYPE).map(|kind| (header::CONTENT_TYPE, kind.clone())));
    let request = Request { method: Method::POST, url, headers: passed, body };
    let answered = client.send(Reach::Private, request, Deadlines::total(Dur::from_secs(60))).await;
    let mut answer = Response::new(Body::empty());
    let Ok(answered) = answered else {
        *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
        return answer;
    };
    let names = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
    let kept =
        names.into_iter().filter_map(|name| Some((name.clone(), answered.headers().get(&name)?.clone())));
    answer.headers_mut().extend(kept);
    let chunks = stream::unfold(answered, |mut answered| async move {
        match answered.chunk().await {
            Ok(chunk) => chunk.map(|chunk| (Ok(chunk), answered)),
            Err(error) => Some((Err(error), answered)),
        }
    });
    *answer.body_mut() = Body::from_stream(chunks);
    answer
}

async fn serve(router: Router) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&format!("http://{}", listener.local_addr()?));
    Ok(axum::serve(listener, router).await?)
}
