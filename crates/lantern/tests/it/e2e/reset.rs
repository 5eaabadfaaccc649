//! A provider that resets its connections: before it answers, before its first word, and in the middle of what it says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::api::{Api, tick};
use super::process::{Folder, Server};

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Reset once the request is there.
    Unanswered,
    /// Reset after the head of the answer.
    Silent,
    /// Reset while it talks, when the test says so.
    Talking,
    /// Answered.
    Answered,
}

/// A provider of the chat-completions wire.
#[derive(Clone, Default)]
struct Resetting {
    keys: Arc<Mutex<Vec<String>>>,
    talks: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
    url: String,
}

impl Resetting {
    /// Starts a provider whose calls fare so in turn.
    async fn start(fates: Vec<Fate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider =
            Self { url: format!("http://{}/v1", listener.local_addr().unwrap()), ..Self::default() };
        let serving = provider.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "a peer of the process under test, which ends with the test"
        )]
        tokio::spawn(async move {
            for fate in fates {
                let (stream, _) = listener.accept().await.unwrap();
                serving.serve(stream, fate).await;
            }
        });
        provider
    }

    /// Resets the next connection that talks, once it has said something.
    fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    async fn serve(&self, mut stream: TcpStream, fate: Fate) {
        let key = request(&mut stream).await;
        self.keys.lock().unwrap().push(key);
        if fate == Fate::Unanswered {
            return reset(stream);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        if fate == Fate::Silent {
            return reset(stream);
        }
        if fate == Fate::Talking {
            let before = self.talks.fetch_add(1, Ordering::SeqCst);
            loop {
                say(&mut stream, &json!({"content": "half "}), None).await;
                if self.cuts.load(Ordering::SeqCst) > before {
                    return reset(stream);
                }
                tick().await;
            }
        }
        say(&mut stream, &json!({"content": "whole"}), None).await;
        say(&mut stream, &json!({}), Some("stop")).await;
        stream.write_all(b"data: [DONE]\n\n").await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

/// Reads a request to its end; answers with its key.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut bytes = vec![0; 64 << 10];
        let n = stream.read(&mut bytes).await.unwrap();
        assert!(n > 0, "half a request: {text}");
        text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if body.len() >= header("content-length:").unwrap().parse().unwrap() {
            return header("idempotency-key:").unwrap().to_owned();
        }
    }
}

async fn say(stream: &mut TcpStream, delta: &Value, finish: Option<&str>) {
    let mut chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-2024",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    if finish.is_some() {
        chunk["usage"] = json!({"prompt_tokens": 1000, "completion_tokens": 100});
    }
    stream.write_all(format!("data: {chunk}\n\n").as_bytes()).await.unwrap();
}

/// Closes with RST in place of FIN.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

/// The run of a model step that may be tried so often, its log, and the keys of the calls that were made.
async fn run(fates: &[Fate], attempts: u32) -> (Value, Vec<Value>, Vec<String>) {
    let folder = Folder::new();
    let provider = Resetting::start(fates.to_vec()).await;
    let env = [("OPENAI_BASE_URL", provider.url.as_str()), ("OPENAI_API_KEY", "sk-test-0123456789")];
    let server = Server::dev_with(folder.path(), &env);
    let api = Api::of(&server).await;
    let step = json!({"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"},
        "retry": {"maxAttempts": attempts, "initialInterval": "10ms"}});
    api.agent("a", json!({"program": "steps", "steps": [step]})).await;
    let run = api.run("a", json!({})).await;
    for _ in fates.iter().filter(|fate| **fate == Fate::Talking) {
        api.listen(&run, |event| event.event == "llm_delta" && event.data.contains("half")).await;
        provider.cut();
    }
    let ended = api.ended(&run).await;
    let (_, events) = api.events(&run, None).await;
    let log = events.iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect();
    let keys = provider.keys.lock().unwrap().clone();
    (ended, log, keys)
}

#[tokio::test]
async fn a_call_whose_connection_is_reset_is_made_again_under_its_key_and_says_why_when_it_fails() {
    for fate in [Fate::Unanswered, Fate::Silent, Fate::Talking] {
        let (ended, log, keys) = run(&[fate, fate], 2).await;
        let error = &ended["error"];
        assert_eq!(
            (&ended["status"], &error["code"], &error["stepId"]),
            (&json!("failed"), &json!("provider_interrupted"), &json!("ask")),
            "{fate:?}: {ended}"
        );
        assert!(error["message"].as_str().unwrap().contains("reset"), "{fate:?}: {error}");
        assert!(keys.len() == 2 && keys[0] == keys[1], "{fate:?}: {keys:?}");
        let retried = log.iter().filter(|event| event["kind"] == "step_retrying").count();
        assert_eq!(retried, 1, "{fate:?}: as often as the manifest says");
        // What such a call may have cost is kept for both.
        assert!(ended["heldUsd"].as_f64().is_some_and(|held| held > 0.0), "{fate:?}: {ended}");
    }
}

#[tokio::test]
async fn what_was_said_before_a_reset_is_no_part_of_the_answer() {
    let fates = [Fate::Talking, Fate::Unanswered, Fate::Silent, Fate::Answered];
    let (ended, log, keys) = run(&fates, 4).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert!(ended["output"].to_string().contains("whole") && !ended["output"].to_string().contains("half"));
    assert_eq!((keys.len(), keys.iter().all(|key| *key == keys[0])), (4, true), "{keys:?}");
    // Of the call that was answered the cost is known: 1000 in and 100 out at 2.50 and 10 dollars a million.
    assert_eq!((&ended["costUsd"], &ended["tokensIn"]), (&json!(0.0035), &json!(1000)));
    let codes: Vec<&Value> = log
        .iter()
        .filter(|event| event["kind"] == "step_retrying")
        .map(|event| &event["data"]["code"])
        .collect();
    assert_eq!(codes, [&json!("provider_interrupted"); 3]);
}
