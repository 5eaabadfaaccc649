//! Accounts: a person with a tenant of their own, which they own.
//!
//! Invariant: tenant and person are made together or not at all, and an address has one account, whatever the tenant. How a
//! password is kept is decided in `password.rs`.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::audit::Who;
use lantern_edge::request::Peer;
use lantern_edge::route::public_post;
use lantern_edge::{Body, Code, Created, Error, Fields, Model, Refusal, Result, Route, Witness};
use lantern_policy::{Role, Scope};
use lantern_store::system;
use lantern_types::edge::IdGen;
use lantern_types::{Secret, TenantId, UserId};

use super::session::{self, Device, EMAIL_BYTES_MAX, PASSWORD_BYTES_MAX, SignedIn};
use crate::App;

pub(super) const NAME_BYTES_MAX: usize = 200;
/// The contract's.
const PASSWORD_CHARS_MIN: usize = 12;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        public_post("/auth/signup", "Make an account with a tenant of its own, and sign in", signup)
            .refuses(&[Refusal::Conflict, Refusal::Forbidden, Refusal::RateLimited]),
    ]
}

const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant_id) DO NOTHING";
pub(super) const USER: &str =
    "INSERT INTO users (tenant_id, id, email, email_key, name, role, password_hash, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[TENANT, USER];

/// An account to be made.
pub(crate) struct Account {
    pub(crate) tenant: TenantId,
    pub(crate) slug: String,
    pub(crate) workspace: String,
    pub(crate) tier: &'static str,
    pub(crate) user: UserId,
    pub(crate) email: String,
    pub(crate) name: String,
}

impl Account {
    /// The account of somebody new. Without a name they are called after their address.
    pub(crate) fn new(ids: &dyn IdGen, email: String, name: Option<String>, tier: &'static str) -> Self {
        let (tenant, user) = (TenantId::from_uuid(ids.uuid()), UserId::from_uuid(ids.uuid()));
        let local = email.split('@').next().unwrap_or_default();
        let name = name.unwrap_or_else(|| local.to_owned());
        let letters = local.chars().filter(char::is_ascii_alphanumeric).take(24);
        let letters: String = letters.collect::<String>().to_ascii_lowercase();
        let mut random = [0; 4];
        ids.fill(&mut random);
        let slug = format!("{}-{}", if letters.is_empty() { "user" } else { &letters }, hex::encode(random));
        Self { tenant, slug, workspace: format!("{name}'s Workspace"), tier, user, email, name }
    }
}

/// Makes an account. `email_registered` when its address has one.
pub(crate) async fn create(app: &App, account: Account, password: Secret<String>) -> Result<()> {
    let hash = app.inner.passwords.hash(password).await?;
    let now = app.clock.now();
    let Account { tenant, slug, workspace, tier, user, email, name } = account;
    let key = email.to_lowercase();
    let made = app.db.write(Scope::of_lease(tenant), {
        let key = key.clone();
        move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[slug.into(), workspace.into(), tier.into(), now.into()]).await?;
                let role = Role::Owner.as_str();
                let words = [email.into(), key.into(), name.into(), role.into(), hash.into()];
                let user = [&[user.into()], &words[..], &[now.into()]].concat();
                tx.exec(USER, &user).await.map(drop)
            })
        }
    });
    match made.await {
        Err(lantern_store::Error::Conflict) if system::user_by_email(&app.db, key).await?.is_some() => {
            Err(Error::new(Code::EmailRegistered, "email already registered"))
        }
        made => Ok(made?),
    }
}

struct Signup {
    email: String,
    password: Secret<String>,
    name: Option<String>,
}

impl Model for Signup {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let email = address(fields);
        let password = new_password(fields, "password");
        let name = fields.text("name", NAME_BYTES_MAX).map(|name| name.trim().to_owned());
        let name = name.filter(|name| !name.is_empty());
        Some(Self { email: email?, password: password?, name })
    }
}

/// Reads an address of mail.
pub(super) fn address(fields: &mut Fields<'_>) -> Option<String> {
    let email = fields.required_text("email", EMAIL_BYTES_MAX).map(|text| text.trim().to_owned());
    if email.as_deref().is_some_and(|email| !is_address(email)) {
        fields.issue("email", "expected an address such as ada@example.com");
    }
    email
}

/// Reads a password that somebody chooses.
pub(super) fn new_password(fields: &mut Fields<'_>, name: &str) -> Option<Secret<String>> {
    let password = fields.required_text(name, PASSWORD_BYTES_MAX);
    if password.as_deref().is_some_and(|password| password.chars().count() < PASSWORD_CHARS_MIN) {
        fields.issue(name, format!("expected at least {PASSWORD_CHARS_MIN} characters"));
    }
    password.map(Secret::new)
}

/// Whether mail could go there: something before and something after one `@`, and nothing that no address has. Whether it
/// arrives, only mail can tell.
fn is_address(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"');
    let parts = text.split_once('@');
    !text.contains(odd)
        && parts
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

async fn signup(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(new): Body<Signup>,
) -> Result<Created<SignedIn>> {
    if !app.inner.signup {
        let words = "nobody can sign up here; whoever runs this server makes accounts";
        return Err(Error::new(Code::SignupClosed, words));
    }
    app.inner.signups.take(peer.0.ip(), app.clock.now()).map_err(|wait| {
        Error::new(Code::SignupRateLimited, "too many new accounts; please try again later").retry_after(wait)
    })?;
    let account = Account::new(&*app.ids, new.email, new.name, "personal");
    let key = account.email.to_lowercase();
    create(&app, account, new.password).await?;
    let made = system::user_by_email(&app.db, key).await?;
    let made = made.ok_or_else(|| Error::new(Code::Conflict, "the account was removed meanwhile"))?;
    witness.names(made.tenant, Who::Person(made.id), "auth.sign_up");
    tracing::info!(tenant = %made.tenant, user = %made.id, "signed up");
    let body = session::begin(&app, made, &Device::of(peer, &headers)).await?;
    Ok(Created { location: "/auth/me".to_owned(), body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_net::{RealClock, RealIds};
    use std::sync::Arc;

    #[test]
    fn what_mail_could_go_to_is_an_address() {
        for good in ["a@b", "ada.lovelace+x@example.co.uk", "用户@例子.公司"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", "Ada <a@b>", "a@b,c@d", "a@\u{0}b"] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_workspace_is_called_after_its_owner() {
        let ids = RealIds::new(Arc::new(RealClock::new()));
        for (email, name, workspace, slug) in [
            ("Ada.L@example.com", None, "Ada.L's Workspace", "adal-"),
            ("ada@example.com", Some("Ada"), "Ada's Workspace", "ada-"),
            ("用户@example.com", None, "用户's Workspace", "user-"),
        ] {
            let account = Account::new(&ids, email.to_owned(), name.map(str::to_owned), "personal");
            assert_eq!(account.workspace, workspace);
            assert!(
                account.slug.starts_with(slug) && account.slug.len() == slug.len() + 8,
                "{}",
                account.slug
            );
        }
    }
}
