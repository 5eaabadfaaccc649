//! Requests in quantity: plain HTTP/1.1 over kept connections, so light that what is measured is the other side.
//!
//! Invariant: an answer counts when all of it is there, and any status but the wanted one ends the measurement.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use lantern_types::edge::Clock;
use lantern_types::{At, Dur};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One request, as it goes over the wire, and the status that it should get.
#[derive(Clone)]
pub(crate) struct Shot {
    bytes: Arc<[u8]>,
    want: u16,
}

impl Shot {
    pub(crate) fn get(path: &str, bearer: &str) -> Self {
        Self::new("GET", path, bearer, "", 200)
    }

    pub(crate) fn post(path: &str, bearer: &str, body: &str) -> Self {
        Self::new("POST", path, bearer, body, 201)
    }

    /// A call that is answered with 200, whole or as a stream.
    pub(crate) fn call(path: &str, bearer: &str, body: &str) -> Self {
        Self::new("POST", path, bearer, body, 200)
    }

    fn new(method: &str, path: &str, bearer: &str, body: &str, want: u16) -> Self {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: {bearer}\r\n");
        let rest = if body.is_empty() {
            "\r\n".to_owned()
        } else {
            format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        };
        Self { bytes: format!("{head}{rest}").into_bytes().into(), want }
    }
}

/// A kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects to a base URL.
    pub(crate) async fn open(base: &str) -> Result<Self> {
        let address = base.strip_prefix("http://").context("not an http address")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(8 << 10) })
    }

    /// Sends a request and answers how many bytes the body of its answer had.
    pub(crate) async fn shoot(&mut self, shot: &Shot) -> Result<usize> {
        self.stream.write_all(&shot.bytes).await?;
        let head = self.until_head(shot.want).await?;
        let text = String::from_utf8_lossy(self.read.get(..head).unwrap_or_default()).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        if length.is_none() && text.contains("transfer-encoding: chunked") {
            return self.until_last_chunk(head).await;
        }
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        while self.read.len() < head + length {
            self.more().await?;
        }
        self.read.drain(..head + length);
        Ok(length)
    }

    /// Reads an answer in chunks to its end, which nothing in the answers that are measured looks like.
    async fn until_last_chunk(&mut self, head: usize) -> Result<usize> {
        while !self.read.ends_with(b"\r\n0\r\n\r\n") {
            self.more().await?;
        }
        let length = self.read.len() - head;
        self.read.clear();
        Ok(length)
    }

    /// Opens an event stream and answers when its first bytes are there; the rest is left to the system's buffers.
    pub(crate) async fn listen(&mut self, shot: &Shot) -> Result<()> {
        self.stream.write_all(&shot.bytes).await?;
        let head = self.until_head(shot.want).await?;
        while self.read.len() == head {
            self.more().await?;
        }
        self.read = Vec::new();
        Ok(())
    }

    /// Reads until the head is there, and answers where it ends.
    async fn until_head(&mut self, want: u16) -> Result<usize> {
        loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let status = format!("HTTP/1.1 {want}");
                if !self.read.starts_with(status.as_bytes()) {
                    bail!("an answer is not {want}: {}", String::from_utf8_lossy(&self.read));
                }
                return Ok(end + 4);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the server closed a connection");
        Ok(())
    }
}

/// Sends one request after another over so many connections for so long, and answers how many were answered in a second.
pub(crate) async fn flood(
    clock: &Arc<dyn Clock>,
    base: &str,
    shot: &Shot,
    connections: usize,
    time: Dur,
) -> Result<f64> {
    let start = clock.now();
    let end = start + time;
    let counts = each(base, connections, |mut connection| {
        let (shot, clock) = (shot.clone(), clock.clone());
        async move {
            let mut count = 0_u32;
            while clock.now() < end {
                connection.shoot(&shot).await?;
                count += 1;
            }
            Ok(count)
        }
    });
    let total: u32 = counts.await?.into_iter().sum();
    Ok(f64::from(total) * 1_000.0 / millis(start, clock.now()))
}

/// Sends requests at a fixed rate, whether the earlier ones were answered in time or not, and answers how many milliseconds
/// each took from when it was due.
pub(crate) async fn paced(
    clock: &Arc<dyn Clock>,
    base: &str,
    shot: &Shot,
    connections: u32,
    (rate, time): (f64, Dur),
) -> Result<Vec<f64>> {
    let start = clock.now();
    let end = start + time;
    let between = f64::from(connections) * 1e6 / rate.max(1.0);
    let times = each(base, connections as usize, |mut connection| {
        let (shot, clock) = (shot.clone(), clock.clone());
        async move {
            let (mut times, mut sent) = (Vec::new(), 0_u32);
            loop {
                let due = start + micros(f64::from(sent) * between);
                if due >= end {
                    return Ok(times);
                }
                if clock.now() < due {
                    clock.sleep(due.since(clock.now())).await;
                }
                connection.shoot(&shot).await?;
                times.push(millis(due, clock.now()));
                sent += 1;
            }
        }
    });
    Ok(times.await?.into_iter().flatten().collect())
}

/// Does something on each of so many connections at once.
async fn each<T, F>(base: &str, connections: usize, mut work: impl FnMut(Connection) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut all = JoinSet::new();
    for _ in 0..connections {
        all.spawn(work(Connection::open(base).await?));
    }
    all.join_all().await.into_iter().collect()
}

/// Milliseconds from one time to another; 0 when it is earlier.
pub(crate) fn millis(from: At, to: At) -> f64 {
    f64::from(u32::try_from(to.since(from).micros()).unwrap_or_default()) / 1_000.0
}

#[expect(clippy::cast_possible_truncation, reason = "a time within one measurement")]
fn micros(micros: f64) -> Dur {
    Dur::from_micros(micros as i64)
}
