//! Blocks of addresses, as operators write them: `10.20.0.0/16`, `192.168.1.5`, `fd12:3456::/32`.
//!
//! Invariant: a block is exactly what its text says. A text with more address than its prefix covers is refused, since
//! whoever wrote it meant either less or more.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    first: IpAddr,
    prefix: u32,
}

/// The text names no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no network: write an address, or its first address and the bits that are fixed, as 10.20.0.0/16"
)]
pub struct Invalid(String);

impl Network {
    /// Whether it holds every address of its family.
    pub const fn is_everything(self) -> bool {
        self.prefix == 0
    }

    /// Whether `address` lies in it, in either spelling of an IPv4 address.
    pub fn holds(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.first.is_ipv4() == address.is_ipv4()
            && (bits(self.first) ^ bits(address)).leading_zeros() >= self.prefix
    }
}

/// An address as a number whose first bit is the address's first.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for Network {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let first: IpAddr = address.parse().map_err(|_| invalid())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let prefix: u32 = prefix.map_or(Ok(width), str::parse).map_err(|_| invalid())?;
        let whole = prefix <= width && bits(first).trailing_zeros() >= 128 - prefix;
        // An IPv4 address in IPv6's clothes would match nothing.
        let plain = first.to_canonical() == first;
        if whole && plain { Ok(Self { first, prefix }) } else { Err(invalid()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_block() {
        for (network, inside, outside) in [
            ("10.20.0.0/16", "10.20.255.255", "10.21.0.0"),
            ("10.20.0.0/16", "::ffff:10.20.0.1", "::ffff:10.19.0.1"),
            ("192.168.1.5", "192.168.1.5", "192.168.1.4"),
            ("192.168.1.4/31", "192.168.1.5", "192.168.1.6"),
            ("0.0.0.0/0", "255.0.0.1", "fd12::1"),
            ("fd12:3456::/32", "fd12:3456:ffff::1", "fd12:3457::1"),
            ("::1", "::1", "::2"),
            ("::/0", "fd12::1", "10.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.holds(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.holds(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "10.20.0.0/",
            "10.20.0.0/33",
            "10.20.0.1/16",
            "10.20/16",
            "fd12::/129",
            "fd12::1/64",
            "::ffff:10.20.0.0/112",
            "localhost",
            "10.20.0.0/16, 10.30.0.0/16",
        ] {
            assert_eq!(text.parse::<Network>(), Err(Invalid(text.to_owned())), "{text}");
        }
    }
}
