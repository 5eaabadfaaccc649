//! Budgets of agents, what was used, and the calls that are listed.

use lantern_store::escrow::{self, NewCalls, Spent};
use lantern_store::journal;
use lantern_store::usage::{Amount, Line, What};
use lantern_types::call::{AccountId, CallEvent, CrashCharge, Owner, Period};
use lantern_types::{AgentId, At, ChainHead, Digest, Dur, MicroUsd, ProcessId, link};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{Answer, TestApp, on_both, request};

on_both! {
    budgets: a_budget_is_the_caps_of_its_agent;
    budgets_bound_runs: every_run_that_begins_is_bound;
    budgets_count_runs: no_more_runs_begin_in_a_day_than_the_budget_says;
    usage: usage_adds_up_and_is_told_apart;
    calls: calls_are_listed_behind_many_records_of_runs;
}

const BUDGET: &str = "/v1/agents/mine/budget";

const fn usd(micros: i64) -> MicroUsd {
    MicroUsd::from_micros(micros)
}

async fn agent(test: &TestApp, name: &str) -> AgentId {
    test.agent(json!({"name": name})).await["id"].as_str().unwrap().parse().unwrap()
}

/// What a clerk would write: records of one commit, and what was spent on its day.
struct Wrote {
    at: At,
    seq: i64,
    events: Vec<CallEvent>,
    lines: Vec<(Owner, What, Amount)>,
}

async fn write(test: &TestApp, Wrote { at, seq, events, lines }: Wrote) {
    let day = Period::Day.began(at);
    let cost = lines.iter().fold(MicroUsd::ZERO, |sum, (.., amount)| sum.plus(amount.cost).unwrap());
    let mut spent = vec![Spent { account: AccountId::at(Owner::Tenant, Period::Day, at), cost, from: None }];
    let owned = lines.iter().filter(|(owner, ..)| *owner != Owner::Tenant);
    spent.extend(owned.map(|(owner, _, amount)| Spent {
        account: AccountId::at(*owner, Period::Day, at),
        cost: amount.cost,
        from: None,
    }));
    spent.retain(|spent| spent.cost > MicroUsd::ZERO);
    let bytes: Vec<u8> = events
        .iter()
        .flat_map(|event| serde_json::to_string(event).unwrap().into_bytes().into_iter().chain(*b"\n"))
        .collect();
    let used = lines.into_iter().map(|(owner, what, amount)| Line { day, owner, what, amount });
    let doors = events.iter().filter(|event| !matches!(event, CallEvent::Runs(_))).count();
    let new = NewCalls {
        process: ProcessId::from_uuid(Uuid::from_u128(1)),
        first_seq: seq,
        n: 1,
        at,
        chain: link(ChainHead::genesis(), &bytes, Digest::of(&[])),
        bytes,
        doors: i64::try_from(doors).unwrap(),
        spent,
        used: used.collect(),
    };
    assert!(escrow::write(&test.app.db, test.a.scope, &new.into()).await.unwrap());
}

fn model(name: &str) -> What {
    What::Model { provider: "vendor".to_owned(), name: name.to_owned() }
}

fn amount(times: u64, tokens: u64, cost: i64) -> Amount {
    Amount { times, tokens_in: tokens, tokens_out: tokens / 2, cost: usd(cost) }
}

async fn a_budget_is_the_caps_of_its_agent(test: &TestApp) {
    let id = agent(test, "mine").await;
    test.get(&test.a.member, BUDGET).await.refused(404, "budget_not_found");
    test.get(&test.a.member, "/v1/agents/nobody/budget").await.refused(404, "agent_not_found");
    test.put(&test.a.member, BUDGET, json!({"maxCostUsdPerDay": 1})).await.refused(403, "role_missing");
    let all = json!({"agentName": "ignored", "maxCostUsdPerDay": 2, "max_cost_usd_per_month": "20.5", "maxCostUsdPerRun": 0.25,
        "hardFail": true, "notifyAtPct": 50, "toolLimits": {}, "maxTokensPerDay": null});
    assert_eq!(test.put(&test.a.owner, BUDGET, all).await.is(200).json, json!({"status": "saved"}));
    let shown = test.get(&test.a.member, BUDGET).await.is(200).json;
    let want = json!({"agentName": "mine", "maxCostUsdPerDay": 2.0, "maxCostUsdPerMonth": 20.5, "maxCostUsdPerRun": 0.25,
        "hardFail": true, "onLimit": "stop", "notifyAtPct": 50, "updatedAt": shown["updatedAt"], "spentTodayUsd": 0.0,
        "spentThisMonthUsd": 0.0, "heldTodayUsd": 0.0, "warnings": []});
    assert_eq!(shown, want);

    // One truth: what caps say is what the budget says, and the other way about.
    let caps = test.get(&test.a.member, "/v1/settings/caps").await.is(200).json;
    let of = |caps: &Value, period: &str| {
        let caps = caps.as_array().unwrap().iter();
        caps.filter(|cap| cap["agentName"] == "mine" && cap["period"] == period)
            .map(|cap| cap["maxCostUsd"].clone())
            .next()
    };
    assert_eq!((of(&caps, "day"), of(&caps, "month")), (Some(json!(2.0)), Some(json!(20.5))));
    let lower = json!({"agentName": "mine", "maxCostUsdPerDay": 1.5});
    test.post(&test.a.owner, "/v1/settings/caps", lower).await.is(200);
    let shown = test.get(&test.a.member, BUDGET).await.is(200).json;
    assert_eq!((&shown["maxCostUsdPerDay"], &shown["notifyAtPct"]), (&json!(1.5), &json!(50)));

    // All of it is replaced, and what is left out holds no more; but a budget stops unless it is said otherwise.
    test.put(&test.a.owner, BUDGET, json!({"maxCostUsdPerDay": 0.001})).await.is(200);
    let shown = test.get(&test.a.member, BUDGET).await.is(200).json;
    assert_eq!((&shown["maxCostUsdPerMonth"], &shown["maxCostUsdPerRun"]), (&Value::Null, &Value::Null));
    assert_eq!((&shown["hardFail"], &shown["notifyAtPct"]), (&json!(true), &json!(80)));

    // A soft limit asks, or stops when that is said; a hard one never asks.
    for (words, hard, on_limit) in [
        (json!({"hardFail": false}), false, "ask"),
        (json!({"hardFail": false, "onLimit": "ask"}), false, "ask"),
        (json!({"hardFail": false, "onLimit": "stop"}), false, "stop"),
        (json!({"hardFail": true, "onLimit": "stop"}), true, "stop"),
        (json!({}), true, "stop"),
    ] {
        let mut body = words.clone();
        body["maxCostUsdPerDay"] = json!(0.001);
        let saved = test.put(&test.a.owner, BUDGET, body).await.is(200).json;
        assert_eq!(saved, json!({"status": "saved"}));
        let shown = test.get(&test.a.member, BUDGET).await.is(200).json;
        assert_eq!((&shown["hardFail"], &shown["onLimit"]), (&json!(hard), &json!(on_limit)), "{words}");
    }

    for (wrong, paths) in [
        (json!({"maxCostUsdPerDay": -1}), vec!["maxCostUsdPerDay"]),
        (json!({"maxCostUsdPerDay": 0}), vec!["maxCostUsdPerDay"]),
        (json!({"maxCostUsdPerDay": 1e300}), vec!["maxCostUsdPerDay"]),
        (json!({"maxCostUsdPerMonth": 1_000_000_001}), vec!["maxCostUsdPerMonth"]),
        (json!({"maxCostUsdPerRun": "0.0000001", "notifyAtPct": 0}), vec!["maxCostUsdPerRun", "notifyAtPct"]),
        (json!({"notifyAtPct": 101}), vec!["notifyAtPct"]),
        (json!({"onLimit": "ask"}), vec!["onLimit"]),
        (json!({"onLimit": "ask", "hardFail": true}), vec!["onLimit"]),
        (json!({"onLimit": "shrug", "hardFail": false}), vec!["onLimit"]),
        (json!({"maxCostUsdPerDay": 3, "maxCostUsdPerMonth": 2}), vec!["maxCostUsdPerDay"]),
        // What nothing enforces is not kept unread.
        (json!({"maxTokensPerDay": 5}), vec!["maxTokensPerDay"]),
        (json!({"maxRunsPerDay": 0, "toolLimits": {"calc": 0}}), vec!["maxRunsPerDay", "toolLimits"]),
        (json!({"toolLimits": {"no tool": 1}}), vec!["toolLimits"]),
        (json!({"toolLimits": {"calc": 1.5}}), vec!["toolLimits"]),
        (json!({"toolLimits": ["calc"]}), vec!["toolLimits"]),
        (json!({"maxCostUsdPerDy": 5}), vec!["maxCostUsdPerDy"]),
    ] {
        let said = wrong.to_string();
        let refused = test.put(&test.a.owner, BUDGET, wrong).await.refused(400, "invalid_body");
        assert_eq!(refused.paths(), paths, "{said}");
    }
    assert_eq!(test.get(&test.a.member, BUDGET).await.is(200).json["maxCostUsdPerDay"], 0.001);

    // What was warned of is said, here and in the list.
    let now =
        test.get(&test.a.member, BUDGET).await.json["updatedAt"].as_str().unwrap().parse::<At>().unwrap();
    let account = AccountId::at(Owner::Agent(id), Period::Day, now);
    let ask = escrow::Ask {
        account,
        process: ProcessId::from_uuid(Uuid::from_u128(1)),
        n: 1,
        more: false,
        several: false,
        worst: usd(1_000),
        need: usd(1_000),
        expires_at: now + Dur::from_secs(10),
    };
    let taken = escrow::take(&test.app.db, test.a.scope, ask).await.unwrap();
    assert!(matches!(taken, escrow::Taken::Amount(amount, _) if amount == usd(1_000)), "{taken:?}");
    let bytes = b"{}\n".to_vec();
    let new = NewCalls {
        process: ask.process,
        first_seq: 1,
        n: 1,
        at: now,
        chain: link(ChainHead::genesis(), &bytes, Digest::of(&[])),
        bytes,
        doors: 0,
        spent: vec![Spent { account, cost: usd(800), from: Some((1, usd(800))) }],
        used: vec![],
    };
    assert!(escrow::write(&test.app.db, test.a.scope, &new.into()).await.unwrap());
    let shown = test.get(&test.a.member, BUDGET).await.is(200).json;
    assert_eq!((&shown["spentTodayUsd"], &shown["heldTodayUsd"]), (&json!(0.0008), &json!(0.0002)));
    let warning = json!([{"period": "day", "at": now.to_string(), "spentUsd": 0.0008, "maxCostUsd": 0.001}]);
    assert_eq!(shown["warnings"], warning);

    // In pages, the last first; those of agents that only have a cap too.
    for name in ["b", "c"] {
        agent(test, name).await;
    }
    test.put(&test.a.owner, "/v1/agents/b/budget", json!({"maxCostUsdPerRun": 1})).await.is(200);
    test.post(&test.a.owner, "/v1/settings/caps", json!({"agentName": "c", "maxCostUsdPerMonth": 3}))
        .await
        .is(200);
    let (mut names, mut path) = (Vec::new(), "/v1/budgets?limit=1".to_owned());
    loop {
        let page = test.get(&test.a.member, &path).await.is(200);
        names.extend(page.json.as_array().unwrap().iter().map(|budget| budget["agentName"].clone()));
        let Some(next) = page.header("link").strip_prefix('<').and_then(|link| link.split_once('>')) else {
            break;
        };
        path = next.0.to_owned();
    }
    assert_eq!(names, ["c", "b", "mine"]);
    assert_eq!(test.get(&test.b.owner, "/v1/budgets").await.is(200).json, json!([]));

    assert_eq!(test.delete(&test.a.owner, BUDGET).await.is(200).json, json!({"status": "removed"}));
    assert_eq!(test.delete(&test.a.owner, BUDGET).await.is(200).json, json!({"status": "removed"}));
    test.get(&test.a.member, BUDGET).await.refused(404, "budget_not_found");
    let caps = test.get(&test.a.member, "/v1/settings/caps").await.is(200).json;
    assert_eq!(of(&caps, "day"), None);
}

async fn no_more_runs_begin_in_a_day_than_the_budget_says(test: &TestApp) {
    agent(test, "mine").await;
    let body = || json!({"agentName": "mine"});
    // What began before the budget was set counts.
    test.run(body()).await;
    let limits = json!({"maxRunsPerDay": 3, "toolLimits": {"calc": 2, "http.fetch": 9}});
    test.put(&test.a.owner, BUDGET, limits).await.is(200);
    let keyed = json!({"agentName": "mine", "idempotencyKey": "k"});
    let first = test.run(keyed.clone()).await;
    assert_eq!(test.run(keyed.clone()).await, first);
    let shown = test.get(&test.a.member, BUDGET).await.is(200).json;
    assert_eq!((&shown["maxRunsPerDay"], &shown["runsToday"]), (&json!(3), &json!(2)), "{shown}");
    assert_eq!(shown["toolLimits"], json!({"calc": 2, "http.fetch": 9}));
    assert_eq!(shown["toolCallsToday"], json!({"calc": 0, "http.fetch": 0}));
    // Two at once do not fit, and one of them does not begin by itself.
    let batch = json!({"runs": [body(), body()]});
    let refused = test.post(&test.a.member, "/v1/runs/batch", batch).await.refused(402, "budget_exceeded");
    assert_eq!(test.get(&test.a.member, BUDGET).await.json["runsToday"], 2, "{}", refused.text);
    test.run(body()).await;
    for request in [body(), json!({"agentName": "mine", "idempotencyKey": "other"})] {
        let refused = test.post(&test.a.member, "/v1/runs", request).await.refused(402, "budget_exceeded");
        assert_eq!(refused.json["reason"], "maxRunsPerDay", "{}", refused.text);
        assert!(refused.json["error"].as_str().unwrap().starts_with("agent budget limit reached: "));
    }
    assert_eq!(test.run(keyed).await, first, "it is there already");
    let fork = test.post(&test.a.member, &format!("/v1/runs/{first}/fork"), json!({})).await;
    assert_eq!(fork.status, 402, "{}", fork.text);
    let session = test.post(&test.a.member, "/v1/sessions", body()).await.is(201).json;
    let message = format!("/v1/sessions/{}/messages", session["id"].as_str().unwrap());
    test.post(&test.a.member, &message, json!({"content": "hi"})).await.refused(402, "budget_exceeded");
    // Another agent's are its own, and so is another tenant's of the same name.
    agent(test, "other").await;
    test.run(json!({"agentName": "other"})).await;
    // Raised, it goes on from there; lifted, nothing is counted; set again, all that began counts.
    let set = async |runs: Option<u32>| {
        test.put(&test.a.owner, BUDGET, json!({"maxRunsPerDay": runs, "maxCostUsdPerRun": 1})).await.is(200);
    };
    set(Some(4)).await;
    test.run(body()).await;
    test.post(&test.a.member, "/v1/runs", body()).await.refused(402, "budget_exceeded");
    set(None).await;
    test.run(body()).await;
    set(Some(6)).await;
    assert_eq!(test.get(&test.a.member, BUDGET).await.json["runsToday"], 5, "what is enforced is shown");
    test.run(body()).await;
    assert_eq!(test.get(&test.a.member, BUDGET).await.json["runsToday"], 6);
    test.post(&test.a.member, "/v1/runs", body()).await.refused(402, "budget_exceeded");
}

async fn every_run_that_begins_is_bound(test: &TestApp) {
    agent(test, "mine").await;
    let cap = async |body: Value| {
        let run = test.run(body).await.parse().unwrap();
        let first = journal::read(&test.app.db, test.a.scope, run, 1, 1).await.unwrap().remove(0);
        String::from_utf8(first.bytes).unwrap()
    };
    let says = |text: &str, micros: i64| text.contains(&format!("\"cap\":{micros}"));
    let free = cap(json!({"agentName": "mine"})).await;
    assert!(says(&free, 5_000_000), "{free}");
    test.put(&test.a.owner, BUDGET, json!({"maxCostUsdPerRun": 0.5})).await.is(200);
    assert!(says(&cap(json!({"agentName": "mine"})).await, 500_000));
    assert!(says(&cap(json!({"agentName": "mine", "maxCostUsd": 2})).await, 500_000));
    assert!(says(&cap(json!({"agentName": "mine", "maxCostUsd": 0.1})).await, 100_000));
    let forecast = test.post(&test.a.member, "/v1/runs/forecast", json!({"agentName": "mine"})).await;
    assert_eq!(forecast.json["maxCostUsd"], 0.5, "{}", forecast.text);

    // Whoever sends a request again finds its run, whatever the budget is by then.
    let keyed = json!({"agentName": "mine", "idempotencyKey": "k", "maxCostUsd": 2});
    let first = test.run(keyed.clone()).await;
    test.put(&test.a.owner, BUDGET, json!({"maxCostUsdPerRun": 0.75})).await.is(200);
    let again = test.post(&test.a.owner, "/v1/runs", keyed).await.json;
    assert_eq!(again["id"], first.as_str());
    test.delete(&test.a.owner, BUDGET).await.is(200);
    assert!(says(&cap(json!({"agentName": "mine"})).await, 5_000_000));
}

async fn used(test: &TestApp, query: &str) -> Value {
    test.get(&test.a.member, &format!("/v1/usage{query}")).await.is(200).json
}

fn told(usage: &Value, name: &str) -> Vec<(String, f64)> {
    let of =
        |group: &Value| (group[name].as_str().unwrap_or("-").to_owned(), group["costUsd"].as_f64().unwrap());
    usage["groups"].as_array().unwrap().iter().map(of).collect()
}

fn pairs(of: &[(&str, f64)]) -> Vec<(String, f64)> {
    of.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect()
}

async fn usage_adds_up_and_is_told_apart(test: &TestApp) {
    let nothing = used(test, "").await;
    assert_eq!((&nothing["groups"], &nothing["periods"]["total"]["costUsd"]), (&json!([]), &json!(0.0)));
    let (one, two) = (agent(test, "one").await, agent(test, "two").await);
    let run = test.run(json!({"agentName": "one"})).await;
    let now: At = test.get(&test.a.member, &format!("/v1/runs/{run}")).await.json["createdAt"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let (one, two) = (Owner::Agent(one), Owner::Agent(two));
    let ago = |days: u64| now - Dur::from_secs(days * 86_400);
    for (seq, at, lines) in [
        (
            1,
            now,
            vec![(one, model("large"), amount(2, 100, 3_000)), (two, model("small"), amount(1, 10, 20))],
        ),
        (
            2,
            now,
            vec![
                (one, model("large"), amount(1, 50, 1_001)),
                (Owner::Tenant, model("small"), amount(1, 4, 5)),
            ],
        ),
        (
            3,
            ago(1),
            vec![
                (two, model("large"), amount(1, 6, 7_000)),
                (one, What::Tool("calc".to_owned()), amount(9, 0, 0)),
            ],
        ),
        (
            4,
            ago(6),
            vec![
                (one, What::Run("succeeded".to_owned()), amount(3, 0, 0)),
                (one, model("small"), amount(1, 2, 1)),
            ],
        ),
        (
            5,
            ago(7),
            vec![
                (one, What::Run("failed".to_owned()), amount(1, 0, 0)),
                (one, What::Run("cancelled".to_owned()), amount(1, 0, 0)),
            ],
        ),
        (6, ago(40), vec![(one, model("old"), amount(1, 2, 400))]),
    ] {
        write(test, Wrote { at, seq, events: Vec::new(), lines }).await;
    }
    let usage = used(test, "?by=day").await;
    let cost = |period: &str| usage["periods"][period]["costUsd"].clone();
    assert_eq!(
        [cost("today"), cost("week"), cost("month"), cost("total")],
        [json!(0.004_026), json!(0.011_027), json!(0.011_027), json!(0.011_427)]
    );
    let week = &usage["periods"]["week"];
    let counts = ["runs", "succeeded", "failed", "running", "calls", "toolCalls", "tokensIn"];
    assert_eq!(counts.map(|name| week[name].as_u64().unwrap()), [4, 3, 0, 1, 7, 9, 172]);
    let total = &usage["periods"]["total"];
    assert_eq!(counts.map(|name| total[name].as_u64().unwrap()), [6, 3, 1, 1, 8, 9, 174]);
    let day = |days: u64| ago(days).to_string()[..10].to_owned();
    let days: Vec<String> = told(&usage, "day").into_iter().map(|(day, _)| day).collect();
    assert_eq!(days, [day(0), day(1), day(6), day(7), day(40)]);
    let top = json!([
        {"agentName": "two", "costUsd": 0.007_02, "runs": 0, "succeeded": 0, "failed": 0},
        {"agentName": "one", "costUsd": 0.004_402, "runs": 5, "succeeded": 3, "failed": 1},
    ]);
    assert_eq!(usage["byAgent"], top);

    let agents = used(test, "?by=agent").await;
    assert_eq!(told(&agents, "agentName"), pairs(&[("two", 0.007_02), ("one", 0.004_402), ("-", 0.000_005)]));
    let models = used(test, &format!("?by=model&from={}", day(6))).await;
    assert_eq!(told(&models, "model"), pairs(&[("large", 0.011_001), ("small", 0.000_026)]));
    assert_eq!((&models["sum"]["costUsd"], &models["untoldUsd"]), (&json!(0.011_027), &json!(0.0)));
    let tools = used(test, "?by=tool").await;
    assert_eq!((&tools["groups"][0]["tool"], &tools["groups"][0]["toolCalls"]), (&json!("calc"), &json!(9)));
    let between = used(test, &format!("?by=model&from={}&to={}", day(7), ago(1))).await;
    assert_eq!(between["sum"]["costUsd"], 0.007_001, "the day of a time counts, because it began before");

    // What is charged for a server that died is in the sum, and no group tells of it.
    let account = AccountId::at(Owner::Tenant, Period::Day, now);
    let new = NewCalls {
        process: ProcessId::from_uuid(Uuid::from_u128(2)),
        first_seq: 1,
        n: 1,
        at: now,
        bytes: b"{}\n".to_vec(),
        chain: link(ChainHead::genesis(), b"{}\n", Digest::of(&[])),
        doors: 1,
        spent: vec![Spent { account, cost: usd(500), from: None }],
        used: vec![],
    };
    assert!(escrow::write(&test.app.db, test.a.scope, &new.into()).await.unwrap());
    let agents = used(test, "?by=agent").await;
    assert_eq!((&agents["sum"]["costUsd"], &agents["untoldUsd"]), (&json!(0.011_927), &json!(0.0005)));
    let today = used(test, &format!("?by=day&from={}", day(0))).await;
    assert_eq!(told(&today, "day"), pairs(&[(&day(0), 0.004_526)]));
    assert_eq!(today["untoldUsd"], 0.0);

    // In pages that leave nothing out, and as a table.
    let (mut models, mut path) = (Vec::new(), "/v1/usage?by=model&limit=1".to_owned());
    loop {
        let page = test.get(&test.a.member, &path).await.is(200);
        models.extend(told(&page.json, "model"));
        let Some((next, _)) = page.header("link").strip_prefix('<').and_then(|link| link.split_once('>'))
        else {
            break;
        };
        path = next.to_owned();
    }
    assert_eq!(models, pairs(&[("large", 0.011_001), ("old", 0.0004), ("small", 0.000_026)]));
    let table = test.get(&test.a.member, "/v1/usage?by=agent&format=csv").await.is(200);
    assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
    let rows: Vec<&str> = table.text.lines().collect();
    assert_eq!(rows[1], ",two,,,,,2,0,0,0,0,16,8,0.007020");
    assert_eq!(rows.len(), 4);
    let mut asked = request("GET", "/v1/settings/usage?by=day", Some(&test.a.member), None);
    asked.headers_mut().insert("accept", "text/csv".parse().unwrap());
    let by_day: Answer = test.send(asked).await.is(200);
    assert!(by_day.text.starts_with("day,agentName"), "{}", by_day.text);

    for (query, path) in [
        ("?by=week", "by"),
        ("?from=yesterday", "from"),
        ("?from=2026-02-01&to=2026-02-01", "to"),
        ("?format=xml", "format"),
        ("?cursor=x", "cursor"),
        ("?limit=0", "limit"),
    ] {
        let refused =
            test.get(&test.a.member, &format!("/v1/usage{query}")).await.refused(400, "invalid_query");
        assert_eq!(refused.paths(), [path]);
    }
    let theirs = test.get(&test.b.owner, "/v1/usage").await.is(200).json;
    assert_eq!((&theirs["groups"], &theirs["periods"]["total"]["runs"]), (&json!([]), &json!(0)));
}

async fn calls_are_listed_behind_many_records_of_runs(test: &TestApp) {
    let now = At::from_micros(1_800_000_000_000_000);
    let crash = |seq: i64, at| CallEvent::CrashCharge(CrashCharge { seq, at, charges: Vec::new() });
    for seq in 1..=3 {
        let at = now + Dur::from_secs(u64::try_from(seq).unwrap());
        write(test, Wrote { at, seq, events: vec![crash(seq, at)], lines: Vec::new() }).await;
    }
    // As an earlier build left them: nobody said that they are of runs.
    for seq in 4..=160 {
        let at = now + Dur::from_secs(u64::try_from(seq).unwrap());
        let bytes = b"{\"kind\":\"runs\",\"seq\":1,\"at\":0,\"items\":[]}\n".to_vec();
        let new = NewCalls {
            process: ProcessId::from_uuid(Uuid::from_u128(1)),
            first_seq: seq,
            n: 1,
            at,
            chain: link(ChainHead::genesis(), &bytes, Digest::of(&[])),
            bytes,
            doors: 1,
            spent: vec![],
            used: vec![],
        };
        assert!(escrow::write(&test.app.db, test.a.scope, &new.into()).await.unwrap());
    }
    for (limit, want) in [(1, &[3][..]), (2, &[3, 2]), (50, &[3, 2, 1])] {
        let calls = test.get(&test.a.member, &format!("/v1/calls?limit={limit}")).await.is(200).json;
        let at =
            |call: &Value| call["at"].as_str().unwrap().parse::<At>().unwrap().since(now).millis() / 1_000;
        assert_eq!(calls.as_array().unwrap().iter().map(at).collect::<Vec<_>>(), want, "{limit}");
    }
}
