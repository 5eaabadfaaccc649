//! What the client promises: checked addresses, no redirects, deadlines, limits, and the truth about having acted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use lantern_net::http::{Awaited, Client, Deadlines, HeaderMap, Method, Request, Response, header};
use lantern_net::{Error, Reach, Why};
use lantern_types::{Acted, Dur};

use crate::server::{Then, closed_port, misbehave, serve};

const PATIENT: Deadlines = Deadlines::total(Dur::from_secs(60));
const SHORT: Dur = Dur::from_millis(50);

async fn fetch(reach: Reach, url: String, deadlines: Deadlines) -> Result<Response, Error> {
    Client::new().unwrap().send(reach, Request::get(url), deadlines).await
}

/// Sends and reads the whole body.
async fn whole(url: String, deadlines: Deadlines, limit: usize) -> Result<Bytes, Error> {
    fetch(Reach::Private, url, deadlines).await?.bytes(limit).await
}

#[tokio::test]
async fn a_request_arrives_as_it_was_given() {
    let echo = |headers: HeaderMap, body: Bytes| async move {
        let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        format!("{:?} {:?} {body:?}", header("x-one"), header("user-agent"))
    };
    let server = serve(Router::new().route("/echo", post(echo))).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-one", "1".parse().unwrap());
    let body = Bytes::from_static(b"hello");
    let request = Request { method: Method::POST, url: server.url("/echo"), headers, body };
    let reply = Client::new().unwrap().send(Reach::Private, request, PATIENT).await.unwrap();
    assert_eq!(reply.status().as_u16(), 200);
    assert_eq!(reply.header(&header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
    let want = concat!("Some(\"1\") Some(\"lantern/", env!("CARGO_PKG_VERSION"), "\") b\"hello\"");
    assert_eq!(reply.bytes(1_000).await.unwrap(), want);
}

#[tokio::test]
async fn a_tenant_reaches_no_private_address_by_number_or_by_name() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    let hit = get(move || async move { counted.fetch_add(1, Ordering::SeqCst).to_string() });
    let server = serve(Router::new().route("/", hit)).await;
    let port = server.port;
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "0x7f.1", "[::ffff:127.0.0.1]", "user:pw@localhost"] {
        let error = fetch(Reach::Public, format!("http://{host}:{port}/"), PATIENT).await.unwrap_err();
        assert!(
            matches!(&error, Error::Denied(denial) if denial.code == "egress_denied"),
            "{host}: {error:?}"
        );
        assert_eq!(error.acted(), Acted::No);
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
    // The same name and port are fine for the operator, so it was the rule that refused.
    assert_eq!(whole(format!("http://localhost:{port}/"), PATIENT, 10).await.unwrap(), "0");
}

#[tokio::test]
async fn what_the_operator_has_opened_is_reached_by_number_and_by_name() {
    let server = serve(Router::new().route("/", get(async || "open"))).await;
    let opened = ["127.0.0.1", "169.254.0.0/16"].map(|text| text.parse().unwrap());
    let client = Client::opening(Arc::new(opened)).unwrap();
    for (host, open) in [
        ("127.0.0.1", true),
        ("localhost", true),
        ("[::ffff:127.0.0.1]", true),
        ("127.0.0.2", false),
        ("[::1]", false),
        ("169.254.169.254", false),
    ] {
        let request = Request::get(format!("http://{host}:{}/", server.port));
        match client.send(Reach::Public, request, PATIENT).await {
            Ok(reply) => assert!(open && reply.bytes(10).await.unwrap() == "open", "{host}"),
            Err(error) => assert!(!open && matches!(error, Error::Denied(_)), "{host}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_reaches_instance_metadata() {
    let error = fetch(Reach::Private, "http://169.254.169.254/latest".to_owned(), PATIENT).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn redirects_are_shown_and_not_followed() {
    let server = misbehave(
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest?a=b\r\ncontent-length: 0\r\n\r\n",
        Then::Close,
    )
    .await;
    let reply = fetch(Reach::Private, server.url("/a/b"), PATIENT).await.unwrap();
    assert_eq!(reply.status().as_u16(), 302);
    let next = reply.redirect().unwrap();
    assert_eq!(next, "http://169.254.169.254/latest?a=b");
    assert!(matches!(fetch(Reach::Private, next, PATIENT).await, Err(Error::Denied(_))));

    let relative =
        misbehave(b"HTTP/1.1 307 T\r\nlocation: ../c\r\ncontent-length: 0\r\n\r\n", Then::Close).await;
    let reply = fetch(Reach::Private, relative.url("/a/b"), PATIENT).await.unwrap();
    assert_eq!(reply.redirect(), Some(relative.url("/c")));

    let created =
        misbehave(b"HTTP/1.1 201 C\r\nlocation: /c\r\ncontent-length: 0\r\n\r\n", Then::Close).await;
    assert_eq!(fetch(Reach::Private, created.url("/"), PATIENT).await.unwrap().redirect(), None);
}

#[tokio::test]
async fn a_refused_connection_certainly_did_not_act() {
    let port = closed_port().await;
    let error = whole(format!("http://127.0.0.1:{port}/"), PATIENT, 10).await.unwrap_err();
    let named = format!("127.0.0.1:{port}");
    assert!(matches!(&error, Error::Unreachable { host, .. } if *host == named), "{error:?}");
    assert_eq!(error.acted(), Acted::No);
}

#[tokio::test]
async fn a_server_without_tls_is_unreachable_over_https() {
    let server = misbehave(b"HTTP/1.1 400 No TLS here\r\n\r\n", Then::Close).await;
    let url = server.url("/").replace("http:", "https:");
    let error = whole(url, PATIENT, 10).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { why: Why::Tls, .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_says_why() {
    let closed = format!("http://127.0.0.1:{}/", closed_port().await);
    for (url, want) in [(closed, Why::Refused), ("http://nowhere.invalid/".to_owned(), Why::Name)] {
        let error = whole(url, PATIENT, 10).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { why, .. } if why == want), "{error:?}");
    }
}

#[tokio::test]
async fn every_wait_has_its_deadline() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
    for (said, deadlines, want) in [
        (&b""[..], Deadlines { first_byte: SHORT, ..PATIENT }, Awaited::FirstByte),
        (&b""[..], Deadlines { total: SHORT, ..PATIENT }, Awaited::FirstByte),
        (HEAD, Deadlines { idle: SHORT, ..PATIENT }, Awaited::NextByte),
    ] {
        let server = misbehave(said, Then::Hang).await;
        let error = whole(server.url("/"), deadlines, 10).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { awaited, .. } if awaited == want), "{error:?}");
        assert_eq!(error.acted(), Acted::Unknown);
    }
}

#[tokio::test]
async fn the_total_deadline_holds_for_a_body_that_keeps_coming() {
    let drip = || async {
        let one = futures_util::stream::unfold((), |()| async {
            tokio::task::yield_now().await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        axum::body::Body::from_stream(one)
    };
    let server = serve(Router::new().route("/", get(drip))).await;
    let deadlines = Deadlines { total: Dur::from_millis(500), ..PATIENT };
    // Without the deadline this would never return. On a very slow machine it may pass before the first byte.
    let error = whole(server.url("/"), deadlines, usize::MAX).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == deadlines.total), "{error:?}");
}

#[tokio::test]
async fn half_a_reply_is_an_error() {
    for (said, then) in [
        (&b""[..], Then::Close),
        (&b""[..], Then::Reset),
        (&b"not http at all\r\n\r\n"[..], Then::Close),
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"[..], Then::Close),
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"[..], Then::Reset),
        (&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"[..], Then::Close),
    ] {
        let server = misbehave(said, then).await;
        let error = whole(server.url("/"), PATIENT, 100).await.unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
        assert_eq!(error.acted(), Acted::Unknown);
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = serve(Router::new().route("/", get(|| async { "x".repeat(1_000) }))).await;
    assert_eq!(whole(server.url("/"), PATIENT, 1_000).await.unwrap().len(), 1_000);
    assert_eq!(whole(server.url("/"), PATIENT, 999).await, Err(Error::TooLarge { limit: 999 }));
    let mut reply = fetch(Reach::Private, server.url("/"), PATIENT).await.unwrap();
    let (start, more) = reply.up_to(10).await.unwrap();
    assert_eq!((start.as_ref(), more), (&b"xxxxxxxxxx"[..], true));
}
