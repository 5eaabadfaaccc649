//! How a secret is named, and the references that lead to one.
//!
//! Invariant: one grammar for every place that takes a reference, with the contract's older spellings as aliases. Text that begins as a
//! reference and is none is refused and never taken for a value. Whether there is such a secret is not known here.

use std::fmt;
use std::str::FromStr;

use crate::TenantId;

/// The longest name of a secret, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest part of a path that leads to a provider or a connector, in bytes.
const PART_BYTES_MAX: usize = 128;
/// The longest reference, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 512;

/// What every reference begins with.
const SCHEME: &str = "lantern.secret";
/// The tenant of whoever resolves the reference.
const OWN: &str = "__tenant__";

/// Why some text names no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is no name.
    #[error("expected 1 to 128 letters, digits, `-`, `_` or `.`, of which the first is a letter or a digit")]
    Name,
    /// It is no reference.
    #[error("expected a reference such as lantern.secret://tenant/NAME")]
    Reference,
}

/// The name of a secret: 1 to 128 ASCII letters, digits, `-`, `_` and `.`, of which the first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::Name)
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A secret of this name: of the tenant that resolves it, or of the one that is said, which must be the same.
    Secret {
        /// Whose, when that is said.
        tenant: Option<TenantId>,
        /// Its name.
        name: SecretName,
    },
    /// The key of the tenant's own provider of models of this name.
    Provider(String),
    /// A value of a connector that the tenant has installed.
    Connector {
        /// The installation.
        install: String,
        /// Which value; `oauth` is its token.
        key: String,
    },
}

impl Reference {
    /// Whether some text means to be a reference, and must be one.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads a reference in any of its spellings.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(Invalid::Reference);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(Invalid::Reference)?;
        // What stands in the environment of a box: the reference itself, behind the older scheme.
        let rest = rest
            .strip_prefix('/')
            .and_then(|inner| inner.strip_prefix(SCHEME))
            .filter(|inner| inner.starts_with("://"))
            .unwrap_or(rest);
        let read = match rest.strip_prefix("://") {
            Some(path) => secret(path),
            None => rest.strip_prefix('/').and_then(older),
        };
        read.ok_or(Invalid::Reference)
    }

    /// The reference to a secret of the tenant that resolves it.
    pub const fn to(name: SecretName) -> Self {
        Self::Secret { tenant: None, name }
    }
}

/// As it is written now, whichever spelling it was read from.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { tenant: None, name } => write!(f, "{SCHEME}://tenant/{name}"),
            Self::Secret { tenant: Some(tenant), name } => write!(f, "{SCHEME}://tenant/{tenant}/key/{name}"),
            Self::Provider(name) => write!(f, "{SCHEME}/llm/{name}"),
            Self::Connector { install, key } => write!(f, "{SCHEME}/connector/{install}/{key}"),
        }
    }
}

impl FromStr for Reference {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

/// `tenant/NAME`, `tenant/ID/key/NAME` and `__tenant__/key/NAME`.
fn secret(path: &str) -> Option<Reference> {
    let parts: Vec<&str> = path.split('/').collect();
    let (tenant, name) = match parts.as_slice() {
        ["tenant", name] | ["tenant", OWN, "key", name] | [OWN, "key", name] => (None, name),
        ["tenant", id, "key", name] => (Some(id.parse().ok()?), name),
        _ => return None,
    };
    Some(Reference::Secret { tenant, name: SecretName::parse(name).ok()? })
}

/// `llm/PROVIDER` and `connector/INSTALL/KEY`.
fn older(path: &str) -> Option<Reference> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["llm", name] => part(name).map(Reference::Provider),
        ["connector", install, key] => {
            Some(Reference::Connector { install: part(install)?, key: part(key)? })
        }
        _ => None,
    }
}

fn part(text: &str) -> Option<String> {
    let fits = (1..=PART_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
    fits.then(|| text.to_owned())
}

const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEV_TENANT;

    fn own(name: &str) -> Reference {
        Reference::to(SecretName::parse(name).unwrap())
    }

    #[test]
    fn every_spelling_of_a_reference_is_read_and_nothing_else() {
        let told = Reference::Secret { tenant: Some(DEV_TENANT), name: SecretName::parse("openai").unwrap() };
        let connector =
            |key: &str| Some(Reference::Connector { install: "github-1".to_owned(), key: key.to_owned() });
        for (text, want) in [
            ("lantern.secret://tenant/openai", Some(own("openai"))),
            ("lantern.secret://tenant/OPENAI_API.KEY-2", Some(own("OPENAI_API.KEY-2"))),
            ("lantern.secret://tenant/key", Some(own("key"))),
            ("lantern.secret://__tenant__/key/openai", Some(own("openai"))),
            ("lantern.secret://tenant/__tenant__/key/openai", Some(own("openai"))),
            ("lantern.secret://tenant/00000000-0000-0000-0000-000000000001/key/openai", Some(told.clone())),
            ("lantern.secret/lantern.secret://tenant/openai", Some(own("openai"))),
            ("lantern.secret/lantern.secret://__tenant__/key/openai", Some(own("openai"))),
            ("lantern.secret/llm/openai", Some(Reference::Provider("openai".to_owned()))),
            ("lantern.secret/connector/github-1/token", connector("token")),
            ("lantern.secret/connector/github-1/oauth", connector("oauth")),
            ("", None),
            ("openai", None),
            ("lantern.secret", None),
            ("lantern.secret://", None),
            ("lantern.secret://tenant", None),
            ("lantern.secret://tenant/", None),
            ("lantern.secret://tenant//openai", None),
            ("lantern.secret://tenant/openai/", None),
            ("lantern.secret://tenant/a/b", None),
            ("lantern.secret://tenant/acme/key/openai", None),
            ("lantern.secret://tenant/key/openai", None),
            ("lantern.secret://__tenant__/openai", None),
            ("lantern.secret://other/openai", None),
            ("lantern.secret://tenant/../openai", None),
            ("lantern.secret://tenant/..", None),
            ("lantern.secret://tenant/.hidden", None),
            ("lantern.secret://tenant/open%61i", None),
            ("lantern.secret://tenant/openai?version=1", None),
            ("lantern.secret://tenant/openai#1", None),
            ("lantern.secret://tenant/open ai", None),
            ("lantern.secret://tenant/ключ", None),
            ("lantern.secret://tenant/openai\n", None),
            (" lantern.secret://tenant/openai", None),
            ("Lantern.Secret://tenant/openai", None),
            ("lantern.secrets://tenant/openai", None),
            ("lantern.secret/", None),
            ("lantern.secret/llm", None),
            ("lantern.secret/llm/", None),
            ("lantern.secret/llm/a/b", None),
            ("lantern.secret/tenant/openai", None),
            ("lantern.secret/connector/github-1", None),
            ("lantern.secret/connector//oauth", None),
            ("lantern.secret/lantern.secret/llm/openai", None),
        ] {
            let read = Reference::parse(text);
            assert_eq!(read.clone().ok(), want, "{text:?}");
            if let Ok(reference) = read {
                assert_eq!(Reference::parse(&reference.to_string()), Ok(reference), "{text:?}");
            }
        }
        let long = format!("lantern.secret://tenant/{}", "x".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(Reference::parse(&long), Err(Invalid::Reference));
    }

    #[test]
    fn what_means_to_be_a_reference_is_no_value() {
        for (text, meant) in [
            ("lantern.secret://tenant/x", true),
            ("lantern.secret://tenant/a b", true),
            ("lantern.secret", true),
            (" Lantern.Secret/llm/x", true),
            ("sk-0123456789", false),
            ("lantern.secre", false),
            ("", false),
            ("é", false),
        ] {
            assert_eq!(Reference::is_meant(text), meant, "{text:?}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for (name, fine) in [
            ("a", true),
            ("9", true),
            ("Stripe_live-2.key", true),
            ("", false),
            ("-a", false),
            ("_a", false),
            (".a", false),
            ("a/b", false),
            ("a b", false),
            ("a\0", false),
            ("å", false),
        ] {
            assert_eq!(SecretName::parse(name).is_ok(), fine, "{name:?}");
        }
        assert!(SecretName::parse(&"x".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(SecretName::parse(&"x".repeat(NAME_BYTES_MAX + 1)).is_err());
    }
}
