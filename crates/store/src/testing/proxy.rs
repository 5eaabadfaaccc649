//! A small proxy before a cluster: what a network, a failover or a machine that hangs does to connections, on demand.
//!
//! Invariant: bytes are passed on as they come, unless somebody said otherwise. Its threads end with their connections,
//! the one that listens with the test binary.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lantern_types::Secret;

use super::TestDatabase;
use crate::db::PostgresOptions;

/// As the end of a transaction goes over the wire.
const COMMIT: &[u8] = b"COMMIT\0";

/// A proxy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    to: u16,
    away: AtomicBool,
    silent: AtomicBool,
    every: AtomicUsize,
    commits: AtomicUsize,
    cuts: AtomicUsize,
    // Sections under this lock are one push or one sweep.
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy before a database of a cluster on the loopback interface, and how the roles connect through it.
    pub fn before(database: &TestDatabase) -> (Self, PostgresOptions) {
        let to = database.port().expect("a cluster on the loopback interface");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let port = listener.local_addr().expect("the port").port();
        let state = State {
            to,
            away: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            every: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            open: Mutex::default(),
        };
        let proxy = Self { state: Arc::new(state) };
        let serving = proxy.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serving.serve(stream)));
        let direct = database.options_at("127.0.0.1", "");
        let (from, to) = (format!("port={to} "), format!("port={port} "));
        let through = |url: &Secret<String>| Secret::new(url.expose().replace(&from, &to));
        let options = PostgresOptions {
            app_url: through(&direct.app_url),
            system_url: through(&direct.system_url),
            ..direct
        };
        (proxy, options)
    }

    /// Cuts every connection and takes no others, or takes them again.
    pub fn away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
        self.state.cut_all();
    }

    /// Passes nothing on and says nothing, or does again. What was swallowed stays so.
    pub fn silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Cuts a connection at each `n`th commit: in turn before it is there and once it is done; 0 cuts none.
    pub fn cut_every(&self, n: usize) {
        self.state.every.store(n, Ordering::SeqCst);
    }

    /// How many transactions were cut so.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    fn serve(&self, client: TcpStream) {
        // Dropped, which the other side sees as the end.
        if self.state.away.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.state.to)) else { return };
        let mute = Arc::new(AtomicBool::new(false));
        for (from, to, sends) in [(&client, &server, true), (&server, &client, false)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let (state, mute) = (self.state.clone(), mute.clone());
            std::thread::spawn(move || {
                state.pump(from, to, sends, &mute);
            });
        }
        let mut open = self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend([client, server]);
    }
}

/// What becomes of some bytes.
enum Fate {
    Pass,
    Swallow,
    /// The connection ends, and the bytes with it.
    Cut,
    /// The connection ends when they are answered.
    Mute,
}

impl State {
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, sends: bool, mute: &AtomicBool) {
        let mut bytes = [0; 16 << 10];
        while let Ok(n) = from.read(&mut bytes) {
            let read = bytes.get(..n).unwrap_or_default();
            let fate = match read {
                [] => Fate::Cut,
                _ if self.silent.load(Ordering::SeqCst) => Fate::Swallow,
                _ if sends => self.fate(read),
                _ if mute.load(Ordering::SeqCst) => Fate::Cut,
                _ => Fate::Pass,
            };
            match fate {
                Fate::Cut => break,
                Fate::Swallow => continue,
                Fate::Mute => mute.store(true, Ordering::SeqCst),
                Fate::Pass => {}
            }
            if to.write_all(read).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn fate(&self, sent: &[u8]) -> Fate {
        let every = self.every.load(Ordering::SeqCst);
        if every == 0 || !sent.windows(COMMIT.len()).any(|part| part == COMMIT) {
            return Fate::Pass;
        }
        let n = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        if !n.is_multiple_of(every) {
            return Fate::Pass;
        }
        let cuts = self.cuts.fetch_add(1, Ordering::SeqCst);
        if cuts.is_multiple_of(2) { Fate::Cut } else { Fate::Mute }
    }

    fn cut_all(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}
