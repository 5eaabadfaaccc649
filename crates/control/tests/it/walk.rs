//! Every route, as nobody, as the weakest, and as another tenant. A new route is covered the moment it exists.

use lantern_control::routes;
use lantern_edge::Route;
use lantern_engine::{Arrival, Input};
use lantern_policy::action::least_role;
use lantern_policy::{Access, Role};
use serde_json::{Value, json};

use crate::app::{TestApp, person, request};
use crate::hand::Hand;

pub(crate) type Guarded = (&'static str, &'static str, &'static str, Access);

/// In the order of the table, but that whoever signs out does it last.
pub(crate) fn guarded() -> Vec<Guarded> {
    let read = |route: Route<lantern_control::App>| {
        let (action, access) = route.action()?;
        Some((route.method(), route.path(), action, access))
    };
    let mut guarded: Vec<Guarded> = routes().into_iter().filter_map(read).collect();
    guarded.sort_by_key(|(.., action, _)| *action == "self.sign_out");
    guarded
}

/// A body that the action accepts, so that nothing but the caller is wrong.
pub(crate) fn body(action: &str, path: &str) -> Option<Value> {
    Some(match action {
        "agents.create" if path.ends_with("/from-template") => json!({"templateId": "basic"}),
        "agents.create" => json!({"name": "walked"}),
        "agents.update" => json!({"description": "walked"}),
        "runs.create" if path.ends_with("/batch") => json!({"runs": [{"agentName": "mine"}]}),
        "runs.create" => json!({"agentName": "mine"}),
        "runs.cancel" | "runs.signal" => json!({}),
        "runs.steer" if path.ends_with("/resolve") => json!({"happened": true}),
        "runs.steer" => json!({}),
        "sessions.create" => json!({"agentName": "mine"}),
        "sessions.send" => json!({"content": "hi"}),
        "approvals.decide" => json!({"approved": true}),
        "runs.forecast" | "runs.rehearse" => json!({"agentName": "mine"}),
        "runs.rate" => json!({"score": 5}),
        "members.change_role" => json!({"role": "member"}),
        "invitations.create" => json!({"email": "walked@example.com"}),
        "self.change_factor" if path.ends_with("/confirm") => json!({"code": "000000"}),
        "self.change_factor" => json!({"password": "x"}),
        "self.link_identity" => json!({"password": "x"}),
        "self.change_password" => json!({"currentPassword": "x", "newPassword": "correct horse battery"}),
        "api_keys.create" => json!({"name": "walked"}),
        "stops.set" => json!({"scope": "agent", "agentName": "mine", "reason": "walked"}),
        "budgets.save" => json!({"maxCostUsdPerDay": 1}),
        "runtime.schedule" => program("walked"),
        "runtime.exec" => json!({"command": "/walked"}),
        "secrets.save" if path.contains("/versions/") => json!({"enabled": true}),
        "secrets.save" => json!({"value": "walked"}),
        "secrets.rotate_key" => json!({}),
        "policies.save" => json!({"text": "// walked"}),
        "policies.test" => json!({"text": "// walked"}),
        "providers.save" => json!({"provider": "vendor", "apiKey": "sk-0123456789"}),
        _ => return None,
    })
}

/// A workload whose image the node has.
fn program(name: &str) -> Value {
    json!({"imageDigest": format!("{name}@sha256:{}", "1".repeat(64)), "isolation": "trusted"})
}

/// Things of tenant `a`, to put into paths.
pub(crate) struct Things {
    run: String,
    /// Another, which is over and has a receipt.
    over: String,
    session: String,
    key: String,
    approval: String,
    stop: String,
    workload: String,
    tenant: String,
    /// Somebody's, and their sign-in's, which is called the same.
    member: String,
    invitation: String,
}

pub(crate) async fn things(test: &TestApp) -> Things {
    test.agent(json!({"name": "mine"})).await;
    let run = test.run(json!({"agentName": "mine"})).await;
    test.agent(json!({"name": "asks", "program": "steps", "steps": [{"id": "mine", "kind": "approval"}]}))
        .await;
    let asks = test.run(json!({"agentName": "asks"})).await;
    Hand::take(test, &asks).await.give(Input::Wake).await;
    let approval = test.get(&test.a.owner, "/v1/approvals").await.is(200).json[0]["id"].clone();
    let key = test.post(&test.a.owner, "/v1/api-keys", json!({"name": "k"})).await.is(201);
    test.put(&test.a.owner, "/v1/agents/mine/budget", json!({"maxCostUsdPerRun": 1})).await.is(200);
    let lab = json!({"provider": "lab", "baseUrl": "http://127.0.0.1:1/v1"});
    test.post(&test.a.owner, "/v1/settings/llm-providers", lab).await.is(200);
    test.put(&test.a.owner, "/v1/secrets/mine", json!({"value": "mine"})).await.is(201);
    // More than whoever walks makes of their own.
    for n in 1..=3 {
        test.put(&test.a.owner, "/v1/policies", json!({"text": format!("// mine {n}")})).await.is(200);
    }
    let session = test.post(&test.a.owner, "/v1/sessions", json!({"agentName": "mine"})).await.is(201).json;
    let text = |id: &Value| id.as_str().unwrap().to_owned();
    let workload = test.post(&test.a.owner, "/v1/runtime/schedule", program("mine")).await.is(201).json;
    let asked = json!({"scope": "tenant", "reason": "mine"});
    let stop = test.post(&test.a.owner, "/v1/stops", asked).await.is(201).json["id"].clone();
    let over = test.run(json!({"agentName": "mine"})).await;
    let cancel = Arrival::Cancel { by: String::new(), reason: None };
    Hand::take(test, &over).await.give(Input::Arrived(cancel)).await;
    test.post(&test.a.owner, &format!("/v1/runs/{over}/receipt"), json!({})).await.is(200);
    let invited =
        test.post(&test.a.owner, "/v1/invitations", json!({"email": "mine@example.com"})).await.is(201);
    Things {
        run,
        over,
        session: text(&session["id"]),
        key: text(&key.json["key"]["id"]),
        approval: text(&approval),
        stop: text(&stop),
        workload: text(&workload["vmId"]),
        tenant: test.a.id.to_string(),
        member: person(test.a.id, Role::Admin).id.to_string(),
        invitation: text(&invited.json["invitation"]["id"]),
    }
}

/// Reads that nothing answers yet.
const UNBUILT: [&str; 4] = ["/workflow", "/deploy", "/transcriptions", "/tts"];

pub(crate) fn filled(path: &str, things: &Things) -> String {
    let id = match path {
        path if path.contains("/api-keys/") => &things.key,
        path if path.contains("/approvals/{id}") => &things.approval,
        path if path.starts_with("/v1/sessions/") => &things.session,
        path if path.starts_with("/v1/stops/") => &things.stop,
        path if path.starts_with("/v1/runtime/vms/") => &things.workload,
        path if path.starts_with("/v1/members/") || path.starts_with("/auth/sign-ins/") => &things.member,
        path if path.starts_with("/v1/invitations/") => &things.invitation,
        path if path.contains("/receipt") => &things.over,
        _ => &things.run,
    };
    let other = if path.starts_with("/v1/runs/") { things.run.as_str() } else { "1" };
    let name = if path.contains("/signals/") { "go" } else { "mine" };
    path.replace("{id}", id)
        .replace("{*path}", "0/000.p/1")
        .replace("{name}", name)
        .replace("{stepId}", "s")
        .replace("{takeoverId}", &things.approval)
        .replace("{version}", if path.starts_with("/v1/policies/") { "3" } else { "1" })
        .replace("{other}", other)
        .replace("{provider}", "lab")
        .replace("{tenant}", &things.tenant)
}

#[tokio::test]
async fn nobody_gets_nothing() {
    let test = TestApp::new().await;
    let things = things(&test).await;
    for (method, path, action, _) in guarded() {
        let path = filled(path, &things);
        let answer =
            test.send(request(method, &path, None, body(action, &path))).await.refused(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{method} {path}");
        let want = if path == "/auth/me" { "invalid or missing token" } else { "unauthorized" };
        assert_eq!(answer.json["error"], want);
    }
}

#[tokio::test]
async fn the_weakest_get_what_the_table_says() {
    let test = TestApp::new().await;
    let things = things(&test).await;
    let key = test.key(&["read"]).await;
    let mut signed_out = false;
    for (method, path, action, access) in guarded() {
        let path = filled(path, &things);
        for (token, code) in [(&test.a.viewer, "role_missing"), (&key, "scope_missing")] {
            if access <= Access::Read {
                if ["/events", "/stream", "/logs"].iter().any(|end| path.ends_with(end)) {
                    continue;
                }
                let answer = test.send(request(method, &path, Some(token), body(action, &path))).await;
                let want = match (action, code) {
                    ("self.sign_out", "role_missing") if signed_out => 401,
                    ("self.sign_out", "role_missing") => 204,
                    // Somebody else's, and not the password.
                    ("self.end_sign_in" | "self.unlink_identity", "role_missing") => 404,
                    ("self.change_factor", "role_missing") if path.ends_with("/confirm") => 409,
                    (
                        "self.change_password" | "self.change_factor" | "self.link_identity",
                        "role_missing",
                    ) => 400,
                    ("self.read", _)
                    | ("self.list_sign_ins" | "self.list_identities" | "self.read_factor", "role_missing") => {
                        200
                    }
                    // A key is not signed in, and may know it.
                    (action, _) if action.starts_with("self.") => 409,
                    _ if UNBUILT.iter().any(|end| path.ends_with(end)) => 501,
                    _ => 200,
                };
                assert_eq!(answer.status, want, "{method} {path} {}", answer.text);
                signed_out |= want == 204;
            } else {
                let refused = request(method, &path, Some(token), body(action, &path));
                let answer = test.send(refused).await.refused(403, code);
                assert!(
                    ["write", "admin", "owner"].contains(&answer.json["required_scope"].as_str().unwrap())
                );
            }
        }
    }
}

#[tokio::test]
async fn a_member_does_what_is_not_for_admins() {
    let test = TestApp::new().await;
    let things = things(&test).await;
    for (method, path, action, access) in guarded() {
        if action == "self.sign_out" {
            continue;
        }
        let filled = filled(path, &things);
        let asked = request(method, &filled, Some(&test.a.member), body(action, path));
        let least = least_role(action, access);
        if least <= Role::Member {
            let answer = test.open(asked).await;
            assert!(![401, 403].contains(&answer.status().as_u16()), "{method} {path} {}", answer.status());
        } else {
            let answer = test.send(asked).await.refused(403, "role_missing");
            assert_eq!(answer.json["error"], format!("this needs the role {}", least.as_str()));
        }
    }
}

#[tokio::test]
async fn another_tenants_things_are_not_there() {
    let test = TestApp::new().await;
    let things = things(&test).await;
    // Everybody's, and nobody's own. What the caller asked for in vain is in the caller's own audit log, by the path that they named.
    let common = ["tools.list", "limits.read"];
    for (method, path, action, _) in guarded() {
        // Makes one of their own, as the test of secrets shows.
        if (method, path) == ("PUT", "/v1/secrets/{name}") {
            continue;
        }
        let filled = filled(path, &things);
        let answer = test.send(request(method, &filled, Some(&test.b.owner), body(action, path))).await;
        if path.contains('{') || ["runs.create", "sessions.create", "stops.set"].contains(&action) {
            assert_eq!(answer.status, 404, "{method} {path} {}", answer.text);
            assert!(answer.json["code"].as_str().unwrap().ends_with("_not_found"), "{}", answer.text);
        } else if method == "GET"
            && path.starts_with("/v1/")
            && !common.contains(&action)
            && action != "audit.read"
        {
            // A list, or the one thing that there is.
            let items =
                answer.json.as_array().map_or_else(|| std::slice::from_ref(&answer.json), Vec::as_slice);
            let own: Vec<&Value> = items.iter().filter(|item| item["source"] != "environment").collect();
            assert!(
                !own.iter().any(|item| item.to_string().contains("mine")),
                "{method} {path} {}",
                answer.text
            );
        }
    }
    // What the other tenant did left everything where it was.
    let run = test.get(&test.a.owner, &format!("/v1/runs/{}", things.run)).await.is(200);
    assert_eq!(run.json["status"], "queued");
    assert_eq!(test.get(&test.a.owner, "/v1/agents/mine").await.is(200).json["status"], "active");
    assert_eq!(test.get(&test.a.owner, "/v1/agents/walked").await.status, 404);
}
