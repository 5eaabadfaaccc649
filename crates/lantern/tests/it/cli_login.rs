//! Who somebody is to the program: logins, where they are kept, keys, and tenants that are named.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::cli_fake::{Answer, Fake, Seen, User, mode, refusal, unforeseen};

fn login(seen: &Seen) -> Answer {
    match seen.line.as_str() {
        "POST /auth/login" if seen.body == json!({ "email": "ada@example.com", "password": "pw" }) => {
            let user = json!({ "id": "u", "tenantId": "t", "email": "ada@example.com", "name": "Ada", "role": "admin" });
            Answer::Json(200, json!({ "token": "secret-token", "user": user }))
        }
        "POST /auth/login" => refusal(401, "invalid_credentials", "invalid credentials"),
        "GET /auth/me" => {
            Answer::Json(200, json!({ "email": "ada@example.com", "role": "admin", "tenantId": "t" }))
        }
        other => unforeseen(other),
    }
}

#[test]
fn a_login_is_kept_for_its_server_alone() {
    let (fake, other) = (Fake::start(login), Fake::start(login));
    let user = User::new();
    let url = fake.url();
    let out = user.run(&["login", "--api-url", &url, "--email", "ada@example.com", "--password", "pw"]).ok();
    assert_eq!(out, format!("logged in to {url} as ada@example.com\n"));
    let folder = user.home.join(".lantern");
    assert_eq!((mode(&folder), mode(&folder.join("credentials.json"))), (0o700, 0o600));

    assert!(user.run(&["whoami", "--api-url", &url]).ok().contains("email   ada@example.com\n"));
    assert_eq!(fake.seen()[1].header("authorization"), "Bearer secret-token");
    let elsewhere = user.run(&["whoami", "--api-url", &other.url()]);
    assert_eq!(elsewhere.code, 3);
    assert!(
        elsewhere.err.contains("the saved login is for")
            && elsewhere.err.contains(&format!("run `lantern login --api-url {}`", other.url()))
    );
    assert!(other.seen().is_empty(), "the token was not sent to another server");

    assert_eq!(user.run(&["logout"]).ok(), format!("logged out of {url} as ada@example.com\n"));
    assert_eq!(user.run(&["logout"]).ok(), "there was no saved login\n");
    let out = user.run(&["whoami", "--api-url", &url]);
    let told = format!("error: not logged in (not_logged_in)\nnext: run `lantern login --api-url {url}`\n");
    assert_eq!((out.code, out.err), (3, told));
}

#[test]
fn another_file_may_hold_the_login() {
    let fake = Fake::start(login);
    let user = User::new().with("LANTERN_API_URL", &fake.url()).with("LANTERN_CREDENTIALS", "sub/mine.json");
    let done = user.run(&["login", "-o", "json", "--email", "ada@example.com", "--password", "pw"]).ok();
    let want = json!({ "email": "ada@example.com", "expiresAt": null, "name": "Ada", "tenantId": "t", "tenant_id": "t",
        "apiUrl": fake.url() });
    assert_eq!(serde_json::from_str::<Value>(&done).unwrap(), want);
    assert_eq!(mode(&user.home.join("sub/mine.json")), 0o600);
    user.run(&["whoami"]).ok();
    let file = user.home.join("sub/mine.json");
    for (bits, fine) in [(0o640, false), (0o604, false), (0o660, false), (0o400, true), (0o600, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bits)).unwrap();
        let done = user.run(&["whoami"]);
        assert_eq!(done.code, if fine { 0 } else { 3 }, "{bits:o}: {done:?}");
        if !fine {
            assert!(done.err.contains("sub/mine.json can be read by others (login_exposed)"), "{done:?}");
            assert!(done.err.contains("next: chmod 600 sub/mine.json"), "{done:?}");
        }
    }
    let seen = fake.lines().iter().filter(|line| *line == "GET /auth/me").count();
    assert_eq!(seen, 3, "a token that others can read goes nowhere");
    let login = std::fs::read(&file).unwrap();
    for (bits, told) in [(0o644, true), (0o622, false)] {
        std::fs::write(&file, &login).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bits)).unwrap();
        let before = fake.seen().len();
        user.run(&["logout"]).ok();
        assert_eq!(
            fake.seen().len() > before,
            told,
            "{bits:o}: who may have read it can use it until it is ended"
        );
    }
    user.run(&["login", "--email", "ada@example.com", "--password", "pw"]).ok();
    std::fs::write(&file, "{").unwrap();
    let done = user.run(&["whoami"]);
    assert_eq!(done.code, 1);
    assert!(
        done.err.contains("sub/mine.json cannot be read") && done.err.contains("`lantern logout`"),
        "{done:?}"
    );
}

#[test]
fn a_wrong_password_and_nobody_to_ask() {
    let fake = Fake::start(login);
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    let done = user.run(&["login", "--email", "ada@example.com", "--password", "no"]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("(invalid_credentials)\nnext: check the email and the password"), "{done:?}");
    let done = user.run(&["login", "--email", "ada@example.com"]);
    assert_eq!(done.code, 2);
    assert!(
        done.err.contains("ask for the password\nnext: pass --password-stdin or --password,"),
        "{done:?}"
    );
    assert!(!user.home.join(".lantern").exists());
}

#[test]
fn a_password_may_come_from_standard_input() {
    let fake = Fake::start(login);
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    let args = ["login", "--email", "ada@example.com", "--password-stdin"];
    assert!(user.run_reading(&args, "pw\nand more\n").ok().starts_with("logged in to "));
    assert_eq!(user.run_reading(&args, "no\n").code, 3);
    let before = fake.seen().len();
    for (args, input, words) in [
        (&args[..], "\n", "standard input has no password"),
        (&args[..], "", "standard input has no password"),
        (&["login", "--password-stdin"], "pw\n", "--email"),
        (
            &["login", "--email", "a@b.c", "--password-stdin", "--password", "pw"],
            "pw\n",
            "cannot be used with",
        ),
    ] {
        let done = user.run_reading(args, input);
        assert!(done.code == 2 && done.err.contains(words), "{args:?}: {done:?}");
    }
    assert_eq!(fake.seen().len(), before, "nothing was sent");
}

#[test]
fn a_login_is_not_ended_for_who_brings_a_key() {
    let fake = Fake::start(login);
    let login = ["login", "--email", "ada@example.com", "--password", "pw"];
    let with_key = User::new().with("LANTERN_API_URL", &fake.url()).with("LANTERN_API_KEY", "hlx_live_x");
    // Nothing to be surprised about.
    assert_eq!(with_key.run(&["logout"]).ok(), "there was no saved login\n");
    with_key.run(&login).ok();
    let file = with_key.home.join(".lantern/credentials.json");
    let before = fake.seen().len();
    for (args, source, next) in [
        (&["logout"][..], "LANTERN_API_KEY", "LANTERN_API_KEY= lantern logout"),
        (&["logout", "--everywhere"], "LANTERN_API_KEY", "LANTERN_API_KEY= lantern logout"),
        (&["logout", "--api-key", "k"], "--api-key", "leave --api-key out"),
    ] {
        let done = with_key.run(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        let want =
            format!("error: {source} is used in place of the saved login, which was not ended (login_kept)");
        assert!(done.err.starts_with(&want) && done.err.contains(next), "{args:?}: {done:?}");
        assert!(file.exists() && fake.seen().len() == before, "{args:?}");
    }
    let as_told = with_key.with("LANTERN_API_KEY", "");
    assert_eq!(as_told.run(&["logout"]).ok(), format!("logged out of {} as ada@example.com\n", fake.url()));
    assert!(!file.exists());
}

#[test]
fn the_nearest_credential_wins() {
    let fake = Fake::start(login);
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    user.run(&["login", "--email", "ada@example.com", "--password", "pw"]).ok();
    let user = user.with("LANTERN_API_TOKEN", "token");
    user.run(&["whoami"]).ok();
    let user = user.with("LANTERN_API_KEY", "hlx_live_env");
    user.run(&["whoami"]).ok();
    user.run(&["whoami", "--api-key", "hlx_live_flag"]).ok();
    let user = user.with("LANTERN_API_KEY", "");
    user.run(&["whoami"]).ok();
    let sent: Vec<_> =
        fake.seen().iter().skip(1).map(|seen| seen.header("authorization").to_owned()).collect();
    assert_eq!(sent, ["Bearer token", "Bearer hlx_live_env", "Bearer hlx_live_flag", "Bearer token"]);
}

#[test]
fn who_is_logged_in_is_known_without_the_server() {
    let fake = Fake::start(login);
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    user.run(&["login", "--email", "ada@example.com", "--password", "pw"]).ok();
    drop(fake);
    let done = user.run(&["whoami", "-o", "json"]);
    assert!(done.err.contains("this is the saved login, which may be over"), "{done:?}");
    let want =
        json!({ "id": "u", "email": "ada@example.com", "name": "Ada", "tenantId": "t", "offline": true });
    assert_eq!(serde_json::from_str::<Value>(&done.ok()).unwrap(), want);
    assert!(user.run(&["whoami"]).ok().contains("ada@example.com"));
    let key = user.run(&["whoami", "--api-key", "hlx_live_x"]);
    assert_eq!(key.code, 5, "a key says nothing of who it is: {key:?}");
}

#[test]
fn a_tenant_that_is_named_is_the_one() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        "GET /auth/me" => Answer::Json(200, json!({ "tenantId": "t" })),
        _ => Answer::Json(200, json!([])),
    });
    let user = User::of(&fake);
    user.run(&["agents", "list"]).ok();
    assert_eq!(fake.lines(), ["GET /v1/agents?limit=50"], "nobody asked who we are");
    user.run(&["agents", "list", "--tenant-id", "t"]).ok();
    let user = user.with("LANTERN_TENANT_ID", "other");
    let done = user.run(&["agents", "list"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.err.contains("is one of the tenant t, not other (other_tenant)"), "{done:?}");
    assert_eq!(fake.lines().pop().unwrap(), "GET /auth/me", "and nothing was asked of it");
    user.run(&["agents", "list", "--tenant-id", "T"]).ok();
}
