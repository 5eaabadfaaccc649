//! `lantern login --sso`: logging in by an issuer, in a browser on the same machine.
//!
//! Invariant: what comes back to the port here is worth nothing without the verifier, which is sent to the server alone and shown
//! nowhere; and only what repeats our own handle is looked at, so no page that happens to ask this port ends or changes a login. The
//! port is of this machine alone, and is open for one login. What a browser is answered repeats nothing of what it asked.

use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lantern_net::{RealClock, RealIds, Signals};
use lantern_types::edge::{Clock as _, IdGen as _};
use lantern_types::{Digest, Dur};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::api::{Api, Base, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text};
use crate::cli::login::ask_code;
use crate::server;

/// As long as the server waits for somebody at an issuer.
const WAIT_MAX: Dur = Dur::from_secs(600);
/// As long as a browser may take to say what it wants.
const HEAD_WAIT_MAX: Dur = Dur::from_secs(5);
const HEAD_BYTES_MAX: usize = 8 << 10;

const DONE: &str = "You are logged in at the terminal. This page can be closed.";
const FAILED: &str = "You are not logged in; the terminal says why. This page can be closed.";

/// What came back.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Code(String),
    Refused(String),
}

/// The server's issuers; none of an older one, which knows none.
pub(crate) async fn choices(api: &Api) -> Result<Vec<Value>, Failure> {
    match api.fetch(Call::get("/auth/oauth").public()).await {
        Ok(Value::Array(list)) => Ok(list),
        Ok(_) => Err(api.stranger()),
        Err(failure) if failure.exit == Exit::NotFound => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// Logs in by the issuer of this name, or by the only one, and answers what the server does.
pub(crate) async fn show(
    console: &Console,
    api: &Api,
    name: &str,
    totp: Option<&str>,
) -> Result<Value, Failure> {
    let choices = choices(api).await?;
    let choice = chosen(&choices, name)?;
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot listen on 127.0.0.1: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let ids = RealIds::new(Arc::new(RealClock::new()));
    let random = || {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let (verifier, handle) = (random(), random());
    let challenge = URL_SAFE_NO_PAD.encode(Digest::of(verifier.as_bytes()).bytes());
    let public = Base::parse(text(choice, "url")).map_err(|_| api.stranger())?;
    let path = format!("/auth/oauth/{}/terminal", crate::cli::api::encode(text(choice, "name")));
    let url = public.join(&format!("{path}?port={port}&challenge={challenge}&handle={handle}"));
    console.note(&format!("log in with a browser on this machine, at {url}"));
    if console.interactive() && server::screen() {
        server::open(&url);
    }
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    let came = tokio::select! {
        biased;
        _ = signals.recv() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
        came = awaited(&listener, &handle) => came?,
        () = RealClock::new().sleep(WAIT_MAX) => {
            let minutes = WAIT_MAX.millis() / 60_000;
            return Err(Failure::new(Exit::Failed, format!("nobody logged in within {minutes} minutes")));
        }
    };
    match came {
        Came::Refused(code) => Err(refused(&code)),
        Came::Code(code) => match exchange(api, &code, &verifier, totp).await {
            Err(failure)
                if failure.code.as_deref() == Some("second_factor_required") && console.interactive() =>
            {
                exchange(api, &code, &verifier, Some(&ask_code()?)).await
            }
            reply => reply,
        },
    }
}

async fn exchange(api: &Api, code: &str, verifier: &str, totp: Option<&str>) -> Result<Value, Failure> {
    let mut body = json!({ "code": code, "verifier": verifier });
    if let (Some(totp), Some(fields)) = (totp, body.as_object_mut()) {
        fields.insert("totp".to_owned(), totp.into());
    }
    api.fetch(Call::post("/auth/oauth/exchange", body).public()).await
}

/// The issuer of this name; without a name the only one.
fn chosen<'a>(choices: &'a [Value], name: &str) -> Result<&'a Value, Failure> {
    let names = || choices.iter().map(|choice| line(text(choice, "name"))).collect::<Vec<_>>().join(", ");
    let found = match choices {
        [] => {
            let hint = "whoever runs it configures one: docs/guide/single-sign-on.md";
            return Err(Failure::usage("nobody can log in to this server by an issuer").hint(hint));
        }
        [only] if name.is_empty() => Some(only),
        _ => choices.iter().find(|choice| text(choice, "name") == name),
    };
    found.ok_or_else(|| {
        let said =
            if name.is_empty() { "there are several".to_owned() } else { format!("there is no {name:?}") };
        Failure::usage(said).hint(format!("say --sso and one of {}", names()))
    })
}

/// What comes back with our handle; everything else is turned away.
async fn awaited(listener: &TcpListener, handle: &str) -> Result<Came, Failure> {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if let Ok(Some(came)) = tokio::time::timeout(HEAD_WAIT_MAX.std(), answer(stream, handle)).await {
            return Ok(came);
        }
    }
}

/// Answers one request, and says what it brought.
async fn answer(mut stream: TcpStream, handle: &str) -> Option<Came> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1_024];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(part.get(..read)?);
        if head.len() > HEAD_BYTES_MAX {
            return None;
        }
    }
    let came = String::from_utf8(head).ok().and_then(|head| brought(&head, handle));
    let (status, words) = match &came {
        Some(Came::Code(_)) => ("200 OK", DONE),
        Some(Came::Refused(_)) => ("200 OK", FAILED),
        None => ("404 Not Found", "There is nothing here."),
    };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Lantern</title><p>{words}</p></html>\n"
    );
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         content-security-policy: default-src 'none'; frame-ancestors 'none'\r\nreferrer-policy: no-referrer\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    // Whoever went away has told us all the same.
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
    came
}

/// What a request brings that repeats our handle.
fn brought(head: &str, handle: &str) -> Option<Came> {
    let target = head.lines().next()?.strip_prefix("GET /?")?.split(' ').next()?;
    let pair = |name: &str| {
        let mut pairs = target.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    // Neither a code nor an error has anything that an address escapes.
    let plain = |text: &&str| {
        text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    pair("state").filter(|state| *state == handle)?;
    let code = pair("code").filter(plain).map(|code| Came::Code(code.to_owned()));
    code.or_else(|| pair("error").filter(plain).map(|code| Came::Refused(code.to_owned())))
}

/// What a code that came in place of one for us means.
fn refused(code: &str) -> Failure {
    let (words, hint) = match code {
        "sso_denied" => ("somebody said no at the issuer", "log in anew, and say yes there"),
        "sso_email_unverified" => {
            ("the issuer knows no verified address of yours", "verify your address there, and log in anew")
        }
        "sso_unavailable" => {
            ("the issuer did not answer the server", "try it again in a while; `lantern doctor` asks it")
        }
        _ => {
            ("the issuer proved nothing that the server believes", "log in anew; the server's log says more")
        }
    };
    Failure::new(Exit::Forbidden, words).code(code).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_repeats_the_handle_is_looked_at() {
        let code = |text: &str| Some(Came::Code(text.to_owned()));
        for (target, want) in [
            ("GET /?code=hlx_sso_1&state=mine HTTP/1.1", code("hlx_sso_1")),
            ("GET /?error=sso_denied&state=mine HTTP/1.1", Some(Came::Refused("sso_denied".to_owned()))),
            ("GET /?code=hlx_sso_1&state=theirs HTTP/1.1", None),
            ("GET /?code=hlx_sso_1 HTTP/1.1", None),
            ("GET /?state=mine HTTP/1.1", None),
            ("GET /?code=%3Cscript%3E&state=mine HTTP/1.1", None),
            ("GET /favicon.ico HTTP/1.1", None),
            ("POST /?code=hlx_sso_1&state=mine HTTP/1.1", None),
            ("GET http://evil.example/?code=a&state=mine HTTP/1.1", None),
            ("", None),
        ] {
            assert_eq!(brought(&format!("{target}\r\nHost: 127.0.0.1\r\n\r\n"), "mine"), want, "{target}");
        }
    }

    #[test]
    fn an_issuer_is_named_where_there_is_a_choice() {
        let [one, other] = ["google", "work"].map(|name| json!({ "name": name }));
        assert!(chosen(&[], "").is_err());
        assert_eq!(chosen(std::slice::from_ref(&one), "").unwrap(), &one);
        assert!(chosen(std::slice::from_ref(&one), "work").is_err());
        let both = [one, other.clone()];
        assert_eq!(chosen(&both, "work").unwrap(), &other);
        let hint = chosen(&both, "").unwrap_err().hint.unwrap();
        assert_eq!(hint, "say --sso and one of google, work");
    }
}
