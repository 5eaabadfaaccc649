//! One connection from a box: a request that is passed on, or a tunnel.
//!
//! Invariant: a connection carries one request or one tunnel. Of a request exactly its own body is passed on, so no second one hides
//! behind it; of a tunnel nothing is before it has said in TLS for which name it is.

use lantern_net::dial;
use lantern_policy::workload::egress::{Asked, Host, How, Reason, tunnelled};
use lantern_policy::workload::hello::{self, HELLO_MAX};
use lantern_types::Dur;
use lantern_types::edge::Clock;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::head::{self, HEAD_MAX, Head, Read, Target};
use super::pass::pass;
use super::{Egress, Said, Told, local, models};

/// How long a program may take to say what it wants, and for which name.
const SAYING_MAX: Dur = Dur::from_secs(10);
/// What is still read of a connection that was answered with a no, so that the answer arrives.
const LINGER: Dur = Dur::from_millis(500);

/// By what name programs know us.
const OURSELVES: &str = "lantern.local";

/// Serves one connection to its end.
pub(super) async fn connection(egress: &Egress, mut client: TcpStream) {
    let mut read = Vec::new();
    let head = until(egress, &mut client, &mut read, HEAD_MAX, |bytes| match head::read(bytes) {
        Read::Partial => None,
        Read::Invalid => Some(None),
        Read::Whole(head, length) => Some(Some((head, length))),
    });
    let (head, length) = match head.await {
        // It said nothing, and wants nothing.
        None if read.is_empty() => return,
        Some(Some(whole)) => whole,
        None | Some(None) => return no(egress, client, ("?", "?", 0), Reason::RequestInvalid).await,
    };
    read.drain(..length);
    match &head.target {
        Target::Tunnel { host, port } => tunnel(egress, client, (host, *port), read).await,
        Target::Away { host, port: 80, path } if host.eq_ignore_ascii_case(OURSELVES) => {
            here(egress, client, (&head, path), read).await;
        }
        Target::Away { host, port, path } => away(egress, client, (host, *port, path), &head, &read).await,
        Target::Here { path } => here(egress, client, (&head, path), read).await,
    }
}

/// Reads on until `done` says something. `None` when the time or the connection was over before.
async fn until<T>(
    egress: &Egress,
    client: &mut TcpStream,
    read: &mut Vec<u8>,
    most: usize,
    mut done: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let late = egress.clock.sleep(SAYING_MAX);
    tokio::pin!(late);
    let mut buffer = [0; 4_096];
    loop {
        if let Some(done) = done(read) {
            return Some(done);
        }
        if read.len() >= most {
            return None;
        }
        let length = tokio::select! {
            biased;
            () = &mut late => return None,
            length = client.read(&mut buffer) => length.ok().filter(|length| *length > 0)?,
        };
        read.extend_from_slice(buffer.get(..length)?);
    }
}

/// `CONNECT`: a tunnel that carries TLS for the name that it was asked for.
async fn tunnel(egress: &Egress, mut client: TcpStream, (host, port): (&str, u16), mut read: Vec<u8>) {
    const METHOD: &str = "CONNECT";
    let asked = (METHOD, host, port);
    let (allowed, addresses) = match egress.decide(Asked { host, port, how: How::Tunnel }).await {
        Ok(decided) => decided,
        Err(why) => return no(egress, client, asked, why).await,
    };
    let Ok(mut server) = dial::dial(&egress.outside.reach, &addresses, port).await else {
        return no(egress, client, asked, Reason::Unreachable).await;
    };
    if client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_err() {
        return;
    }
    let judge = |bytes: &[u8]| tunnelled(&allowed.host, &hello::read(bytes));
    let verdict = until(egress, &mut client, &mut read, HELLO_MAX, judge).await;
    // One that says nothing is not refused: it has asked for nothing. One that stops in the middle is.
    let why = match verdict {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(why),
        None if read.is_empty() => return,
        None => Some(Reason::NotTls),
    };
    let verdict = why.map_or_else(|| peer(&server), Err);
    let allowed_by = allowed.rule;
    if !egress.tell(Said::new(METHOD, (host, port), verdict)).await || verdict.is_err() {
        return;
    }
    if server.write_all(&read).await.is_err() {
        return;
    }
    let Some(pace) = egress.paces.get(allowed_by) else { return };
    egress.sent.fetch_add(read.len() as u64, std::sync::atomic::Ordering::Relaxed);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let with = (pace, &*egress.clock);
    tokio::join!(
        pass((&mut from_client, &mut to_server), None, with, &egress.sent),
        pass((&mut from_server, &mut to_client), None, with, &egress.received),
    );
}

/// A question to ourselves.
async fn here(egress: &Egress, mut client: TcpStream, (head, path): (&Head, &str), mut read: Vec<u8>) {
    let Some(local) = &egress.local else {
        return answer(egress, client, "404 Not Found", None, "there is nothing here").await;
    };
    let is_for_a_model = models::is_for_a_model(path);
    let most = if is_for_a_model { models::BODY_MAX } else { local::BODY_MAX };
    let length = usize::try_from(head.length.min(most + 1)).unwrap_or_default();
    if head.length > most {
        return answer(egress, client, "413 Content Too Large", None, "this is too much to ask").await;
    }
    // Kept to the end of the answer: what was asked stays in memory as long.
    let Some(_room) = egress.room(head.length) else { return busy(egress, client).await };
    let whole = |bytes: &[u8]| (bytes.len() >= length).then_some(());
    if until(egress, &mut client, &mut read, length.max(1), whole).await.is_none() {
        return;
    }
    if is_for_a_model {
        read.truncate(length);
        // A meter that was told of no steps lets no call through.
        if !local.count().await {
            let (status, body) = local::away();
            return respond(egress, client, status, "application/json", &body.to_string()).await;
        }
        return models::call(egress, client, local.door(), (head, path), read).await;
    }
    let (body, gone) = (read.get(..length).unwrap_or_default(), Notify::new());
    let answering = local.answer(egress, (&head.method, path), body, &gone);
    tokio::pin!(answering);
    // What is being recorded is not cut off: the answer itself stops waiting where it may.
    let answered = tokio::select! {
        biased;
        answered = &mut answering => answered,
        () = left(&mut client) => {
            gone.notify_one();
            answering.await
        }
    };
    if let Some(line) = answered.line
        && egress.told.send(Told::Logged(line)).await.is_err()
    {
        return;
    }
    respond(egress, client, &answered.status, "application/json", &answered.body.to_string()).await;
}

/// Waits until a program reads no answer any more, as far as its silence tells: it ended what it says, or broke off.
pub(super) async fn left(client: &mut TcpStream) {
    // Who says more than was asked for is still there.
    if matches!(client.read(&mut [0]).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}

fn peer(server: &TcpStream) -> Result<std::net::IpAddr, Reason> {
    server.peer_addr().map(|address| address.ip()).map_err(|_| Reason::Unreachable)
}

/// One request in plain HTTP.
async fn away(
    egress: &Egress,
    mut client: TcpStream,
    (host, port, path): (&str, u16, &str),
    head: &Head,
    read: &[u8],
) {
    let method = head.method.as_str();
    let asked = (method, host, port);
    let how = How::Plain { method };
    let (allowed, addresses) = match egress.decide(Asked { host, port, how }).await {
        Ok(decided) => decided,
        Err(why) => return no(egress, client, asked, why).await,
    };
    let Ok(mut server) = dial::dial(&egress.outside.reach, &addresses, port).await else {
        return no(egress, client, asked, Reason::Unreachable).await;
    };
    let Some(pace) = egress.paces.get(allowed.rule) else { return };
    if !egress.tell(Said::new(method, (host, port), peer(&server))).await {
        return;
    }
    let name = match &allowed.host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    };
    let text = head.passed_on(&name, port, path);
    let ready = usize::try_from(head.length).unwrap_or(usize::MAX).min(read.len());
    let first = [text.as_bytes(), read.get(..ready).unwrap_or_default()].concat();
    if server.write_all(&first).await.is_err() {
        return answer(egress, client, "502 Bad Gateway", None, "the connection broke").await;
    }
    egress.sent.fetch_add(first.len() as u64, std::sync::atomic::Ordering::Relaxed);
    let left = head.length.saturating_sub(ready as u64);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let with = (pace, &*egress.clock);
    let back = pass((&mut from_server, &mut to_client), None, with, &egress.received);
    let there = async {
        pass((&mut from_client, &mut to_server), Some(left), with, &egress.sent).await;
        // The answer ends the exchange, whatever more is written.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        _ = back => {}
        () = there => {}
    }
}

/// Refuses, and tells why: whoever asked, and whoever looks after the box.
async fn no(egress: &Egress, client: TcpStream, (method, host, port): (&str, &str, u16), why: Reason) {
    egress.tell(Said::new(method, (host, port), Err(why))).await;
    let status = match why {
        Reason::RequestInvalid => "400 Bad Request",
        Reason::Unreachable | Reason::Unresolved => "502 Bad Gateway",
        _ => "403 Forbidden",
    };
    answer(egress, client, status, Some(why), why.told()).await;
}

/// Refuses what there is no room for now, in words that the clients of each wire know to ask again for.
async fn busy(egress: &Egress, client: TcpStream) {
    let words =
        "the requests of this box that are under way take as much of the server as they may; ask again";
    let error = json!({ "type": "overloaded_error", "code": "bodies_full", "message": words });
    let body = json!({ "type": "error", "code": "bodies_full", "error": error });
    let kind = "application/json\r\nretry-after: 1";
    respond(egress, client, "503 Service Unavailable", kind, &body.to_string()).await;
}

async fn answer(egress: &Egress, client: TcpStream, status: &str, why: Option<Reason>, words: &str) {
    let kind = match why {
        Some(why) => format!("text/plain\r\nx-lantern-reason: {}", why.as_str()),
        None => "text/plain".to_owned(),
    };
    respond(egress, client, status, &kind, &format!("{words}\n")).await;
}

async fn respond(egress: &Egress, mut client: TcpStream, status: &str, kind: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if client.write_all(text.as_bytes()).await.is_ok() {
        linger(&*egress.clock, client).await;
    }
}

/// Reads on for a moment after the last word, so that it arrives.
pub(super) async fn linger(clock: &dyn Clock, mut client: TcpStream) {
    if client.shutdown().await.is_err() {
        return;
    }
    let late = clock.sleep(LINGER);
    tokio::pin!(late);
    let mut buffer = [0; 4_096];
    loop {
        tokio::select! {
            biased;
            () = &mut late => return,
            read = client.read(&mut buffer) => if !matches!(read, Ok(1..)) { return },
        }
    }
}
