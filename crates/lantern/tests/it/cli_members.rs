//! `lantern members`, `password`, `totp` and `logins`: what is sent, what is shown once, and what is asked for.

use serde_json::{Value, json};

use super::cli_fake::{Answer, Fake, RUN, Seen, User, refusal, unforeseen};

const SLIP: &str = "hlx_inv_AAAA";

fn server(seen: &Seen) -> Answer {
    let signed_in = || {
        let user = json!({ "id": "u", "tenantId": "t", "email": "ada@example.com", "name": "Ada", "role": "member" });
        json!({ "token": "secret-token", "user": user })
    };
    match seen.line.as_str() {
        "POST /v1/invitations" => {
            let invitation = json!({ "id": RUN, "email": seen.body["email"], "role": seen.body["role"],
                "expiresAt": "2026-09-28T14:13:20Z" });
            Answer::Json(201, json!({ "invitation": invitation, "token": SLIP }))
        }
        "POST /auth/invitations/accept" if seen.body["token"] == SLIP => Answer::Json(201, signed_in()),
        "POST /auth/invitations/accept" => refusal(401, "invalid_invitation", "the invitation is not good"),
        line if line.starts_with("GET /v1/members?") => {
            let ada = json!({ "id": RUN, "email": "ada@example.com", "name": "Ada", "role": "member",
                "createdAt": "2026-09-21T14:13:20Z", "lastSeenAt": "2026-09-22T14:13:20Z" });
            Answer::Json(200, json!([ada]))
        }
        line if line == format!("PATCH /v1/members/{RUN}") => {
            Answer::Json(200, json!({ "id": RUN, "email": "ada@example.com", "role": seen.body["role"] }))
        }
        line if line == format!("POST /v1/members/{RUN}/password-reset") => Answer::Json(
            201,
            json!({ "memberId": RUN, "token": "hlx_rst_AAAA", "expiresAt": "2026-09-28T14:13:20Z" }),
        ),
        "POST /auth/login" if seen.body["code"].is_null() => {
            refusal(401, "second_factor_required", "this account signs in with a code of its app, too")
        }
        "POST /auth/login" => Answer::Json(200, signed_in()),
        "POST /auth/totp" => Answer::Json(200, json!({ "secret": "MZXW6", "uri": "otpauth://totp/x" })),
        "POST /auth/totp/confirm" => {
            Answer::Json(200, json!({ "recoveryCodes": ["AAAA-BBBB", "CCCC-DDDD"] }))
        }
        "GET /auth/totp" => Answer::Json(200, json!({ "enabled": true, "recoveryCodesLeft": 2 })),
        line if line.starts_with("GET /auth/sign-ins?") => {
            let one = json!({ "id": RUN, "current": true, "createdAt": "2026-09-21T14:13:20Z",
                "lastUsedAt": "2026-09-22T14:13:20Z", "expiresAt": "2026-10-22T14:13:20Z", "source": "10.0.0.1" });
            Answer::Json(200, json!([one]))
        }
        line if line.starts_with("DELETE /v1/") || line.starts_with("DELETE /auth/sign-ins/") => {
            Answer::Json(204, Value::Null)
        }
        "POST /auth/password" | "POST /auth/password-reset" | "POST /auth/totp/disable" => {
            Answer::Json(204, Value::Null)
        }
        other => unforeseen(other),
    }
}

#[test]
fn an_invitation_is_shown_once_and_alone_and_accepted() {
    let fake = Fake::start(server);
    let user = User::of(&fake);
    let done = user.run(&["members", "invite", "ada@example.com", "--role", "admin"]);
    assert_eq!(done.out, format!("{SLIP}\n"), "a script takes it as it is");
    assert!(
        done.err.contains("hand it to ada@example.com now") && done.err.contains("members accept"),
        "{done:?}"
    );
    let want = json!({ "email": "ada@example.com", "role": "admin", "expiresInDays": 7 });
    assert_eq!(fake.seen()[0].body, want);
    let none = user.run(&["members", "invite", "ada@example.com", "--role", "service"]);
    assert!(none.code == 2 && fake.seen().len() == 1, "{none:?}");

    let newcomer = User::new().with("LANTERN_API_URL", &fake.url());
    let none = newcomer.run(&["members", "accept", SLIP]);
    assert!(none.code == 2 && none.err.contains("--password-stdin") && fake.seen().len() == 1, "{none:?}");
    let bad = newcomer.run_reading(&["members", "accept", "x", "--password-stdin"], "correct horse\n");
    assert!(bad.code == 3 && bad.err.contains("next: ask whoever gave it to you for a new one"), "{bad:?}");
    let args = ["members", "accept", SLIP, "--password-stdin", "--name", "Ada"];
    let words = newcomer.run_reading(&args, "correct horse\n").ok();
    assert!(words.starts_with("came in and logged in to "), "{words}");
    let last = fake.seen().pop().unwrap();
    assert_eq!(last.body, json!({ "token": SLIP, "password": "correct horse", "name": "Ada" }));
    assert_eq!(last.header("authorization"), "", "whoever comes has nothing to show yet");
    assert!(newcomer.home.join(".lantern/credentials.json").exists());
}

#[test]
fn members_are_listed_changed_and_removed() {
    let fake = Fake::start(server);
    let user = User::of(&fake);
    let list = user.run(&["members", "list"]).ok();
    let want = format!(
        "ID                                    EMAIL            NAME  ROLE    SEEN                  SINCE\n\
         {RUN}  ada@example.com  Ada   member  2026-09-22 14:13:20Z  2026-09-21 14:13:20Z\n"
    );
    assert_eq!(list, want);
    assert_eq!(user.run(&["members", "role", RUN, "admin"]).ok(), "ada@example.com is an admin now\n");
    let asked = user.run(&["members", "remove", RUN]);
    assert!(asked.code == 2 && asked.err.contains("pass --force"), "{asked:?}");
    user.run(&["members", "remove", RUN, "--force"]).ok();
    user.run(&["members", "logout", RUN]).ok();
    user.run(&["members", "remove-totp", RUN]).ok();
    user.run(&["members", "withdraw", RUN]).ok();
    let done = user.run(&["members", "reset-password", RUN]);
    assert!(done.out == "hlx_rst_AAAA\n" && done.err.contains("lantern password reset"), "{done:?}");
    let paths = ["", "/sign-ins", "/totp"].map(|end| format!("DELETE /v1/members/{RUN}{end}"));
    let lines = fake.lines();
    assert_eq!(lines[2..5], paths);
    assert_eq!(lines[5], format!("DELETE /v1/invitations/{RUN}"));
    let logins = user.run(&["logins", "list"]).ok();
    assert!(logins.contains("this  10.0.0.1"), "{logins}");
    user.run(&["logins", "end", RUN]).ok();
}

#[test]
fn passwords_come_by_standard_input_alone() {
    let fake = Fake::start(server);
    let user = User::of(&fake);
    let done = user.run_reading(&["password", "change"], "old horse\nnew horse battery\n").ok();
    assert_eq!(done, "the password is changed; your other logins have ended\n");
    let want = json!({ "currentPassword": "old horse", "newPassword": "new horse battery" });
    assert_eq!(fake.seen()[0].body, want);
    let one = user.run_reading(&["password", "change"], "old horse\n");
    assert!(one.code == 2 && one.err.contains("a line each") && fake.seen().len() == 1, "{one:?}");
    let args = ["password", "reset", "hlx_rst_AAAA", "--password-stdin"];
    user.run_reading(&args, "new horse battery\n").ok();
    let last = fake.seen().pop().unwrap();
    assert_eq!(last.body, json!({ "token": "hlx_rst_AAAA", "newPassword": "new horse battery" }));
    assert_eq!(last.header("authorization"), "");
}

#[test]
fn a_code_is_sent_when_it_is_asked_for() {
    let fake = Fake::start(server);
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    let args = ["login", "--email", "ada@example.com", "--password", "pw"];
    let done = user.run(&args);
    assert!(done.code == 3 && done.err.contains("(second_factor_required)\nnext: pass the code"), "{done:?}");
    user.run(&[&args[..], &["--code", "123456"]].concat()).ok();
    assert_eq!(fake.seen()[1].body["code"], "123456");
    let begun = user.run_reading(&["totp", "enable", "--password-stdin"], "pw\n");
    assert_eq!(begun.out, "secret   MZXW6\naddress  otpauth://totp/x\n");
    assert!(begun.err.contains("lantern totp confirm CODE"), "{begun:?}");
    assert_eq!(user.run(&["totp", "confirm", "123456"]).ok(), "AAAA-BBBB\nCCCC-DDDD\n");
    assert_eq!(user.run(&["totp", "show"]).ok(), "enabled              yes\nrecovery codes left  2\n");
    user.run_reading(&["totp", "disable", "--password-stdin"], "pw\n").ok();
    assert_eq!(fake.seen().pop().unwrap().body, json!({ "password": "pw" }));
}
