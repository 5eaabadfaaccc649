//! What a run would cost, from an agent's own runs: the real binary against a provider that says what it used.

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};
use super::provider::{Answer, Provider};

const ASKED: &str = "/v1/runs/forecast";

fn number(forecast: &Value, path: &str) -> f64 {
    forecast.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {forecast}"))
}

#[tokio::test]
async fn a_forecast_is_a_guess_first_and_learned_from_the_runs_then() {
    let (folder, provider) = (Folder::new(), Provider::start(vec![Answer::Say("It is noon.")]).await);
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("clock", json!({ "model": "gpt-4o", "systemPrompt": "Say the time.", "maxTokens": 200 })).await;
    let ask = json!({ "agentName": "clock", "input": { "text": "What time is it?" } });

    let (status, guess) = api.post(ASKED, &ask).await;
    assert_eq!(
        (status, guess["basis"].as_str(), guess["noHistoricalData"].as_bool()),
        (200, Some("prior"), Some(true))
    );
    assert!(number(&guess, "/confidence") <= 0.3 && number(&guess, "/estimatedCostUsd") > 0.0, "{guess}");
    assert_eq!(guess["provider"], "openai");

    for n in 0..12 {
        let run = api.run("clock", json!({ "text": format!("What time is it in {n:02}?") })).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded");
    }
    let cost = number(&api.get("/v1/runs").await.1, "/0/costUsd");
    assert!(cost > 0.0);
    let (status, learned) = api.post(ASKED, &ask).await;
    assert_eq!(
        (status, learned["basis"].as_str(), learned["calibrated"].as_bool()),
        (200, Some("history"), Some(true)),
        "{learned}"
    );
    assert_eq!(learned["reasoning"]["historical_runs"], 12);
    assert!((number(&learned, "/estimatedCostUsd") / cost - 1.0).abs() < 0.05, "{cost}: {learned}");
    let (low, high) = (number(&learned, "/interval/lowUsd"), number(&learned, "/interval/highUsd"));
    assert!(low <= cost && cost <= high && high < 2.0 * cost, "{cost}: {learned}");
    assert_eq!((number(&learned, "/interval/tried"), number(&learned, "/interval/coverage")), (4.0, 1.0));

    // What it costs is more than the next version may spend, and the answer is the same otherwise.
    let most = json!({ "model": "gpt-4o", "systemPrompt": "Say the time.", "maxCostUsd": 0.000_001 });
    api.agent("clock", most).await;
    let (status, refused) = api.post(ASKED, &ask).await;
    assert_eq!((status, refused["wouldExceedBudget"].as_bool()), (402, Some(true)), "{refused}");
    assert_eq!(refused["interval"], learned["interval"]);
    assert!(refused["blockReason"].as_str().is_some_and(|reason| reason.contains("maxCostUsd")));

    let (status, body) = api.post(ASKED, &json!({ "agentName": "nobody" })).await;
    assert_eq!((status, body["code"].as_str()), (404, Some("agent_not_found")));
    let (status, _) = api.post(ASKED, &json!({ "input": 7 })).await;
    assert_eq!(status, 400, "without an agent");

    let told = |args: &[&str]| {
        let mut command = lantern();
        command.args(["forecast", "clock"]).args(args);
        command.env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &api.token).output().unwrap()
    };
    assert_eq!(
        told(&["--input", "What time is it?"]).status.code(),
        Some(1),
        "it would pass what it may cost"
    );
    let tested = told(&["--backtest"]);
    let text = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(tested.status.success() && text.contains("100.0 % (90 % wanted)"), "{text}");
}
