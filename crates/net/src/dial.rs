//! Connections for bytes that somebody else speaks: names to addresses, and addresses to sockets.
//!
//! Invariant: no address is dialled that the caller's rule does not allow, whoever resolved it. Which names may be asked for is the
//! caller's business.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lantern_policy::egress::Rule;
use lantern_types::Dur;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a name may take.
const RESOLVE_MAX: Dur = Dur::from_secs(5);
/// How long one address may take.
const CONNECT_MAX: Dur = Dur::from_secs(5);
/// Addresses of one name that are tried.
const TRIED_MAX: usize = 4;

/// The addresses of a name, as the operating system knows them; none when there are none.
pub async fn addresses(name: &str) -> Vec<IpAddr> {
    let asked = tokio::net::lookup_host((name, 0));
    let Ok(Ok(found)) = timeout(RESOLVE_MAX.std(), asked).await else { return Vec::new() };
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
    addresses.dedup();
    addresses
}

/// A connection to the first of these addresses that answers.
pub async fn dial(rule: &Rule, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter().take(TRIED_MAX) {
        rule.check(*address).map_err(io::Error::other)?;
        match timeout(CONNECT_MAX.std(), TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
