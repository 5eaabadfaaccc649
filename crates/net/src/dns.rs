//! Name resolution that hands out only addresses the egress rules allow.
//!
//! Invariant: the address that is checked is the address that is dialled, since the HTTP client connects to what this
//! resolver returns and asks nobody else. Hosts that are addresses already never come here: [`crate::http`] checks
//! those before sending.

use lantern_policy::egress::Rule;
use lantern_types::Denial;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::Unresolved;

/// Resolves through the operating system, then filters.
#[derive(Debug)]
pub(crate) struct GuardedDns(pub(crate) Rule);

impl Resolve for GuardedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(Unresolved)?;
            let mut open = found.filter(|address| rule.allows(address.ip())).peekable();
            if open.peek().is_none() {
                return Err(denied(name.as_str()).into());
            }
            Ok(Box::new(open.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Names the host only: what it resolves to inside the operator's network is not the tenant's business.
fn denied(host: &str) -> Denial {
    Denial::new("egress_denied", format!("{host} has no address that may be reached from here"))
}
