//! Where a tenant's bytes may go: which addresses may be dialled on behalf of whom.
//!
//! Fails closed: an address that is not plainly public is refused unless the operator said otherwise, and addresses
//! that serve instance metadata are refused always. The check is made on the *resolved* address that is dialled, so
//! a name that resolves differently a second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use lantern_types::Denial;

use crate::network::Network;

/// Who chose the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A tenant, a model or a web page: public addresses only.
    Public,
    /// The operator, or a tenant whom the operator lets name addresses of the operator's own network.
    Private,
}

/// Which addresses may be dialled: those of a reach, and those of networks that the operator has opened.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Who chose the address.
    pub reach: Reach,
    /// Where they may go besides.
    pub opened: Arc<[Network]>,
}

impl Rule {
    /// Whether `address` may be dialled.
    pub fn allows(&self, address: IpAddr) -> bool {
        let opened = || self.opened.iter().any(|network| network.holds(address));
        allows(self.reach, address) || (allows(Reach::Private, address) && opened())
    }

    /// The same, as a refusal that says what was refused.
    pub fn check(&self, address: IpAddr) -> Result<(), Denial> {
        if self.allows(address) {
            return Ok(());
        }
        Err(Denial::new("egress_denied", format!("the address {address} may not be reached from here")))
    }
}

/// Whether `address` may be dialled where the operator has opened nothing.
pub fn allows(reach: Reach, address: IpAddr) -> bool {
    let address = address.to_canonical();
    match reach {
        _ if metadata(address) => false,
        Reach::Private => !address.is_unspecified() && !address.is_multicast(),
        Reach::Public => match address {
            IpAddr::V4(v4) => public_v4(v4),
            IpAddr::V6(v6) => public_v6(v6),
        },
    }
}

/// Link-local addresses carry the metadata services of clouds; these do so elsewhere, those of IPv6 in blocks that are
/// otherwise private.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

fn metadata(address: IpAddr) -> bool {
    let v4 = |v4: Ipv4Addr| v4.is_link_local() || METADATA_V4.contains(&v4);
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || METADATA_V6.contains(&v6) || embedded(v6).is_some_and(v4)
        }
    }
}

/// The IPv4 address that a gateway would turn this one into: NAT64's well-known prefix, and 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => v6.to_bits(),
        [0x2002, ..] => v6.to_bits() >> 80,
        _ => return None,
    };
    u32::try_from(bits & 0xffff_ffff).ok().map(Ipv4Addr::from_bits)
}

/// IANA IPv4 special-purpose registry: what is not globally reachable.
fn public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

/// Only global unicast (2000::/3), less what embeds or documents other addresses.
fn public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    let global = (a & 0xe000) == 0x2000;
    let documentation = (a == 0x2001 && b == 0x0db8) || (a == 0x3fff && b < 0x1000);
    let protocol = a == 0x2001 && b < 0x0200;
    let six_to_four = a == 0x2002;
    global && !documentation && !protocol && !six_to_four
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_table() {
        for (text, public, private) in [
            ("93.184.216.34", true, true),
            ("2606:2800:220:1::1", true, true),
            ("127.0.0.1", false, true),
            ("10.1.2.3", false, true),
            ("172.16.0.1", false, true),
            ("192.168.1.1", false, true),
            ("100.64.0.1", false, true),
            ("0.0.0.0", false, false),
            ("169.254.169.254", false, false),
            ("100.100.100.200", false, false),
            ("::1", false, true),
            ("::", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("fd12::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("::ffff:169.254.169.254", false, false),
            ("fd00:ec2::23", false, false),
            ("fd20:ce::254", false, false),
            ("64:ff9b::7f00:1", false, true),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("2002:7f00:1::", false, true),
            ("2002:a9fe:a9fe::1", false, false),
            ("255.255.255.255", false, true),
            ("224.0.0.1", false, false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(allows(Reach::Public, address), public, "public {text}");
            assert_eq!(allows(Reach::Private, address), private, "private {text}");
        }
    }

    #[test]
    fn what_the_operator_opens_is_open_and_nothing_else() {
        let opened = ["10.20.0.0/16", "169.254.0.0/16", "fd00::/8", "::/128", "224.0.0.0/4"];
        let opened = opened.iter().map(|text| text.parse().unwrap()).collect();
        let rule = Rule { reach: Reach::Public, opened };
        for (text, open) in [
            ("10.20.3.4", true),
            ("::ffff:10.20.3.4", true),
            ("fd12::1", true),
            ("93.184.216.34", true),
            ("10.21.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("fd00:ec2::254", false),
            ("::", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(rule.allows(text.parse().unwrap()), open, "{text}");
        }
    }
}
