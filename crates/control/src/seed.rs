//! The accounts that are there before anybody signs up: the one that `lantern dev` comes with, and the first one of a
//! server.
//!
//! Invariant: idempotent. A second start changes nothing, not even a password that was changed meanwhile.

use lantern_edge::Result;
use lantern_policy::{Role, Scope};
use lantern_store::system;
use lantern_types::{DEV_TENANT, DEV_USER, Secret, TenantId, UserId};

use crate::App;

/// Who signs in.
const EMAIL: &str = "admin@lantern.dev";
/// Known to everybody, which is why the address that `lantern dev` listens on is a loopback one.
const PASSWORD: &str = "lantern";

const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant_id) DO NOTHING";
const FIND: &str = "SELECT id FROM users WHERE tenant_id = $1 AND id = $2";
const USER: &str =
    "INSERT INTO users (tenant_id, id, email, email_key, name, role, password_hash, created_at)
    VALUES ($1, $2, $3, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, id) DO NOTHING";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[TENANT, FIND, USER];

/// An account to be made, with a tenant of its own.
struct Account {
    tenant: TenantId,
    slug: String,
    workspace: String,
    tier: &'static str,
    user: UserId,
    email: String,
    name: String,
}

/// Makes sure that `admin@lantern.dev` can sign in to the tenant `dev`, and answers with that tenant's scope.
pub async fn seed_dev(app: &App) -> Result<Scope> {
    let scope = Scope::of_lease(DEV_TENANT);
    let found =
        app.db.read(scope, |tx| Box::pin(async move { tx.one(FIND, &[DEV_USER.into()]).await })).await?;
    if found.is_some() {
        return Ok(scope);
    }
    let account = Account {
        tenant: DEV_TENANT,
        slug: "dev".to_owned(),
        workspace: "Development".to_owned(),
        tier: "team",
        user: DEV_USER,
        email: EMAIL.to_owned(),
        name: "Admin".to_owned(),
    };
    create(app, account, Secret::new(PASSWORD.to_owned())).await.map(|()| scope)
}

/// Makes sure that `email` has an account, with a tenant of its own and this password, and owns that tenant. Several
/// processes may try at once; one of them makes it.
pub async fn seed_first(app: &App, email: &str, password: Secret<String>) -> Result<()> {
    let email = email.trim().to_lowercase();
    if system::user_by_email(&app.db, email.clone()).await?.is_some() {
        return Ok(());
    }
    let name = email.split('@').next().unwrap_or("admin").to_owned();
    let tenant = TenantId::from_uuid(app.ids.uuid());
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    let account = Account {
        tenant,
        slug: format!("{letters}-{}", tenant.uuid().as_simple()),
        workspace: format!("{name}'s Workspace"),
        tier: "team",
        user: UserId::from_uuid(app.ids.uuid()),
        email: email.clone(),
        name,
    };
    match create(app, account, password).await {
        Err(error) if system::user_by_email(&app.db, email).await?.is_none() => Err(error),
        _ => Ok(()),
    }
}

/// Whether nobody has an account yet.
pub async fn nobody_yet(app: &App) -> Result<bool> {
    Ok(!system::any_user(&app.db).await?)
}

async fn create(app: &App, account: Account, password: Secret<String>) -> Result<()> {
    let hash = app.inner.passwords.hash(password).await?;
    let now = app.clock.now();
    let Account { tenant, slug, workspace, tier, user, email, name } = account;
    app.db
        .write(Scope::of_lease(tenant), move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[slug.into(), workspace.into(), tier.into(), now.into()]).await?;
                let role = Role::Owner.as_str();
                let user = [user.into(), email.into(), name.into(), role.into(), hash.into(), now.into()];
                tx.exec(USER, &user).await.map(drop)
            })
        })
        .await?;
    Ok(())
}
