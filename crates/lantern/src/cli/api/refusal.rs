//! Refusals and missing answers, as failures that say what to do next.
//!
//! Invariant: the exit code depends on the status and the code alone, never on the words of a message.

use lantern_net::http::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::cli::api::{Auth, Base};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text};
use crate::env;

/// More of an error page than this helps nobody.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Reads an answer whose status is not a success.
pub(crate) async fn read(mut response: Response, auth: &Auth) -> Failure {
    let status = response.status();
    let wait = response.header(&header::RETRY_AFTER).and_then(|value| value.parse::<u64>().ok());
    let body = response.up_to(BODY_BYTES_MAX).await.map(|(body, _)| body).unwrap_or_default();
    explain(status, wait, &body, auth)
}

/// An error that came inside an event stream, where no status is.
pub(crate) fn broke_off(code: &str, words: &str, auth: &Auth) -> Failure {
    let status = if code == "unauthorized" { StatusCode::UNAUTHORIZED } else { StatusCode::CONFLICT };
    let words = if words.is_empty() { "the event stream ended with an error" } else { words };
    explain(status, None, json!({ "code": code, "error": words }).to_string().as_bytes(), auth)
}

/// No answer at all.
pub(crate) fn unreached(base: &Base, error: &lantern_net::Error) -> Failure {
    use lantern_net::Error;
    let at = base.as_str();
    match error {
        Error::Unreachable { reason, .. } => {
            passing(format!("cannot reach {at}: {reason}")).hint(start(base))
        }
        Error::Timeout { awaited, after, .. } => {
            passing(format!("{at} sent no {awaited} within {} s", after.millis() / 1_000))
                .hint("the server may be busy; look at its log")
        }
        Error::Interrupted { reason, .. } => passing(format!("the connection to {at} broke: {reason}"))
            .hint("the server may have acted on the request all the same: look before you repeat it"),
        Error::Denied(denial) => Failure::new(Exit::Unreachable, denial.to_string())
            .hint(format!("name a host that can be connected to in --api-url or {}", env::API_URL)),
        Error::Invalid(_) | Error::TooLarge { .. } | Error::Setup(_) => {
            Failure::new(Exit::Failed, error.to_string())
                .hint(format!("is this a Lantern server? check --api-url or {}", env::API_URL))
        }
    }
}

fn passing(message: String) -> Failure {
    Failure { passing: true, ..Failure::new(Exit::Unreachable, message) }
}

fn start(base: &Base) -> String {
    if base.is_loopback() {
        "is the server running? start it with `lantern dev`".to_owned()
    } else {
        format!("check --api-url or {}, and that the server is running", env::API_URL)
    }
}

fn explain(status: StatusCode, wait: Option<u64>, body: &[u8], auth: &Auth) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = Some(text(&body, "code")).filter(|code| !code.is_empty());
    let mut message = line(text(&body, "error"));
    if message.is_empty() {
        message = format!("the server answered {status}");
    }
    let exit = match status.as_u16() {
        400 | 413..=415 | 422 => Exit::Usage,
        401 | 403 => Exit::Forbidden,
        404 => Exit::NotFound,
        _ => Exit::Failed,
    };
    let mut details = details(&body);
    // The server's sentence goes on with what the details say line by line.
    if let Some(end) = details.first().and_then(|first| message.find(&format!(": {first}"))) {
        message.truncate(end);
    }
    // One that has said all is not said again.
    if let [only] = details.as_slice()
        && line(only) == message
    {
        details.clear();
    }
    let mut failure = Failure::new(exit, message);
    failure.code = code.map(str::to_owned);
    failure.details = details;
    failure.passing = matches!(status.as_u16(), 408 | 429 | 500..);
    failure.hint = advice(status, code.unwrap_or_default(), wait, &body, auth);
    failure
}

/// One line for each field that is wrong.
fn details(body: &Value) -> Vec<String> {
    let fields = body.get("fields").and_then(Value::as_array).into_iter().flatten();
    fields.map(|field| format!("{}: {}", text(field, "path"), text(field, "message"))).collect()
}

fn advice(status: StatusCode, code: &str, wait: Option<u64>, body: &Value, auth: &Auth) -> Option<String> {
    let scope = text(body, "required_scope");
    let known = match code {
        "agent_not_found" => Some("see what there is with `lantern agents list`".to_owned()),
        "agent_version_not_found" => {
            Some("see what there is with `lantern agents versions`".to_owned())
        }
        "run_not_found" => Some("see what there is with `lantern runs list`".to_owned()),
        "session_not_found" => Some("see what there is with `lantern sessions list`".to_owned()),
        "session_stopped" => Some("begin another one with `lantern chat AGENT`".to_owned()),
        "session_busy" => Some("wait for the answer, or cancel it with `lantern runs cancel RUN`".to_owned()),
        "attachment_unsupported" => Some("turn it into text or a png first".to_owned()),
        "member_not_found" => Some("see the ids with `lantern members list`".to_owned()),
        "invitation_not_found" => Some("see those that wait with `lantern members invitations`".to_owned()),
        "sign_in_not_found" => Some("see your own with `lantern logins list`".to_owned()),
        "invalid_invitation" | "invalid_reset_token" => Some("ask whoever gave it to you for a new one".to_owned()),
        "second_factor_required" => Some("pass the code of your authenticator app with --code".to_owned()),
        "wrong_code" => Some("wait for the app's next code, or take a recovery code".to_owned()),
        "role_above" => Some("ask somebody of a higher role".to_owned()),
        "last_owner" => Some("make somebody else an owner with `lantern members role ID owner`".to_owned()),
        "own_account" => Some("change your own with `lantern password change` and `lantern totp disable`".to_owned()),
        "approval_not_found" => Some("see what waits with `lantern approvals list`".to_owned()),
        "agent_archived" => Some("bring it back with `lantern agents restore`, or make it anew with `lantern agents create`".to_owned()),
        "run_not_finished" | "run_ending" if body.get("ending").is_some() => {
            Some("it ends by itself; see how far it is with `lantern runs get`".to_owned())
        }
        "run_not_finished" => {
            Some("wait for its end with `lantern logs -f`, or end it with `lantern runs cancel`".to_owned())
        }
        "run_finished" => {
            Some("a run that is over does not change; see it with `lantern runs get`".to_owned())
        }
        "run_unreadable" => Some(
            "look for the run in the server's log, which says why; where nothing mends it, `lantern runs cancel` gives it up"
                .to_owned(),
        ),
        "route_not_found" => {
            Some(format!("is this a Lantern server of this version? check {}", env::API_URL))
        }
        "invalid_manifest" => {
            Some("correct the file or the flags; `lantern agents create --help` lists these".to_owned())
        }
        "invalid_body" | "invalid_query" | "invalid_header" | "invalid_json" | "invalid_utf8" => {
            Some("correct what is named above; --help after the command says what it takes".to_owned())
        }
        "invalid_input" | "input_schema_violated" => {
            Some("see what the agent takes: inputSchema in `lantern agents get NAME -o json`".to_owned())
        }
        "idempotency_mismatch" => Some(
            "choose another --idempotency-key for another request, or repeat the first one word for word"
                .to_owned(),
        ),
        "step_not_found" | "step_not_waiting" | "step_not_in_doubt" => {
            Some("see the run's steps with `lantern logs RUN`".to_owned())
        }
        "provider_not_found" | "model_not_configured" | "no_llm" => {
            Some("see what there is with `lantern providers list`".to_owned())
        }
        "secret_not_found" => Some("see what there is with `lantern secrets list`".to_owned()),
        "secrets_full" => Some("delete what nobody uses with `lantern secrets delete`".to_owned()),
        "api_key_not_found" => Some("see what there is with `lantern keys list`".to_owned()),
        "conflict" | "version_mismatch" => {
            Some("somebody else was first: look at it again, then repeat the command".to_owned())
        }
        "scope_missing" if !scope.is_empty() => Some(format!("use an API key with the scope `{scope}`")),
        _ => None,
    };
    known.or_else(|| match status.as_u16() {
        401 => Some(match auth {
            Auth::None(_) => "check the email and the password".to_owned(),
            Auth::Login(_) => "the login has expired: run `lantern login`".to_owned(),
            Auth::Given(source, _) => format!("the server does not accept {source}: check it, or unset it"),
        }),
        403 => Some("ask an admin of the tenant".to_owned()),
        429 => Some(match wait {
            Some(seconds) => format!("try again in {seconds} s"),
            None => "try again later".to_owned(),
        }),
        500.. => Some(match text(body, "requestId") {
            "" => "look at the server's log".to_owned(),
            id => format!("look at the server's log for the request {}", line(id)),
        }),
        _ if code.is_empty() => None,
        _ => Some(format!("see docs/errors/{}.md", line(code))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::{Dur, Secret};

    fn explained(status: u16, body: &Value) -> Failure {
        let auth = Auth::Login(Secret::new("t".to_owned()));
        explain(StatusCode::from_u16(status).unwrap(), Some(7), body.to_string().as_bytes(), &auth)
    }

    #[test]
    fn statuses_become_exit_codes_and_advice() {
        for (status, code, exit, advice) in [
            (400, "invalid_body", Exit::Usage, "--help"),
            (400, "invalid_manifest", Exit::Usage, "`lantern agents create --help`"),
            (400, "invalid_query", Exit::Usage, "--help"),
            (400, "input_schema_violated", Exit::Usage, "`lantern agents get NAME -o json`"),
            (413, "input_too_large", Exit::Usage, "docs/errors/input_too_large.md"),
            (409, "idempotency_mismatch", Exit::Failed, "--idempotency-key"),
            (409, "step_not_waiting", Exit::Failed, "`lantern logs RUN`"),
            (401, "unauthorized", Exit::Forbidden, "run `lantern login`"),
            (403, "role_missing", Exit::Forbidden, "ask an admin"),
            (403, "role_above", Exit::Forbidden, "a higher role"),
            (401, "invalid_invitation", Exit::Forbidden, "for a new one"),
            (401, "second_factor_required", Exit::Forbidden, "--code"),
            (404, "run_not_found", Exit::NotFound, "`lantern runs list`"),
            (404, "agent_not_found", Exit::NotFound, "`lantern agents list`"),
            (409, "run_not_finished", Exit::Failed, "`lantern runs cancel`"),
            (429, "rate_limited", Exit::Failed, "try again in 7 s"),
            (503, "unavailable", Exit::Failed, "request r-1"),
        ] {
            let failure = explained(status, &json!({ "error": "no", "code": code, "requestId": "r-1" }));
            assert_eq!((failure.exit, failure.message.as_str()), (exit, "no"), "{status}");
            assert!(failure.hint.unwrap_or_default().contains(advice), "{status}");
            assert_eq!(failure.passing, status >= 429, "{status}");
        }
    }

    #[test]
    fn the_error_of_a_stream_has_an_exit_code_and_advice() {
        let auth = Auth::Login(Secret::new("t".to_owned()));
        for (code, words, exit, message, advice) in [
            ("unauthorized", "over", Exit::Forbidden, "over", "run `lantern login`"),
            ("run_unreadable", "no", Exit::Failed, "no", "`lantern runs cancel`"),
            ("of_tomorrow", "no", Exit::Failed, "no", "docs/errors/of_tomorrow.md"),
            ("", "", Exit::Failed, "the event stream ended with an error", "`lantern doctor`"),
        ] {
            let failure = broke_off(code, words, &auth);
            assert_eq!((failure.exit, failure.message.as_str()), (exit, message), "{code}");
            assert!(failure.next().contains(advice) && !failure.passing, "{code}: {}", failure.next());
        }
    }

    #[test]
    fn wrong_fields_and_scopes_are_named() {
        let body = json!({ "error": "no", "code": "scope_missing", "required_scope": "write",
            "fields": [{ "path": "tools[0]", "message": "no such tool" }] });
        let failure = explained(403, &body);
        assert_eq!(failure.details, ["tools[0]: no such tool"]);
        assert_eq!(failure.hint.unwrap(), "use an API key with the scope `write`");
        let twice = json!({ "error": "invalid manifest: a: bad; b: worse", "code": "invalid_manifest",
            "fields": [{ "path": "a", "message": "bad" }, { "path": "b", "message": "worse" }] });
        let failure = explained(400, &twice);
        assert_eq!((failure.message.as_str(), failure.details.len()), ("invalid manifest", 2));
        let same = json!({ "error": "status: no such", "code": "invalid_query",
            "fields": [{ "path": "status", "message": "no such" }] });
        let failure = explained(400, &same);
        assert_eq!((failure.message.as_str(), failure.details.len()), ("status: no such", 0));
    }

    #[test]
    fn pages_that_are_no_json_are_survived() {
        let failure = explain(StatusCode::BAD_GATEWAY, None, b"<html>", &Auth::None(None));
        assert_eq!(failure.message, "the server answered 502 Bad Gateway");
    }

    #[test]
    fn a_local_server_that_is_not_there_can_be_started() {
        let why = lantern_net::Why::Refused;
        let error = lantern_net::Error::Unreachable { host: "h".into(), reason: "refused".into(), why };
        let hint = |url: &str| unreached(&Base::parse(url).unwrap(), &error).hint.unwrap();
        assert!(hint("http://localhost:1").contains("lantern dev"));
        assert!(hint("http://lantern.example.com").contains("LANTERN_API_URL"));
        let slow = lantern_net::Error::Timeout {
            host: "h".into(),
            awaited: lantern_net::http::Awaited::FirstByte,
            after: Dur::from_secs(20),
        };
        let failure = unreached(&Base::parse("http://localhost:1").unwrap(), &slow);
        assert_eq!(failure.message, "http://localhost:1 sent no reply within 20 s");
        assert!(failure.passing);
    }
}
