//! Addresses, networks, roles and catalogues as people write them: read or refused, never misread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lantern_policy::Catalogue;
use lantern_policy::network::Network;
use proptest::prelude::*;

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

proptest! {
    #[test]
    fn any_text_is_a_network_or_refused(text in "\\PC{0,50}|[0-9a-f:./]{0,50}") {
        if let Ok(network) = text.parse::<Network>() {
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
        drop(Catalogue::parse(&text));
    }

    /// A network holds an address exactly when the first bits of both are the same.
    #[test]
    fn a_network_holds_what_begins_like_it(first in address(), other in address(), cut in 0_u32..=128) {
        let (value, width) = bits(first);
        let prefix = cut.min(width);
        let host = if prefix == width { 0 } else { u128::MAX >> (128 - (width - prefix)) };
        let base = value & !host;
        let base = match first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(base).unwrap_or_default())),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(base)),
        };
        // One that is an IPv4 address in IPv6's clothes is refused.
        if let Ok(network) = format!("{base}/{prefix}").parse::<Network>() {
            prop_assert!(network.holds(first) || first.to_canonical() != first);
            let canonical = other.to_canonical();
            let same = canonical.is_ipv4() == first.is_ipv4() && bits(canonical).0 & !host == bits(base).0;
            prop_assert_eq!(network.holds(other), same, "{} {}", network, other);
        }
    }
}
