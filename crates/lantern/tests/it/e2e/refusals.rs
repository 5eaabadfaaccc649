//! What the binary answers to bytes that are no request, or too many of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::process::{Folder, Server};

/// The status line and the body of what is answered, until the connection ends.
fn answered(server: &Server, sent: &[u8]) -> (String, Value) {
    let address = server.api.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(sent).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn what_is_no_request_is_refused_in_json_and_harms_nobody() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let get = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{header}\r\n");
    let long = "a".repeat(1 << 20);
    for (sent, status, code) in [
        (get(&format!("/{long}"), ""), "414 URI Too Long", "address_too_long"),
        (get("/healthz", &format!("x: {long}\r\n")), "431 Request Header Fields Too Large", "head_too_large"),
        (get("/healthz", &"x: y\r\n".repeat(101)), "431 Request Header Fields Too Large", "head_too_large"),
        ("hello there\r\n\r\n".to_owned(), "400 Bad Request", "invalid_request"),
        (get("/healthz", "").replace("GET", "G@T"), "400 Bad Request", "invalid_request"),
        (get("/healthz", "content-length: -1\r\n"), "400 Bad Request", "invalid_request"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned(), "400 Bad Request", "invalid_request"),
    ] {
        let (line, body) = answered(&server, sent.as_bytes());
        assert_eq!((line, &body["code"]), (format!("HTTP/1.1 {status}"), &code.into()), "{body}");
        assert_eq!(body["type"], format!("https://lantern.dev/errors/{code}"));
    }
    let (line, body) = answered(&server, get("/healthz", "").as_bytes());
    assert_eq!((&*line, &body["status"]), ("HTTP/1.1 200 OK", &"ok".into()));
}
