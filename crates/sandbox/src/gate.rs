//! The second gate: which class may be in which box, written down apart from the first.
//!
//! Whoever places a workload goes by what is the best box for it; this table only says what would be a breach. They are
//! two on purpose: a mistake in one is caught by the other.

use lantern_policy::workload::{Backend, Deliver, Isolation, Mode, Network, Placed};

use crate::error::{Error, Result};
use crate::launch::Given;

/// Refuses a workload whose class must not be in this box, or whose network or secrets would not be what its spec says.
pub fn check(placed: &Placed, mode: Mode, given: &Given<'_>) -> Result<()> {
    let network = placed.spec().network;
    if !joins(network, given.wire.is_some()) {
        return Err(Error::Refused(format!("no box here has a network of {}", network.as_str())));
    }
    let (class, backend) = (placed.spec().isolation, placed.backend());
    let listed = placed.spec().secrets.iter().map(|secret| (secret.env_name.as_str(), secret.deliver));
    if !listed.eq(given.secrets.iter().map(|secret| (secret.name.as_str(), secret.deliver))) {
        return Err(Error::Refused("a box has the secrets that its spec lists, and no others".to_owned()));
    }
    if let Some(secret) = given.secrets.iter().find(|secret| !hands(class, secret.deliver)) {
        let (class, name) = (class.as_str(), &secret.name);
        return Err(Error::Refused(format!(
            "{class} code must not have a secret in its environment: {name}"
        )));
    }
    if admits(backend, class, mode) {
        return Ok(());
    }
    Err(Error::Refused(format!("{} code must not run in a box of {}", class.as_str(), backend.as_str())))
}

/// Whether a box with this network is one that its spec allows: a wire leads to the node's own door and nowhere else.
pub const fn joins(network: Network, wired: bool) -> bool {
    match network {
        Network::None => !wired,
        Network::Allowlist => wired,
        Network::TenantVpc | Network::Open => false,
    }
}

/// Whether such code may be handed a secret in this way.
pub const fn hands(class: Isolation, deliver: Deliver) -> bool {
    match deliver {
        Deliver::File => true,
        Deliver::Env => matches!(class, Isolation::Trusted | Isolation::Standard),
    }
}

/// Whether such a box holds such code.
pub const fn admits(backend: Backend, class: Isolation, mode: Mode) -> bool {
    match backend {
        Backend::Process => mode.dev && matches!(class, Isolation::Trusted),
        Backend::Oci => match class {
            Isolation::Trusted => true,
            Isolation::Standard => mode.dev && mode.allow_oci_standard,
            _ => false,
        },
        Backend::Gvisor => matches!(class, Isolation::Trusted | Isolation::Standard | Isolation::Untrusted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_lists_where_to_has_a_wire() {
        let all = [Network::None, Network::Allowlist, Network::TenantVpc, Network::Open];
        assert_eq!(all.map(|network| joins(network, false)), [true, false, false, false]);
        assert_eq!(all.map(|network| joins(network, true)), [false, true, false, false]);
    }

    #[test]
    fn only_known_code_has_secrets_in_its_environment() {
        let env = Isolation::ALL.map(|class| hands(class, Deliver::Env));
        assert_eq!(env, [true, true, false, false, false, false]);
        assert!(Isolation::ALL.iter().all(|class| hands(*class, Deliver::File)));
    }

    #[test]
    fn only_what_is_listed_is_admitted() {
        let modes = [(false, false), (false, true), (true, false), (true, true)];
        let mut admitted = Vec::new();
        for (dev, allow_oci_standard) in modes {
            for backend in Backend::ALL {
                for class in Isolation::ALL {
                    if admits(backend, class, Mode { dev, allow_oci_standard }) {
                        let lax = if allow_oci_standard { "+lax" } else { "" };
                        let mode = if dev { "dev" } else { "serve" };
                        admitted.push(format!("{mode}{lax} {} {}", backend.as_str(), class.as_str()));
                    }
                }
            }
        }
        let strong =
            |mode: &str| ["trusted", "standard", "untrusted"].map(|class| format!("{mode} gvisor {class}"));
        let mut want = Vec::new();
        for mode in ["serve", "serve+lax"] {
            want.push(format!("{mode} oci trusted"));
            want.extend(strong(mode));
        }
        want.extend(["dev process trusted", "dev oci trusted"].map(str::to_owned));
        want.extend(strong("dev"));
        want.extend(
            ["dev+lax process trusted", "dev+lax oci trusted", "dev+lax oci standard"].map(str::to_owned),
        );
        want.extend(strong("dev+lax"));
        assert_eq!(admitted, want);
    }
}
