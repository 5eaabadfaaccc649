//! Where a tenant's bytes may go: which addresses may be dialled on behalf of whom.
//!
//! Fails closed: an address that is not plainly public is refused unless the operator said otherwise, and addresses
//! that serve instance metadata are refused always. The check is made on the *resolved* address that is dialled, so
//! a name that resolves differently a second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lantern_types::Denial;

/// Who chose the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A tenant, a model or a web page: public addresses only.
    Public,
    /// The operator, or a tenant whom the operator lets name addresses of the operator's own network.
    Private,
}

/// Whether `address` may be dialled.
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

/// The same, as a refusal that says what was refused.
pub fn check(reach: Reach, address: IpAddr) -> Result<(), Denial> {
    if allows(reach, address) {
        return Ok(());
    }
    Err(Denial::new("egress_denied", format!("the address {address} may not be reached from here")))
}

/// Link-local addresses carry cloud metadata services; so do these two of AWS and Alibaba.
fn metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == Ipv4Addr::new(100, 100, 100, 200),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
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
            ("64:ff9b::7f00:1", false, true),
            ("2002:7f00:1::", false, true),
            ("255.255.255.255", false, true),
            ("224.0.0.1", false, false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(allows(Reach::Public, address), public, "public {text}");
            assert_eq!(allows(Reach::Private, address), private, "private {text}");
        }
    }
}
