//! Where a request comes from when it came through proxies.
//!
//! Invariant: a forwarding header is believed as far as every hop that wrote to it is one that the operator trusts, and no further; from
//! anybody else it says nothing. Pure.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use lantern_policy::network::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Hops that are looked at.
const HOPS_MAX: usize = 32;

/// The address of whoever asked: the peer of the socket, or, as long as that is a trusted proxy, whom it says that it asks for.
pub(crate) fn source(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.holds(address));
    let mut source = peer.to_canonical();
    if trusted.is_empty() || !is_trusted(source) {
        return source;
    }
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    // Each proxy adds whom it was asked by at the end.
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        let Some(address) = address(hop.trim()) else { return source };
        source = address;
        if !is_trusted(source) {
            return source;
        }
    }
    source
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse::<IpAddr>().ok();
    let found = plain.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    found.or_else(bare).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_believed_as_far_as_who_wrote_it_is_trusted() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).to_vec();
        for (peer, headers, want) in [
            ("192.0.2.9", vec![], "192.0.2.9"),
            ("192.0.2.9", vec!["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.7, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.7", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", vec!["[2001:db8::1]:443"], "2001:db8::1"),
            ("fd00::1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", vec!["unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            ("10.0.0.1", vec![""], "10.0.0.1"),
        ] {
            let mut map = HeaderMap::new();
            for line in &headers {
                map.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let got = source(peer.parse().unwrap(), &map, &trusted);
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
            assert_eq!(
                source(peer.parse().unwrap(), &map, &[]),
                peer.parse::<IpAddr>().unwrap().to_canonical()
            );
        }
    }
}
