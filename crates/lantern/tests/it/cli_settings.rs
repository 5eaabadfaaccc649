//! `lantern keys`, `lantern providers` and `lantern secrets`: what is sent, what is shown, and what is never either.

use serde_json::{Value, json};

use super::cli_fake::{Answer, Fake, RUN, User, refusal, unforeseen};

const KEY: &str = "hlx_live_0123456789abcdef0123456789abcdef";

fn keys() -> Fake {
    Fake::start(|seen| match seen.line.as_str() {
        "POST /v1/api-keys" => {
            let key = json!({ "id": RUN, "name": seen.body["name"], "prefix": "hlx_live_0123456",
                "scopes": ["read"], "status": "active", "createdAt": "2026-09-21T14:13:20Z" });
            Answer::Json(201, json!({ "key": key, "rawKey": KEY }))
        }
        line if line.starts_with("GET /v1/api-keys?") => {
            let key = json!({ "id": RUN, "name": "ci", "prefix": "hlx_live_0123456", "scopes": ["read", "write"],
                "status": "revoked", "createdAt": "2026-09-21T14:13:20Z", "lastUsedAt": "2026-09-22T14:13:20Z" });
            Answer::Json(200, json!([key]))
        }
        line if line == format!("DELETE /v1/api-keys/{RUN}") => Answer::Json(204, Value::Null),
        line if line.starts_with("DELETE ") => refusal(404, "api_key_not_found", "no such API key"),
        other => unforeseen(other),
    })
}

#[test]
fn a_new_key_is_shown_once_and_alone() {
    let fake = keys();
    let user = User::of(&fake);
    let args =
        ["keys", "create", "--name", "ci", "--scope", "read", "--scope", "write", "--expires-in", "30d"];
    let done = user.run(&args);
    assert_eq!(done.out, format!("{KEY}\n"), "a script takes it as it is");
    assert!(
        done.err.contains(&format!("made the key ci, {RUN}")) && done.err.contains("not shown again"),
        "{done:?}"
    );
    let want = json!({ "name": "ci", "scopes": ["read", "write"], "expiresIn": "30d" });
    assert_eq!(fake.seen()[0].body, want);
    let made: Value =
        serde_json::from_str(&user.run(&["keys", "create", "--name", "ci", "-o", "json"]).ok()).unwrap();
    assert_eq!((&made["rawKey"], &made["key"]["name"]), (&json!(KEY), &json!("ci")));
    assert_eq!(fake.seen()[1].body, json!({ "name": "ci" }), "what is not said is the server's to choose");
    let list = user.run(&["keys", "list"]).ok();
    let want = format!(
        "ID                                    NAME  PREFIX            SCOPES       STATUS   EXPIRES  LAST USED             \
         CREATED\n{RUN}  ci    hlx_live_0123456  read, write  revoked           2026-09-22 14:13:20Z  2026-09-21 14:13:20Z\n"
    );
    assert_eq!(list, want);
}

#[test]
fn a_key_is_revoked_when_somebody_means_it() {
    let fake = keys();
    let user = User::of(&fake);
    let done = user.run(&["keys", "revoke", RUN]);
    assert!(done.code == 2 && done.err.contains("pass --force") && fake.seen().is_empty(), "{done:?}");
    assert_eq!(user.run(&["keys", "revoke", RUN, "--force"]).ok(), format!("revoked the key {RUN}\n"));
    let other = "018f0000-0000-7000-8000-000000000009";
    let done = user.run(&["keys", "revoke", other, "--force"]);
    assert!(done.code == 4 && done.err.contains("`lantern keys list`"), "{done:?}");
    let done = user.run(&["keys", "revoke", "ci", "--force"]);
    assert!(done.code == 2 && done.err.contains("`lantern keys list`"), "{done:?}");
}

fn providers() -> Fake {
    Fake::start(|seen| match seen.line.as_str() {
        "POST /v1/settings/llm-providers" => {
            let mut saved = json!({ "status": "saved", "provider": seen.body["provider"] });
            if seen.body["baseUrl"].is_string() {
                saved["warning"] = json!("models count as free here");
            }
            Answer::Json(200, saved)
        }
        "GET /v1/settings/llm-providers" => Answer::Json(
            200,
            json!([
                { "provider": "lab", "status": "active", "keyMasked": "", "baseUrl": "http://h/v1",
                    "updatedAt": "2026-09-21T14:13:20Z" },
                { "provider": "openai", "status": "active", "keyMasked": "****env****", "source": "environment" },
            ]),
        ),
        "POST /v1/settings/llm-providers/lab/test" => {
            Answer::Json(200, json!({ "success": true, "message": "lab answers and lists 2 models" }))
        }
        "POST /v1/settings/llm-providers/openai/test" => {
            let words = "openai cannot be used: it answered with the status 401";
            let code = "provider_auth";
            Answer::Json(200, json!({ "success": false, "code": code, "reason": "status", "error": words }))
        }
        "DELETE /v1/settings/llm-providers/lab" => Answer::Json(204, Value::Null),
        line if line.contains("/nobody") => refusal(404, "provider_not_found", "no provider"),
        other => unforeseen(other),
    })
}

#[test]
fn the_key_of_a_provider_never_stands_on_the_command_line() {
    let fake = providers();
    let user = User::of(&fake);
    let said = user.run_reading(&["providers", "set", "openai", "--key-stdin"], " sk-secret \n");
    assert_eq!((said.code, said.out.as_str()), (0, "saved the provider openai\n"), "{said:?}");
    assert!(said.err.contains("lantern providers test openai") && !said.err.contains("secret"), "{said:?}");
    let local = ["providers", "set", "lab", "--base-url", "http://h/v1"];
    let said = user.run(&local);
    assert!(said.code == 0 && said.err.contains("warning: models count as free here\n"), "{said:?}");
    let user = user.with("LANTERN_PROVIDER_KEY", "sk-env");
    user.run(&local).ok();
    let said = user.run(&["providers", "set", "openai", "-o", "json"]).ok();
    assert_eq!(
        serde_json::from_str::<Value>(&said).unwrap(),
        json!({ "status": "saved", "provider": "openai" })
    );
    let sent: Vec<Value> = fake.seen().into_iter().map(|seen| seen.body).collect();
    let want = [
        json!({ "provider": "openai", "apiKey": "sk-secret" }),
        json!({ "provider": "lab", "baseUrl": "http://h/v1" }),
        json!({ "provider": "lab", "baseUrl": "http://h/v1", "apiKey": "sk-env" }),
        json!({ "provider": "openai", "apiKey": "sk-env" }),
    ];
    assert_eq!(sent, want);
    let user = User::of(&fake);
    for (args, words) in [
        (&["providers", "set", "openai"][..], "--key-stdin"),
        (&["providers", "set", "openai", "--key", "sk-secret"], "--key"),
    ] {
        let done = user.run(args);
        assert!(done.code == 2 && done.err.contains(words) && done.err.contains("next: "), "{done:?}");
    }
    let done = user.run_reading(&["providers", "set", "openai", "--key-stdin"], "\n");
    assert!(done.code == 2 && done.err.contains("no key"), "{done:?}");
    assert_eq!(fake.seen().len(), 4, "nothing was sent without a key");
}

#[test]
fn providers_are_listed_tested_and_forgotten() {
    let fake = providers();
    let user = User::of(&fake);
    let want = "NAME    KEY          BASE URL     SET BY           UPDATED\n\
                lab                  http://h/v1  the tenant       2026-09-21 14:13:20Z\n\
                openai  ****env****               the environment\n";
    assert_eq!(user.run(&["providers", "list"]).ok(), want);
    assert_eq!(user.run(&["providers", "test", "lab"]).ok(), "lab answers and lists 2 models\n");
    let done = user.run(&["providers", "test", "openai"]);
    assert_eq!((done.code, done.out.as_str()), (1, ""), "{done:?}");
    let want = "error: openai cannot be used: it answered with the status 401 (provider_auth)\nnext: give it a key that it accepts; set it with \
                `lantern providers set`\n";
    assert_eq!(done.err, want);
    let done = user.run(&["providers", "test", "nobody"]);
    assert!(done.code == 4 && done.err.contains("`lantern providers list`"), "{done:?}");
    assert_eq!(user.run(&["providers", "delete", "lab", "--force"]).ok(), "forgot the provider lab\n");
}

fn secrets() -> Fake {
    Fake::start(|seen| match seen.line.as_str() {
        "PUT /v1/secrets/db" => {
            let answer = json!({ "name": "db", "reference": "lantern.secret://tenant/db", "version": 2,
                "versions": [{ "version": 2, "enabled": true }] });
            Answer::Json(201, answer)
        }
        line if line.starts_with("GET /v1/secrets?") => {
            let off = json!({ "name": "old", "reference": "lantern.secret://tenant/old", "versions": [{}],
                "updatedAt": "2026-09-21T14:13:20Z" });
            let db = json!({ "name": "db", "reference": "lantern.secret://tenant/db", "version": 2,
                "versions": [{}, {}], "updatedAt": "2026-09-21T14:13:20Z" });
            Answer::Json(200, json!([db, off]))
        }
        "GET /v1/secrets/db/versions" => Answer::Json(
            200,
            json!([{ "version": 2, "enabled": true, "createdAt": "2026-09-21T14:13:20Z" },
                { "version": 1, "enabled": false, "createdAt": "2026-09-20T14:13:20Z" }]),
        ),
        "PATCH /v1/secrets/db/versions/2" => Answer::Json(200, json!({ "name": "db", "versions": [] })),
        "DELETE /v1/secrets/db" | "DELETE /v1/secrets/db/versions/1" => Answer::Json(204, Value::Null),
        "POST /v1/secret-keys/rotate" if seen.body == json!({}) => {
            Answer::Json(200, json!({ "keyVersion": 3, "resealed": 100, "remaining": 7 }))
        }
        "POST /v1/secret-keys/rotate" if seen.body == json!({ "toVersion": 3 }) => {
            Answer::Json(200, json!({ "keyVersion": 3, "resealed": 7, "remaining": 0 }))
        }
        line if line.contains("/nothing") => refusal(404, "secret_not_found", "there is no secret"),
        other => unforeseen(other),
    })
}

#[test]
fn the_value_of_a_secret_never_stands_on_the_command_line() {
    let fake = secrets();
    let user = User::of(&fake);
    let file = user.file("value", "two\nlines\n");
    for (args, input) in [
        (&["secrets", "set", "db"][..], "from a pipe\n"),
        (&["secrets", "set", "db"], "from a pipe\r\n"),
        (&["secrets", "set", "db"], "ends itself\n\n"),
        (&["secrets", "set", "db", "--file", &file], "not read"),
    ] {
        let done = user.run_reading(args, input);
        assert_eq!((done.code, done.out.as_str()), (0, "version 2 of the secret db counts\n"), "{done:?}");
        assert!(done.err.contains("lantern.secret://tenant/db") && !done.err.contains("pipe"), "{done:?}");
    }
    let sent: Vec<Value> = fake.seen().into_iter().map(|seen| seen.body["value"].clone()).collect();
    assert_eq!(sent, ["from a pipe", "from a pipe", "ends itself\n", "two\nlines\n"].map(|text| json!(text)));
    let long = user.file("long", vec![b'x'; (64 << 10) + 10]);
    let odd = user.file("odd", [0xff, 0xfe, b's', b'e', b'c']);
    for (args, input, words) in [
        (&["secrets", "set", "db"][..], "", "no value"),
        (&["secrets", "set", "db"], " \n", "no value"),
        (&["secrets", "set", "db", "--file", &long], "", "more than 65536 bytes"),
        (&["secrets", "set", "db", "--file", &odd], "", "base64"),
        (&["secrets", "set", "db", "--file", "/none/such"], "", "cannot read /none/such"),
        (&["secrets", "set", "db", "sk-secret"], "", "unexpected argument"),
    ] {
        let done = user.run_reading(args, input);
        assert!(done.code == 2 && done.err.contains(words), "{done:?}");
    }
    assert_eq!(fake.seen().len(), 4, "nothing was sent without a value");
}

#[test]
fn secrets_are_listed_changed_and_deleted() {
    let fake = secrets();
    let user = User::of(&fake);
    let want = "NAME  VERSION  VERSIONS  REFERENCE                    UPDATED\n\
                db    2        2         lantern.secret://tenant/db   2026-09-21 14:13:20Z\n\
                old   none     1         lantern.secret://tenant/old  2026-09-21 14:13:20Z\n";
    assert_eq!(user.run(&["secrets", "list"]).ok(), want);
    let want = "VERSION  STATUS    CREATED\n2        enabled   2026-09-21 14:13:20Z\n1        disabled  2026-09-20 14:13:20Z\n";
    assert_eq!(user.run(&["secrets", "versions", "db"]).ok(), want);
    let said = user.run(&["secrets", "disable", "db", "2"]).ok();
    assert_eq!(said, "disabled version 2 of db: no version counts, so the secret cannot be used\n");
    let done = user.run(&["secrets", "delete", "db"]);
    assert!(done.code == 2 && done.err.contains("pass --force"), "{done:?}");
    let said = user.run(&["secrets", "delete", "db", "--only-version", "1", "--force"]).ok();
    assert_eq!(said, "deleted version 1 of the secret db\n");
    let said = user.run(&["secrets", "delete", "db", "--force"]).ok();
    assert_eq!(said, "deleted the secret db with all of its versions\n");
    let done = user.run(&["secrets", "rekey"]);
    assert_eq!(done.out, "key 3 seals all secrets now: 107 values were sealed anew\n");
    assert!(done.err.contains("7 values remain"), "{done:?}");
    let done = user.run(&["secrets", "versions", "nothing"]);
    assert!(done.code == 4 && done.err.contains("`lantern secrets list`"), "{done:?}");
}

#[test]
fn a_provider_is_given_a_secret_by_name() {
    let fake = providers();
    let user = User::of(&fake);
    user.run(&["providers", "set", "openai", "--secret", "models"]).ok();
    let want = json!({ "provider": "openai", "apiKey": "lantern.secret://tenant/models" });
    assert_eq!(fake.seen()[0].body, want);
    for args in [&["--secret", "a/b"][..], &["--secret", "a", "--key-stdin"]] {
        let done = user.run(&[&["providers", "set", "openai"], args].concat());
        assert_eq!(done.code, 2, "{done:?}");
    }
    assert_eq!(fake.seen().len(), 1);
}
