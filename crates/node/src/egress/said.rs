//! A decision about a connection, as it is told: to the logs of the workload, and to the journal of its run.

use std::net::IpAddr;

use lantern_policy::workload::egress::{Host, Reason};
use serde_json::{Value, json};

/// Characters of a host that was never one.
const HOST_MAX: usize = 253;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// `CONNECT` or the request's method.
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) verdict: Result<IpAddr, Reason>,
}

impl Said {
    pub(crate) fn new(method: &str, (host, port): (&str, u16), verdict: Result<IpAddr, Reason>) -> Self {
        let clean = |text: &str| text.escape_default().take(HOST_MAX).collect::<String>();
        let host = lantern_policy::workload::egress::host(host)
            .map_or_else(|_| clean(host), |host: Host| host.to_string());
        Self { method: clean(method), host, port, verdict }
    }

    /// A line for people.
    pub(crate) fn line(&self) -> String {
        let Self { method, host, port, .. } = self;
        match &self.verdict {
            Ok(address) => format!("egress allowed: {method} {host}:{port} at {address}"),
            Err(why) => {
                format!("egress refused: {method} {host}:{port}: {} ({})", why.told(), why.as_str())
            }
        }
    }

    /// For the journal: the first of each kind is told there, so no address, which may change.
    pub(crate) fn told(&self) -> Value {
        let verdict = if self.verdict.is_ok() { "allow" } else { "deny" };
        let reason = self.verdict.as_ref().err().map(|why| why.as_str());
        json!({ "action": "egress", "verdict": verdict, "method": self.method, "host": self.host, "port": self.port, "reason": reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_cannot_forge_a_line() {
        let said = Said::new("GET", ("a\nb\u{1b}[0m", 80), Err(Reason::HostInvalid));
        assert_eq!(
            said.line(),
            "egress refused: GET a\\nb\\u{1b}[0m:80: this is neither a name nor an address (host_invalid)"
        );
        let said = Said::new("CONNECT", ("A.Example.", 443), Ok("203.0.113.7".parse().unwrap()));
        assert_eq!(said.line(), "egress allowed: CONNECT a.example:443 at 203.0.113.7");
        assert_eq!(said.told()["verdict"], "allow");
    }
}
