//! The account that is there before anybody signs up: the one of `dev`, or the one that the environment names.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use lantern_control::App;
use lantern_policy::Scope;
use lantern_types::Secret;

use super::advice::Advice;
use super::assemble::Mode;
use crate::env;

/// Who can log in once a server has started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accounts {
    /// The login of `dev`, which everybody knows, to the tenant of this scope.
    Dev(Scope),
    /// Those who have an account.
    Some,
    /// Nobody.
    None,
}

/// Makes the account when it is not there.
pub(super) async fn seed(app: &App, mode: Mode, address: SocketAddr) -> Result<Accounts> {
    if mode == Mode::Dev {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the dev login is known to everybody who can reach this address");
        }
        let seeded = lantern_control::seed_dev(app).await;
        return seeded.map(Accounts::Dev).context("cannot seed the dev tenant");
    }
    let Some((email, password)) = named(env::get(env::ADMIN_EMAIL), env::get(env::ADMIN_PASSWORD))? else {
        let nobody = lantern_control::nobody_yet(app).await;
        let nobody = nobody.context("cannot look for accounts")?;
        if !nobody {
            return Ok(Accounts::Some);
        }
        if app.signup() {
            tracing::warn!("there is no account yet, and whoever signs up first makes one");
        } else {
            tracing::warn!("nobody can log in: {}", first());
        }
        return Ok(Accounts::None);
    };
    let seeded = lantern_control::seed_first(app, &email, password).await;
    seeded.with_context(|| format!("cannot make the account of {email}"))?;
    Ok(Accounts::Some)
}

/// What makes it possible to log in at all. The rest of the command line is what the operator has typed.
pub(super) fn first() -> String {
    format!(
        "there is no account yet: start again with {}=you@example.com and {}=<12 characters or more>",
        env::ADMIN_EMAIL,
        env::ADMIN_PASSWORD
    )
}

/// The account that the environment names, if any.
fn named(email: Option<String>, password: Option<String>) -> Result<Option<(String, Secret<String>)>> {
    let Some(email) = email else { return Ok(None) };
    if !is_address(email.trim()) {
        let what = format!("{} is {email:?}, which is no address", env::ADMIN_EMAIL);
        return Err(Advice::config(what, "write it as you@example.com").into());
    }
    let password = password.with_context(|| {
        let what = format!("{} is not set, and {} is", env::ADMIN_PASSWORD, env::ADMIN_EMAIL);
        Advice::config(what, format!("set it beside {}, or unset both", env::ADMIN_EMAIL))
    })?;
    let password = Some(password).filter(|password| password.chars().count() >= 12).with_context(|| {
        let what = format!("{} needs at least 12 characters", env::ADMIN_PASSWORD);
        Advice::config(what, format!("set it beside {}, or unset both", env::ADMIN_EMAIL))
    })?;
    Ok(Some((email, Secret::new(password))))
}

/// Whether there is an @ with something on both sides, and nothing that no address has.
fn is_address(text: &str) -> bool {
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    plain && text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_an_address_and_a_password() {
        let long = "twelve letters";
        for (email, password, code) in [
            ("ada@example.com", Some(long), None),
            (" ada@localhost ", Some(long), None),
            ("\"a@b\"@example.com", Some(long), None),
            ("ab", Some(long), Some("LANTERN_ADMIN_EMAIL")),
            ("@example.com", Some(long), Some("LANTERN_ADMIN_EMAIL")),
            ("ada@", Some(long), Some("LANTERN_ADMIN_EMAIL")),
            ("ada lovelace@example.com", Some(long), Some("LANTERN_ADMIN_EMAIL")),
            ("ada@example.com", Some("short"), Some("LANTERN_ADMIN_PASSWORD")),
            ("ada@example.com", None, Some("LANTERN_ADMIN_PASSWORD")),
        ] {
            let made = named(Some(email.to_owned()), password.map(ToOwned::to_owned));
            let said = made.as_ref().err().map(|error| format!("{error:#}"));
            assert_eq!(said.is_some(), code.is_some(), "{email}: {said:?}");
            assert!(code.is_none_or(|code| said.unwrap_or_default().starts_with(code)), "{email}");
        }
        assert!(named(None, Some(long.to_owned())).unwrap().is_none());
    }
}
