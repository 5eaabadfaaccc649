//! Caps of the front doors: what is held, what is stopped, who goes away, and what a crash costs.

use lantern_net::http::{Deadlines, HeaderValue, Method, Request, Response, header};
use lantern_net::{Client, Reach};
use lantern_types::Dur;
use serde_json::{Value, json};

use super::clients::{cap, key, until_calls};
use super::upstream::Upstream;
use crate::e2e::api::{Api, tick};
use crate::e2e::process::{Folder, NEVER, Server};

/// Waits until every process has seen the caps that were set: a quarter of a second.
pub(super) async fn seen(_: &Api) {
    for _ in 0..20 {
        tick().await;
    }
}

/// A raw client of the front doors.
pub(super) struct Raw {
    client: Client,
    base: String,
    key: String,
}

impl Raw {
    pub(super) fn new(server: &Server, key: &str) -> Self {
        Self { client: Client::new().unwrap(), base: server.api.clone(), key: key.to_owned() }
    }

    /// A client of a provider itself, whose base URL ends in `/v1`.
    pub(super) fn at(url: &str, key: &str) -> Self {
        let base = url.strip_suffix("/v1").unwrap().to_owned();
        Self { client: Client::new().unwrap(), base, key: key.to_owned() }
    }

    pub(super) async fn chat(&self, said: &str, more: Value) -> Result<Response, lantern_net::Error> {
        let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": said}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(body.to_string()).await
    }

    pub(super) async fn send(&self, body: String) -> Result<Response, lantern_net::Error> {
        self.send_with(body, None).await
    }

    /// The same, with the strategy that counts.
    pub(super) async fn send_with(
        &self,
        body: String,
        strategy: Option<&str>,
    ) -> Result<Response, lantern_net::Error> {
        let mut request = Request::get(format!("{}/v1/chat/completions", self.base));
        request.method = Method::POST;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.key)).unwrap();
        request.headers.insert(header::AUTHORIZATION, bearer);
        if let Some(strategy) = strategy {
            request.headers.insert("lantern-strategy", HeaderValue::from_str(strategy).unwrap());
        }
        request.body = body.into();
        let deadline = Dur::from_millis(u64::try_from(NEVER.as_millis()).unwrap());
        self.client.send(Reach::Private, request, Deadlines::total(deadline)).await
    }
}

/// What a day of the tenant stands at: spent and held, in micro-dollars.
pub(super) async fn stands(api: &Api) -> (i64, i64) {
    let (_, caps) = api.get("/v1/settings/caps").await;
    let day = caps.as_array().unwrap().iter().find(|cap| cap["scope"] == "tenant" && cap["period"] == "day");
    let micros = |name: &str| {
        let usd = day.map_or(0.0, |day| day[name].as_f64().unwrap());
        format!("{:.0}", usd * 1_000_000.0).parse().unwrap()
    };
    (micros("spentUsd"), micros("heldUsd"))
}

/// Waits until nothing is held, and answers what is spent.
pub(super) async fn released(api: &Api) -> i64 {
    let look = async {
        loop {
            if let (spent, 0) = stands(api).await {
                return spent;
            }
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.expect("something stays held")
}

async fn server() -> (Folder, Upstream, Server, Api, Raw) {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let raw = Raw::new(&server, &key(&api).await);
    (folder, upstream, server, api, raw)
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_providers_stream_and_leaves_nothing_held() {
    let (_folder, upstream, _server, api, raw) = server().await;
    cap(&api, 5.0).await;
    seen(&api).await;
    let mut talking = raw.chat("talk", json!({"stream": true, "max_tokens": 1000})).await.unwrap();
    talking.chunk().await.unwrap().unwrap();
    assert_eq!(upstream.streams(), 1);
    assert!(stands(&api).await.1 > 0, "it is held for");
    drop(talking);
    let gone = async {
        while upstream.streams() > 0 {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, gone).await.expect("the provider's stream goes on");
    let calls = until_calls(&api, 1).await;
    assert_eq!(calls[0]["end"], "client_gone");
    let spent = released(&api).await;
    assert!(spent > 0 && spent < 11_000, "{spent}: some of what was held");

    // Before the first byte nobody can tell what was done: all that was held is charged.
    let hanging = raw.chat("hang", json!({"max_tokens": 100}));
    let waiting = async {
        while upstream.streams() == 0 {
            tick().await;
        }
    };
    tokio::select! {
        biased;
        _ = hanging => panic!("it answered"),
        () = waiting => {}
    }
    let calls = until_calls(&api, 2).await;
    assert_eq!((&calls[0]["end"], &calls[0]["costUsd"]), (&json!("client_gone"), &calls[0]["heldUsd"]));
    released(&api).await;
}

#[tokio::test]
async fn a_cap_lowers_what_is_asked_for_and_stops_what_does_not_heed_it() {
    let (_folder, upstream, _server, api, raw) = server().await;
    // A hundred tokens and a short prompt fit; a thousand do not.
    cap(&api, 0.004).await;
    seen(&api).await;
    let lowered = raw.chat("hi", json!({"max_tokens": 100_000})).await.unwrap();
    assert_eq!(lowered.status(), 200);
    let most: u64 = lowered.headers()["lantern-max-tokens"].to_str().unwrap().parse().unwrap();
    assert_eq!(upstream.asked()[0].body["max_tokens"], most);
    assert!((100..400).contains(&most), "{most}");
    let unsaid = raw.chat("hi", json!({})).await.unwrap();
    assert_eq!(unsaid.status(), 200);
    assert!(upstream.asked()[1].body["max_tokens"].as_u64().unwrap() < 400);

    let rambling = raw.chat("ramble", json!({"stream": true, "max_tokens": 100})).await.unwrap();
    let text = String::from_utf8(rambling.bytes(1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains("\"finish_reason\":\"length\""), "{text}");
    assert!(text.len() < 40_000, "it was stopped early enough: {}", text.len());
    let calls = until_calls(&api, 3).await;
    assert_eq!((&calls[0]["end"], &calls[0]["costUsd"]), (&json!("stopped"), &calls[0]["heldUsd"]));
    let spent = released(&api).await;
    assert!(spent <= 4_000, "{spent}");

    let (status, refused) = {
        let response = raw.chat("hi", json!({"n": 128, "max_tokens": 100_000})).await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice::<Value>(&response.bytes(1 << 20).await.unwrap()).unwrap())
    };
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("insufficient_quota")), "{refused}");
    let unbounded = raw.chat("hi", json!({"web_search_options": {}})).await.unwrap();
    assert_eq!(unbounded.status(), 400, "nobody can say what it costs");
}

#[tokio::test]
async fn what_a_killed_server_had_not_settled_is_charged_and_seen() {
    let (folder, upstream, server, api, raw) = server().await;
    cap(&api, 5.0).await;
    seen(&api).await;
    let mut talking = raw.chat("talk", json!({"stream": true, "max_tokens": 1000})).await.unwrap();
    talking.chunk().await.unwrap().unwrap();
    let (spent, held) = stands(&api).await;
    assert!(spent == 0 && held > 0);
    server.kill();
    drop(talking);

    let again = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&again).await;
    assert_eq!(released(&api).await, held, "all of it counts as spent");
    let calls = until_calls(&api, 1).await;
    assert_eq!(calls[0]["kind"], "crash_charge");
    assert!(again.stop().success());
}

#[tokio::test]
async fn nothing_is_called_while_an_emergency_stop_holds() {
    let (_folder, upstream, _server, api, raw) = server().await;
    let (status, stop) = api.post("/v1/stops", &json!({"scope": "tenant", "reason": "a test"})).await;
    assert_eq!(status, 201, "{stop}");
    seen(&api).await;
    let refused = raw.chat("hi", json!({})).await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(upstream.asked().is_empty());
    assert_eq!(api.delete(&format!("/v1/stops/{}", stop["id"].as_str().unwrap())).await, 204);
    seen(&api).await;
    assert_eq!(raw.chat("hi", json!({})).await.unwrap().status(), 200);
}
