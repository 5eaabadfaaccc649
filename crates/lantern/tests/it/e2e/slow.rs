//! Clients that take nothing, and connections that never become a request: what they cost the real binary.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::api::Api;
use super::process::{Folder, Server};

/// What the process has in memory, in KiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn ask(server: &Server, path: &str, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.api.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
    stream
}

#[tokio::test]
async fn clients_that_take_nothing_and_half_open_connections_cost_little_and_hold_up_nobody() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    // A long history: every step repeats what it was given.
    let steps: Vec<_> = (0..100)
        .map(|n| {
            let arguments = json!({"expression": "{{input.sum}}"});
            json!({"id": format!("s{n}"), "kind": "tool", "data": {"tool": "calc", "arguments": arguments}})
        })
        .collect();
    api.agent("long", json!({"program": "steps", "steps": steps})).await;
    let run = api.run("long", json!({"sum": format!("1{}", "+1".repeat(7_500))})).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    let (_, events) = api.events(&run, None).await;
    let bytes: usize = events.iter().map(|event| event.data.len()).sum();
    assert!(bytes > 1_400_000, "a history of {bytes} bytes shows nothing");
    let events = format!("/v1/runs/{run}/events?live=false");
    let read_one = || {
        let mut byte = [0];
        let mut stream = ask(&server, &events, &api.token);
        stream.read_exact(&mut byte).unwrap();
        stream
    };
    // What the first ones cost is paid once.
    let mut taken: Vec<TcpStream> = (0..10).map(|_| read_one()).collect();
    let before = resident(&server);
    taken.extend((0..100).map(|_| read_one()));
    taken.extend((0..150).map(|_| ask(&server, "/v1/runs?limit=100", &api.token)));
    let address = server.api.strip_prefix("http://").unwrap();
    let half: Vec<TcpStream> = (0..600)
        .map(|n| {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!("GET /v1/runs HTTP/1.1\r\nx-half: {}", "a".repeat(n));
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    // Everybody else is served, and by then everything above was read.
    for _ in 0..20 {
        assert_eq!(api.get("/v1/runs").await.0, 200);
    }
    let grown = resident(&server).saturating_sub(before);
    // 100 histories in memory would be 140 MiB and more. The clients themselves come to some 20, and what the allocator keeps
    // of the work of reading for so many at once to as much again and, on a machine with much to do, more.
    assert!(grown < 96 << 10, "{grown} KiB more for {} clients", taken.len() + half.len());
    drop((taken, half));
    assert_eq!(api.get("/v1/runs").await.0, 200);
    assert!(server.stop().success());
}
