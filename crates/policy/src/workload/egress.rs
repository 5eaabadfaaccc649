//! Where a workload may connect to: its rules, what it asks for and what a name turned out to be, to a yes or the reason for a no.
//!
//! Invariant: fails closed. What no rule lists is refused, and what is listed is refused all the same when its address is not one that
//! a tenant may reach. A host is read once, into a name or an address, so no spelling of an address passes for a name. Pure: names
//! are resolved by whoever asks, and only those that [`listed`] let pass.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hello::Hello;
use super::spec::EgressRule;
use crate::egress::Rule;
use crate::network::Network;

/// The ports of a rule that names none.
pub const PORTS: [u16; 2] = [80, 443];
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// How a program asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How<'a> {
    /// One HTTP request, which can be read.
    Plain {
        /// Its method.
        method: &'a str,
    },
    /// A connection of its own, of which only the first words can be read.
    Tunnel,
}

/// What a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// As it was written.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// How.
    pub how: How<'a>,
}

/// A host that was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, in lower case and without a dot at its end.
    Name(String),
    /// An address, in its own family.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// What a rule lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Where to.
    pub host: Host,
    /// The number of the rule, from 0.
    pub rule: usize,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The host is neither a name nor an address.
    HostInvalid,
    /// An address in a spelling that others may read otherwise.
    AddressOdd,
    /// No rule lists the name.
    NoRule,
    /// No rule lists the address: names are listed as names, and addresses as blocks.
    AddressNotListed,
    /// Rules list the host, and not this port.
    Port,
    /// Rules list the host and the port, and not this method.
    Method,
    /// The rule asks for methods, which cannot be seen inside of TLS.
    MethodHidden,
    /// The name has no address.
    Unresolved,
    /// It leads to an address that a tenant may not reach: private, link-local, metadata.
    AddressRefused,
    /// What went through the tunnel is not TLS.
    NotTls,
    /// TLS that does not say for which name.
    SniMissing,
    /// TLS for another name than the tunnel was asked for.
    SniOther,
    /// The request cannot be read, or could be read in two ways.
    RequestInvalid,
    /// It allows it, and nobody answers there.
    Unreachable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::HostInvalid,
        Self::AddressOdd,
        Self::NoRule,
        Self::AddressNotListed,
        Self::Port,
        Self::Method,
        Self::MethodHidden,
        Self::Unresolved,
        Self::AddressRefused,
        Self::NotTls,
        Self::SniMissing,
        Self::SniOther,
        Self::RequestInvalid,
        Self::Unreachable,
    ];

    /// A stable word.
    pub const fn as_str(self) -> &'static str {
        self.words().0
    }

    /// What it means and what to do, in words.
    pub const fn told(self) -> &'static str {
        self.words().1
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::HostInvalid => ("host_invalid", "this is neither a name nor an address"),
            Self::AddressOdd => ("address_odd", "an address is written in full, as 203.0.113.7 is"),
            Self::NoRule => ("no_rule", "no rule of egress_rules lists this name"),
            Self::AddressNotListed => {
                ("address_not_listed", "no rule of egress_rules lists a block with this address")
            }
            Self::Port => ("port", "the rules for this host do not list this port"),
            Self::Method => ("method", "the rules for this host do not list this method"),
            Self::MethodHidden => (
                "method_hidden",
                "the rule lists http_methods, and inside of TLS no method can be seen; leave them out for HTTPS",
            ),
            Self::Unresolved => ("unresolved", "this name has no address"),
            Self::AddressRefused => {
                ("address_refused", "this leads to a private, link-local or metadata address")
            }
            Self::NotTls => ("not_tls", "a tunnel carries TLS and nothing else"),
            Self::SniMissing => ("sni_missing", "TLS must say for which name it is"),
            Self::SniOther => ("sni_other", "TLS says another name than the tunnel was asked for"),
            Self::RequestInvalid => ("request_invalid", "the request cannot be read, or in two ways"),
            Self::Unreachable => ("unreachable", "it may be reached, and nobody answers there"),
        }
    }
}

/// Whether a workload with these rules may connect, when the host is, or resolved to, these addresses.
pub fn allow(
    rules: &[EgressRule],
    reach: &Rule,
    asked: Asked<'_>,
    resolved: &[IpAddr],
) -> Result<Allowed, Reason> {
    let allowed = listed(rules, asked)?;
    match &allowed.host {
        Host::Name(_) => reachable(reach, resolved)?,
        Host::Address(address) => reachable(reach, &[*address])?,
    }
    Ok(allowed)
}

/// The part of [`allow`] that comes before a name is resolved: a name that no rule lists is not even asked for.
pub fn listed(rules: &[EgressRule], asked: Asked<'_>) -> Result<Allowed, Reason> {
    let host = host(asked.host)?;
    let mut why = match host {
        Host::Name(_) => Reason::NoRule,
        Host::Address(_) => Reason::AddressNotListed,
    };
    for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| lists(&rule.pattern, &host)) {
        let ports = if rule.ports.is_empty() { &PORTS[..] } else { &rule.ports };
        let any = rule.http_methods.is_empty();
        let no = match asked.how {
            _ if !ports.contains(&asked.port) => Reason::Port,
            How::Tunnel if !any => Reason::MethodHidden,
            How::Plain { method } if !any && !rule.http_methods.iter().any(|listed| listed == method) => {
                Reason::Method
            }
            _ => return Ok(Allowed { host, rule: number }),
        };
        // The rule that came closest says why.
        why = why.max(no);
    }
    Err(why)
}

/// The part of [`allow`] about addresses. One that may not be reached spoils the others: nobody's name leads to both in earnest.
pub fn reachable(reach: &Rule, addresses: &[IpAddr]) -> Result<(), Reason> {
    match addresses {
        [] => Err(Reason::Unresolved),
        all if all.iter().all(|address| reach.allows(*address)) => Ok(()),
        _ => Err(Reason::AddressRefused),
    }
}

/// Whether what begins in a tunnel is what the tunnel was asked for. `None` when more must be read to know.
pub fn tunnelled(host: &Host, hello: &Hello) -> Option<Result<(), Reason>> {
    Some(match (hello, host) {
        (Hello::Partial, _) => return None,
        (Hello::NotTls, _) => Err(Reason::NotTls),
        (Hello::Tls(None), Host::Address(_)) => Ok(()),
        (Hello::Tls(None), Host::Name(_)) => Err(Reason::SniMissing),
        (Hello::Tls(Some(said)), Host::Name(name)) if self::host(said) == Ok(Host::Name(name.clone())) => {
            Ok(())
        }
        (Hello::Tls(Some(_)), _) => Err(Reason::SniOther),
    })
}

/// Reads a host.
pub fn host(text: &str) -> Result<Host, Reason> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Option<Ipv6Addr> = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
        return address.map(|v6| Host::Address(IpAddr::V6(v6).to_canonical())).ok_or(Reason::HostInvalid);
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let name = text.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > NAME_MAX || !name.split('.').all(label) {
        return Err(Reason::HostInvalid);
    }
    // What ends in a number is an address to those who read names: 127.1, 2130706433, 0x7f000001, 0177.0.0.1.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::AddressOdd);
    }
    Ok(Host::Name(name))
}

/// Whether a pattern names this host. `*.` stands for one name or more before it, and not for none.
fn lists(pattern: &str, host: &Host) -> bool {
    match host {
        Host::Address(address) => pattern.parse::<Network>().is_ok_and(|block| block.holds(*address)),
        Host::Name(name) => match pattern.strip_prefix('*') {
            Some(rest) => name.strip_suffix(rest).is_some_and(|before| !before.is_empty()),
            None => name == pattern,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::egress::Reach;

    fn rule(pattern: &str, methods: &[&str], ports: &[u16]) -> EgressRule {
        EgressRule {
            pattern: pattern.to_owned(),
            http_methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            ports: ports.to_vec(),
            rate_bps: None,
        }
    }

    fn rules() -> Vec<EgressRule> {
        vec![
            rule("api.example.com", &[], &[]),
            rule("*.wiki.org", &["GET", "HEAD"], &[80]),
            rule("xn--bcher-kva.example", &[], &[8443]),
            rule("93.184.216.0/24", &[], &[443]),
            rule("0.0.0.0/0", &[], &[8080]),
            rule("::/0", &[], &[8080]),
            rule("127.0.0.1", &[], &[1]),
        ]
    }

    const PUBLIC: &[&str] = &["93.184.216.34"];

    fn said(host: &str, port: u16, how: How<'_>, resolved: &[&str]) -> String {
        let reach = Rule { reach: Reach::Public, opened: Arc::default() };
        let resolved: Vec<IpAddr> = resolved.iter().map(|text| text.parse().unwrap()).collect();
        match allow(&rules(), &reach, Asked { host, port, how }, &resolved) {
            Ok(Allowed { host, rule }) => format!("{host} by {rule}"),
            Err(reason) => reason.as_str().to_owned(),
        }
    }

    #[test]
    fn hosts_and_how_they_may_be_written() {
        for (host, want) in [
            ("api.example.com", "api.example.com by 0"),
            ("API.Example.COM", "api.example.com by 0"),
            ("api.example.com.", "api.example.com by 0"),
            ("api.example.com..", "host_invalid"),
            (".api.example.com", "host_invalid"),
            ("xapi.example.com", "no_rule"),
            ("api.example.com.evil.net", "no_rule"),
            ("evil.net", "no_rule"),
            ("localhost", "no_rule"),
            ("api.example.com\0.evil.net", "host_invalid"),
            ("api.example.com/", "host_invalid"),
            ("user@api.example.com", "host_invalid"),
            ("api.example.com%00", "host_invalid"),
            ("api.example.com evil.net", "host_invalid"),
            ("b\u{fc}cher.example", "host_invalid"),
            ("\u{430}pi.example.com", "host_invalid"),
            ("", "host_invalid"),
            (".", "host_invalid"),
            ("93.184.216.34", "93.184.216.34 by 3"),
            ("93.184.216.34.", "93.184.216.34 by 3"),
            ("93.184.217.34", "port"),
            ("2130706433", "address_odd"),
            ("127.1", "address_odd"),
            ("0177.0.0.1", "address_odd"),
            ("127.0.0.01", "address_odd"),
            ("0x7f000001", "address_odd"),
            ("0x7f.0.0.0x1", "address_odd"),
            ("0x", "address_odd"),
            ("1.2.3.4.5", "address_odd"),
            ("256.1.1.1", "address_odd"),
            ("169.254.169.254", "port"),
            ("[::ffff:93.184.216.34]", "93.184.216.34 by 3"),
            ("[::1]", "port"),
            ("::1", "host_invalid"),
            ("[fe80::1%eth0]", "host_invalid"),
            ("[93.184.216.34]", "host_invalid"),
            ("[::1", "host_invalid"),
        ] {
            assert_eq!(said(host, 443, How::Tunnel, PUBLIC), want, "{host:?}");
        }
        let long = format!("{}.com", "a".repeat(64));
        assert_eq!(said(&long, 443, How::Tunnel, PUBLIC), "host_invalid");
    }

    #[test]
    fn addresses_that_nobody_may_reach_whatever_lists_them() {
        for host in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[fc00::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
        ] {
            assert_eq!(said(host, 8080, How::Tunnel, PUBLIC), "address_refused", "{host}");
        }
        // And whatever name leads there, alone or among others.
        for bad in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1"] {
            for resolved in [vec![bad], vec!["93.184.216.34", bad], vec![bad, "93.184.216.34"]] {
                assert_eq!(said("api.example.com", 443, How::Tunnel, &resolved), "address_refused", "{bad}");
            }
        }
        assert_eq!(said("api.example.com", 443, How::Tunnel, &[]), "unresolved");
    }

    #[test]
    fn ports_methods_and_wildcards() {
        let (get, post) = (How::Plain { method: "GET" }, How::Plain { method: "POST" });
        for (host, port, how, want) in [
            ("api.example.com", 80, post, "api.example.com by 0"),
            ("api.example.com", 22, How::Tunnel, "port"),
            ("api.example.com", 8080, get, "port"),
            ("en.wiki.org", 80, get, "en.wiki.org by 1"),
            ("a.b.wiki.org", 80, get, "a.b.wiki.org by 1"),
            ("en.wiki.org", 80, post, "method"),
            ("en.wiki.org", 80, How::Plain { method: "get" }, "method"),
            ("en.wiki.org", 80, How::Tunnel, "method_hidden"),
            ("en.wiki.org", 443, How::Tunnel, "port"),
            ("wiki.org", 80, get, "no_rule"),
            ("evilwiki.org", 80, get, "no_rule"),
            ("xn--bcher-kva.example", 8443, How::Tunnel, "xn--bcher-kva.example by 2"),
            ("XN--BCHER-KVA.example", 8443, How::Tunnel, "xn--bcher-kva.example by 2"),
            ("xn--bcher-kva.example", 443, How::Tunnel, "port"),
            ("8.8.8.8", 8080, get, "8.8.8.8 by 4"),
            ("[2606:4700::1111]", 8080, get, "2606:4700::1111 by 5"),
        ] {
            assert_eq!(said(host, port, how, PUBLIC), want, "{host}:{port} {how:?}");
        }
    }

    #[test]
    fn nothing_is_listed_by_no_rules() {
        let asked = Asked { host: "api.example.com", port: 443, how: How::Tunnel };
        assert_eq!(listed(&[], asked), Err(Reason::NoRule));
        assert_eq!(listed(&[], Asked { host: "8.8.8.8", ..asked }), Err(Reason::AddressNotListed));
    }

    #[test]
    fn what_the_operator_opened_is_open_to_whoever_lists_it_and_metadata_never() {
        let reach = Rule { reach: Reach::Public, opened: Arc::new(["127.0.0.0/8".parse().unwrap()]) };
        let rules = [rule("127.0.0.1", &[], &[]), rule("inside.example", &[], &[])];
        let asked = |host| Asked { host, port: 80, how: How::Tunnel };
        let loopback = ["127.0.0.1".parse().unwrap()];
        assert!(allow(&rules, &reach, asked("127.0.0.1"), &[]).is_ok());
        assert!(allow(&rules, &reach, asked("inside.example"), &loopback).is_ok());
        assert_eq!(allow(&rules, &reach, asked("other.example"), &loopback), Err(Reason::NoRule));
        assert_eq!(allow(&rules, &reach, asked("127.0.0.2"), &[]), Err(Reason::AddressNotListed));
        let metadata = ["169.254.169.254".parse().unwrap()];
        assert_eq!(allow(&rules, &reach, asked("inside.example"), &metadata), Err(Reason::AddressRefused));
    }

    #[test]
    fn a_tunnel_carries_tls_for_its_own_name() {
        let name = Host::Name("api.example.com".to_owned());
        let address = Host::Address("93.184.216.34".parse().unwrap());
        let sni = |text: &str| Hello::Tls(Some(text.to_owned()));
        for (host, hello, want) in [
            (&name, sni("api.example.com"), Some(Ok(()))),
            (&name, sni("API.EXAMPLE.COM."), Some(Ok(()))),
            (&name, sni("evil.net"), Some(Err(Reason::SniOther))),
            (&name, sni(""), Some(Err(Reason::SniOther))),
            (&name, sni("93.184.216.34"), Some(Err(Reason::SniOther))),
            (&name, Hello::Tls(None), Some(Err(Reason::SniMissing))),
            (&name, Hello::NotTls, Some(Err(Reason::NotTls))),
            (&name, Hello::Partial, None),
            (&address, Hello::Tls(None), Some(Ok(()))),
            (&address, sni("api.example.com"), Some(Err(Reason::SniOther))),
            (&address, Hello::NotTls, Some(Err(Reason::NotTls))),
        ] {
            assert_eq!(tunnelled(host, &hello), want, "{host} {hello:?}");
        }
    }

    #[test]
    fn reasons_have_words_of_their_own() {
        let words: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|why| why.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
