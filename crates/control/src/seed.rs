//! The accounts that are there before anybody signs up: the one that `lantern dev` comes with, and the first one of a
//! server.
//!
//! Invariant: idempotent. A second start changes nothing, not even a password that was changed meanwhile.

use lantern_edge::{Code, Result};
use lantern_policy::Scope;
use lantern_store::system;
use lantern_types::{DEV_TENANT, DEV_USER, Secret};

use crate::App;
use crate::features::identity::accounts::{Account, create};

/// Who signs in.
const EMAIL: &str = "admin@lantern.dev";
/// Known to everybody, which is why the address that `lantern dev` listens on is a loopback one.
const PASSWORD: &str = "lantern";

const FIND: &str = "SELECT id FROM users WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[FIND];

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
    let account = Account::new(&*app.ids, email, None, "team");
    match create(app, account, password).await {
        Err(error) if error.code() == Code::EmailRegistered => Ok(()),
        made => made,
    }
}

/// Whether nobody has an account yet.
pub async fn nobody_yet(app: &App) -> Result<bool> {
    Ok(!system::any_user(&app.db).await?)
}
