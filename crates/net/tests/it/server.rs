//! Small servers: one that speaks HTTP properly, and one that says exactly the bytes it was given and then misbehaves.

use axum::Router;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running server; it stops when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

pub(crate) async fn serve(router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Server { port, _tasks: tasks }
}

/// What the server does once it has said its bytes.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Hang,
    Close,
    Reset,
}

/// Accepts connections for ever; reads a request, says `bytes`, and misbehaves.
pub(crate) async fn misbehave(bytes: &'static [u8], then: Then) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(bytes).await.unwrap();
            match then {
                Then::Hang => open.push(stream),
                Then::Close => stream.shutdown().await.unwrap(),
                Then::Reset => reset(stream),
            }
        }
    });
    Server { port, _tasks: tasks }
}

/// Reads a whole request: closing a connection with unread bytes would reset it instead of ending it.
async fn read_request(stream: &mut TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        let bytes = reader.read_line(&mut line).await.unwrap_or_default();
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        if bytes == 0 || line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
}

/// Closing with no linger sends a reset instead of an orderly end.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

/// A port on which nobody listens.
pub(crate) async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
