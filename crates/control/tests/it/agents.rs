//! Agents: upsert, versions, patches, archives, pages.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both, request};

const AGENTS: &str = "/v1/agents";

on_both! {
    archived_agents_are_listed_when_they_are_asked_for: by_standing;
    an_approver_who_is_no_member_is_warned_of: strangers_named;
}

async fn by_standing(test: &TestApp) {
    for name in ["a", "b", "c", "d"] {
        test.agent(json!({"name": name})).await;
    }
    for name in ["a", "c"] {
        test.delete(&test.a.owner, &format!("{AGENTS}/{name}")).await.is(204);
    }
    let names = async |query: &str| {
        let (mut path, mut names) = (format!("{AGENTS}?limit=1{query}"), String::new());
        loop {
            let page = test.get(&test.a.owner, &path).await.is(200);
            for agent in page.json.as_array().unwrap() {
                let archived = agent["archivedAt"].is_string();
                assert_eq!(agent["status"] == "archived", archived, "{agent}");
                names += agent["name"].as_str().unwrap();
            }
            match page.header("link").split(['<', '>']).nth(1) {
                Some(next) => path = next.to_owned(),
                None => return names,
            }
        }
    };
    for (query, want) in [
        ("", "db"),
        ("&status=", "db"),
        ("&status=active", "db"),
        ("&status=archived", "ca"),
        ("&status=all", "dcba"),
    ] {
        assert_eq!(names(query).await, want, "{query}");
    }
    test.get(&test.a.owner, &format!("{AGENTS}?status=gone")).await.refused(400, "invalid_query");
    assert_eq!(test.get(&test.b.owner, &format!("{AGENTS}?status=all")).await.is(200).json, json!([]));
}

async fn strangers_named(test: &TestApp) {
    let made = test.post(&test.a.owner, "/v1/api-keys", json!({"name": "k"})).await.is(201).json;
    let key = format!("api-key:{}", made["key"]["id"].as_str().unwrap());
    let ask =
        |id: &str, approvers: Value| json!({"id": id, "kind": "approval", "data": {"approvers": approvers}});
    let warnings = |saved: &Value| -> Vec<String> {
        serde_json::from_value(saved.get("warnings").cloned().unwrap_or_else(|| json!([]))).unwrap()
    };
    // Whom a reference stands for nobody knows yet; `b`'s people are strangers here.
    let known = json!(["Owner@Example.com", "member@example.com", key, "{{input.who}}"]);
    let saved = test.agent(json!({"name": "s", "steps": [ask("ok", known)]})).await;
    assert_eq!(warnings(&saved), Vec::<String>::new(), "{saved}");
    let race = json!({"id": "r", "kind": "race", "steps": [ask("one", json!("owner@b.example.com"))]});
    let steps = json!([race, ask("two", json!(["api-key:7", "owner@example.com", "owner@b.example.com"]))]);
    let saved = test.agent(json!({"name": "s", "steps": steps})).await;
    let words = |step: &str, name: &str| {
        format!("step {step} names the approver {name}, who is no member of this tenant and so cannot decide")
    };
    let want = [words("one", "owner@b.example.com"), words("two", "api-key:7")];
    assert_eq!(warnings(&saved), want);
    let patched = test.patch(&test.a.owner, "/v1/agents/s", json!({"maxTurns": 3})).await.is(200).json;
    assert_eq!((warnings(&patched), &patched["version"]), (want.to_vec(), &json!(3)));
    assert_eq!(test.get(&test.a.owner, "/v1/agents/s").await.is(200).json.get("warnings"), None);
    // A key that was taken back decides nothing any more.
    test.delete(&test.a.owner, &format!("/v1/api-keys/{}", made["key"]["id"].as_str().unwrap()))
        .await
        .is(204);
    let saved = test.agent(json!({"name": "s", "steps": [ask("ok", json!([key]))]})).await;
    assert_eq!(warnings(&saved), [words("ok", &key)]);
}

#[tokio::test]
async fn an_agent_is_made_changed_and_versioned() {
    let test = TestApp::new().await;
    let made = test
        .agent(json!({"name": "digest", "description": "d", "labels": {"team": "x"}, "system_prompt": "Be brief.",
            "tools": ["calc"], "maxTurns": 3, "maxCostUsd": 0.25, "inputSchema": {"type": "object"}}))
        .await;
    assert_eq!((made["status"].as_str(), made["version"].as_i64()), (Some("active"), Some(1)));
    assert_eq!(made["tenantId"], test.a.id.to_string());
    let shown = test.get(&test.a.owner, "/v1/agents/digest").await.is(200);
    assert_eq!(shown.json, made);
    for (field, want) in [
        ("systemPrompt", json!("Be brief.")),
        ("tools", json!(["calc"])),
        ("maxTurns", json!(3)),
        ("maxCostUsd", json!(0.25)),
        ("model", json!("auto")),
        ("labels", json!({"team": "x"})),
    ] {
        assert_eq!(made[field], want, "{field}");
    }
    // The same again changes nothing; anything else is another version.
    let same = json!({"name": "digest", "description": "d", "labels": {"team": "x"}, "maxTurns": 3});
    assert_eq!(test.agent(same).await["version"], 1);
    // A description and labels that are not said are none: the contract's upsert overwrites both.
    let second = test.agent(json!({"name": "digest", "maxTurns": 4})).await;
    assert_eq!((second["version"].as_i64(), second.get("description")), (Some(2), None));
    assert_eq!(second["labels"], json!({}));
    assert_eq!((&second["systemPrompt"], &second["id"]), (&made["systemPrompt"], &made["id"]));
    let patched = test.patch(&test.a.owner, "/v1/agents/digest", json!({"stylePrompt": "dry"})).await.is(200);
    assert_eq!((&patched.json["updated"], &patched.json["version"]), (&json!(true), &json!(3)));
    let patched = test.patch(&test.a.owner, "/v1/agents/digest", json!({"systemPrompt": null})).await.is(200);
    assert_eq!(patched.json["version"], 4);
    let idle = test.patch(&test.a.owner, "/v1/agents/digest", json!({})).await.is(200);
    assert_eq!((&idle.json["updated"], &idle.json["digest"]), (&json!(false), &patched.json["digest"]));
    assert_eq!(test.get(&test.a.owner, "/v1/agents/digest").await.json.get("systemPrompt"), None);
}

#[tokio::test]
async fn every_change_makes_a_version_and_a_version_says_all() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "v"})).await;
    let patches = [
        json!({"description": "d"}),
        json!({"labels": {"team": "x"}}),
        json!({"stylePrompt": "dry"}),
        json!({"avatarUrl": "https://x.example/a.png"}),
    ];
    for (n, patch) in patches.iter().enumerate() {
        for updated in [true, false] {
            let patched = test.patch(&test.a.owner, "/v1/agents/v", patch.clone()).await.is(200).json;
            assert_eq!(
                (&patched["updated"], &patched["version"]),
                (&json!(updated), &json!(n + 2)),
                "{patch}"
            );
        }
    }
    let mut versions = Vec::new();
    for number in [5, 2, 1] {
        versions.push(test.get(&test.a.owner, &format!("/v1/agents/v/versions/{number}")).await.is(200).json);
    }
    for (field, values) in [
        ("description", [json!("d"), json!("d"), json!(null)]),
        ("labels", [json!({"team": "x"}), json!(null), json!(null)]),
        ("stylePrompt", [json!("dry"), json!(null), json!(null)]),
        ("avatarUrl", [json!("https://x.example/a.png"), json!(null), json!(null)]),
    ] {
        for (version, value) in versions.iter().zip(values) {
            assert_eq!(version["manifest"][field], value, "{field} of {version}");
        }
    }
}

#[tokio::test]
async fn a_versions_manifest_sent_again_goes_back_to_it() {
    let test = TestApp::new().await;
    let first = json!({"name": "v", "description": "d", "labels": {"team": "x"}, "stylePrompt": "dry",
        "maxCostUsd": 0.25, "timeout": "30s", "tools": [{"name": "calc", "timeoutMs": 500}], "temperature": 0.7});
    let first = test.agent(first).await;
    let steps = json!([{"id": "a", "kind": "sleep", "duration": 1}]);
    test.agent(json!({"name": "v", "program": "steps", "steps": steps, "maxTurns": 3, "timeout": "90s"}))
        .await;
    let version = async |n| test.get(&test.a.owner, &format!("/v1/agents/v/versions/{n}")).await.is(200).json;
    let versions = [version(2).await, version(1).await];
    for (version, number) in [(&versions[1], 3), (&versions[0], 4)] {
        let mut manifest = version["manifest"].clone();
        manifest["name"] = "v".into();
        let back = test.post(&test.a.owner, AGENTS, manifest).await.is(201);
        assert_eq!((&back.json["digest"], &back.json["version"]), (&version["digest"], &json!(number)));
        assert_eq!(back.header("lantern-ignored"), "");
    }
    assert_eq!(versions[1]["digest"], first["digest"]);
    let one = &versions[1]["manifest"];
    assert_eq!((&one["maxCostUsd"], &one["timeoutMs"]), (&json!(0.25), &json!(30_000)));
    assert_eq!(one["tools"], json!([{"name": "calc", "timeoutMs": 500}]));
}

#[tokio::test]
async fn a_long_list_of_problems_is_cut_short() {
    let test = TestApp::new().await;
    for body in [
        json!({"name": "x", "steps": vec![json!({"kind": "zz"}); 50_000]}),
        json!({"name": "x", "tools": vec!["calc"; 50_000]}),
    ] {
        let answer = test.post(&test.a.owner, AGENTS, body).await.refused(400, "invalid_manifest");
        assert!(answer.text.len() < 20_000, "{} bytes", answer.text.len());
        assert_eq!(answer.json["fields"].as_array().unwrap().len(), 21);
        assert_eq!(answer.json["fields"][20]["message"], "and 980 more");
    }
}

#[tokio::test]
async fn an_archived_agent_does_nothing_until_it_is_made_again() {
    let test = TestApp::new().await;
    let first = test
        .agent(json!({"name": "old", "systemPrompt": "kind", "tools": ["calc"], "labels": {"a": "b"},
            "description": "d", "stylePrompt": "s", "avatarUrl": "https://x.example/a.png"}))
        .await;
    test.delete(&test.a.owner, "/v1/agents/old").await.is(204);
    test.delete(&test.a.owner, "/v1/agents/old").await.refused(404, "agent_not_found");
    assert_eq!(test.get(&test.a.owner, AGENTS).await.json, json!([]));
    let shown = test.get(&test.a.owner, "/v1/agents/old").await.is(200).json;
    assert!(shown["status"] == "archived" && shown["archivedAt"].is_string());
    let patch = json!({"systemPrompt": "revived"});
    test.patch(&test.a.owner, "/v1/agents/old", patch).await.refused(409, "agent_archived");
    test.post(&test.a.owner, "/v1/runs", json!({"agentName": "old"})).await.refused(409, "agent_archived");

    let again = test.agent(json!({"name": "old", "maxTurns": 3})).await;
    assert_eq!((&again["status"], &again["version"]), (&json!("active"), &json!(2)));
    assert_ne!(again["currentVersionId"], first["currentVersionId"]);
    for gone in ["systemPrompt", "tools", "description", "stylePrompt", "avatarUrl", "archivedAt"] {
        assert_eq!(again.get(gone), None, "{gone}");
    }
    assert_eq!(again["labels"], json!({}));
    let mut again = again;
    let warned = again.as_object_mut().unwrap().remove("warnings").unwrap();
    assert!(warned[0].as_str().unwrap().starts_with("an archived agent had this name"), "{warned}");
    assert_eq!(test.get(&test.a.owner, "/v1/agents/old").await.is(200).json, again);
    test.run(json!({"agentName": "old"})).await;

    // Even when it says word for word what it said before, it is a new version.
    test.delete(&test.a.owner, "/v1/agents/old").await.is(204);
    assert_eq!(test.agent(json!({"name": "old", "maxTurns": 3})).await["version"], 3);
    test.delete(&test.a.owner, "/v1/agents/never").await.refused(404, "agent_not_found");
    test.get(&test.a.owner, "/v1/agents/%00%ff").await.refused(404, "route_not_found");
    test.get(&test.a.owner, "/v1/agents/%00").await.refused(404, "agent_not_found");
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_its_paths() {
    let test = TestApp::new().await;
    let post = async |body: Value| test.post(&test.a.owner, AGENTS, body).await;
    for name in ["", "-x", "a b", "ä", "a/b", &"x".repeat(129)] {
        post(json!({"name": name})).await.refused(400, "invalid_body");
    }
    let wrong = json!({"name": 5, "labels": {"a": 1}, "description": ["x"], "avatarUrl": "x".repeat(3_000)});
    let paths = post(wrong).await.refused(400, "invalid_body");
    assert_eq!(paths.paths(), ["name", "description", "labels.a", "avatarUrl"]);
    let manifest = json!({"name": "x", "maxTurns": -1, "tools": ["calc", "nope", {"name": "pay", "effect": "maybe"}],
        "inputSchema": {"type": "nonsense"}, "temperature": 99, "timeout": "soon"});
    let answer = post(manifest).await.refused(400, "invalid_manifest");
    for path in ["maxTurns", "tools[2].effect", "temperature", "timeout"] {
        assert!(answer.paths().contains(&path), "{path}: {}", answer.text);
    }
    let step = json!({"kind": "llm", "data": {"prompt": "x", "outputSchema": {"$ref": "#/$defs/no"}}});
    let race = json!([{"kind": "race", "steps": [step]}]);
    for (body, paths) in [
        (
            json!({"tools": ["nope"], "inputSchema": {"type": "nonsense"}}),
            vec!["inputSchema.type", "tools[0]"],
        ),
        (json!({"outputSchema": {"$ref": "http://localhost/x"}}), vec!["outputSchema.$ref"]),
        (
            json!({"maxTokens": 4_294_967_295_u32, "timeout": "36000d",
                "tools": [{"name": "calc", "timeoutMs": 360_000_000}]}),
            vec!["maxTokens", "timeout", "tools[0].timeoutMs"],
        ),
        (json!({"inputSchema": thicket(13)}), vec!["inputSchema"]),
        (json!({"inputSchema": {"items": {"pattern": "(a+)+\\1"}}}), vec!["inputSchema.items.pattern"]),
        (json!({"steps": race}), vec!["steps[0].steps[0].data.outputSchema.$ref"]),
        (json!({"steps": [{"kind": "tool", "tool": "clac"}]}), vec!["steps[0].tool"]),
        (json!({"tools": [], "steps": [{"kind": "tool", "tool": "calc"}]}), vec!["steps[0].tool"]),
        (
            json!({"steps": [{"kind": "sleep", "duration": 1, "until": "2026-11-25T10:30:00Z"},
                {"kind": "approval", "data": {"approvers": 5}}, {"kind": "signal", "name": "go", "timeout": "400d"}]}),
            vec!["steps[0].until", "steps[1].data.approvers"],
        ),
        (json!({"steps": [{"kind": "signal", "name": "go", "timeout": "400d"}]}), vec!["steps[0].timeout"]),
    ] {
        let mut body = body;
        body["name"] = "x".into();
        assert_eq!(post(body).await.refused(400, "invalid_manifest").paths(), paths);
    }
    assert_eq!(test.get(&test.a.owner, AGENTS).await.json, json!([]));

    // Steps that are not spoken of are not looked at again, and those that come with a run are looked at like any.
    test.agent(json!({"name": "any"})).await;
    let start = json!({"agentName": "any", "input": {"steps": [{"kind": "tool", "tool": "clac"}]}});
    let refused = test.post(&test.a.owner, "/v1/runs", start).await.refused(400, "invalid_input");
    assert_eq!(refused.json["reason"], "steps_invalid");
    assert!(refused.text.contains("did you mean"), "{}", refused.text);
}

/// A kilobyte of schema, each level of which leads to the next in three ways: it once held a processor for minutes.
fn thicket(levels: usize) -> Value {
    let next = |level: usize| json!({"$ref": format!("#/$defs/d{}", level + 1)});
    let way = |level: usize| (format!("d{level}"), json!({"anyOf": [next(level), next(level), next(level)]}));
    let mut defs: serde_json::Map<String, Value> = (0..levels).map(way).collect();
    defs.insert(format!("d{levels}"), json!({"type": "string"}));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

#[tokio::test]
async fn lists_are_paged_and_unknown_fields_are_named() {
    let test = TestApp::new().await;
    for n in 0..5 {
        let body = json!({"name": format!("a{n}"), "colour": "red", "nöt ascii": 1, "size": 1});
        assert_eq!(
            test.post(&test.a.owner, AGENTS, body).await.is(201).header("lantern-ignored"),
            "colour,size"
        );
    }
    let mut path = format!("{AGENTS}?limit=2");
    let mut names = Vec::new();
    loop {
        let page = test.get(&test.a.owner, &path).await.is(200);
        names.extend(
            page.json.as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned()),
        );
        match page.header("link").split(['<', '>']).nth(1) {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, ["a4", "a3", "a2", "a1", "a0"]);
    for query in ["limit=101", "limit=99999999999999999999"] {
        let page = test.get(&test.a.owner, &format!("{AGENTS}?{query}")).await.is(200);
        assert_eq!(page.json.as_array().unwrap().len(), 5, "{query}");
    }
    // A cursor leads on in the list that it is of.
    let page = test.get(&test.a.owner, &format!("{AGENTS}?limit=2")).await.is(200);
    let cursor = page.header("x-next-cursor");
    test.get(&test.a.owner, &format!("{AGENTS}?cursor={cursor}")).await.is(200);
    for list in ["/v1/runs", "/v1/sessions", "/v1/agents/a0/versions"] {
        test.get(&test.a.owner, &format!("{list}?cursor={cursor}")).await.refused(400, "invalid_query");
    }
    for query in ["limit=0", "limit=-1", "limit=x", "cursor=zzz", "cursor=AAAA"] {
        test.get(&test.a.owner, &format!("{AGENTS}?{query}")).await.refused(400, "invalid_query");
    }
}

#[tokio::test]
async fn an_update_may_name_the_revision_it_is_about() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "e"})).await;
    let tag = test.get(&test.a.owner, "/v1/agents/e").await.header("etag").to_owned();
    let patch = async |tag: &str, text: &str| {
        let body = Some(json!({"description": text}));
        let mut request = request("PATCH", "/v1/agents/e", Some(&test.a.owner), body);
        request.headers_mut().insert("if-match", HeaderValue::from_str(tag).unwrap());
        test.send(request).await
    };
    let second = patch(&tag, "one").await.is(200).header("etag").to_owned();
    let outdated = patch(&tag, "two").await.refused(412, "version_mismatch");
    let words = format!("the revision (its ETag) is {second}, not {tag}; read it again");
    assert_eq!(outdated.json["error"], words);
    for other in ["\"abc\"".to_owned(), format!("W/{second}"), format!("{tag}, \"x\"")] {
        patch(&other, "two").await.refused(412, "version_mismatch");
    }
    patch("nonsense", "two").await.refused(400, "invalid_header");
    patch(&format!("{tag}, {second}"), "two").await.is(200);
}

#[tokio::test]
async fn who_makes_an_agent_may_say_what_must_be_there_before() {
    let test = TestApp::new().await;
    let post = async |name: &str, header: (&'static str, &str), text: &str| {
        let body = Some(json!({"name": name, "description": text}));
        let mut request = request("POST", AGENTS, Some(&test.a.owner), body);
        request.headers_mut().insert(header.0, HeaderValue::from_str(header.1).unwrap());
        test.send(request).await
    };
    post("new", ("if-match", "*"), "one").await.refused(412, "version_mismatch");
    post("new", ("if-match", "\"1\""), "one").await.refused(412, "version_mismatch");
    test.get(&test.a.owner, "/v1/agents/new").await.refused(404, "agent_not_found");
    let tag = post("new", ("if-none-match", "*"), "one").await.is(201).header("etag").to_owned();
    post("new", ("if-none-match", "*"), "two").await.refused(412, "version_mismatch");
    post("new", ("if-match", "\"77\""), "two").await.refused(412, "version_mismatch");
    post("new", ("if-none-match", "\"77\""), "two").await.refused(400, "invalid_header");
    assert_eq!(test.get(&test.a.owner, "/v1/agents/new").await.is(200).json["description"], "one");
    post("new", ("if-match", &tag), "two").await.is(201);
    post("new", ("if-match", "*"), "three").await.is(201);
    // One that is archived is not there for who makes it afresh.
    test.send(request("DELETE", "/v1/agents/new", Some(&test.a.owner), None)).await.is(204);
    post("new", ("if-match", "*"), "four").await.refused(412, "version_mismatch");
    post("new", ("if-none-match", "*"), "four").await.is(201);
}

#[tokio::test]
async fn a_wait_between_attempts_is_bounded_like_any_other() {
    let test = TestApp::new().await;
    let save = async |retry: Value| {
        let agent = json!({"name": "patient", "retry": retry});
        test.post(&test.a.owner, "/v1/agents", agent).await
    };
    for (retry, path) in [
        (json!({"initialInterval": "18000d"}), "retry.initialInterval"),
        (json!({"maxInterval": "367d"}), "retry.maxInterval"),
    ] {
        let refused = save(retry).await.refused(400, "invalid_manifest");
        assert_eq!(refused.json["fields"][0]["path"], path, "{}", refused.json);
    }
    save(json!({"maxInterval": "366d"})).await.is(201);
}
