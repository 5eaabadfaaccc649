//! A person's own identities: by which issuers they sign in, linking one, and unlinking it.
//!
//! Invariant: nobody sees, links or unlinks another's. What is linked was proven a moment ago in the same browser, and whoever links it
//! shows their password again: a sign-in that was stolen links nothing.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::openapi::PAGING;
use lantern_edge::request::Peer;
use lantern_edge::route::{delete_route, fresh_post_route, get_route};
use lantern_edge::{
    Body, Code, Error, Fields, Model, NoContent, Page, Paging, Params, Path, Refusal, Result, Route,
    WithCookie, cookie,
};
use lantern_policy::action::{LinkIdentity, ListIdentities, UnlinkIdentity};
use lantern_policy::sso::{Found, decide};
use lantern_policy::{Act, Permit, Principal};
use lantern_store::identities::{self, IdentityRow};
use lantern_types::{At, IdentityId, Secret, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::passwords::{self, Caller};
use super::session::{PASSWORD_BYTES_MAX, not_signed_in};
use super::sso;
use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/auth/identities", "List by which issuers one signs in", list)
            .takes(&PAGING)
            .refuses(&[Refusal::Conflict]),
        fresh_post_route("/auth/identities", "Link what one came back from an issuer with", link)
            .refuses(&[Refusal::Conflict, Refusal::RateLimited]),
        delete_route("/auth/identities/{id}", "Unlink an issuer", unlink).refuses(&[Refusal::Conflict]),
    ]
}

struct Password(Secret<String>);

impl Model for Password {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.required_text("password", PASSWORD_BYTES_MAX).map(Secret::new).map(Self)
    }
}

/// By which issuer somebody signs in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[schema(value_type = String, format = "uuid")]
    id: IdentityId,
    /// The name of the provider in paths, while the server has one of this issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    issuer: String,
    /// The address that the issuer said when it was linked.
    email: String,
    created_at: String,
    last_used_at: String,
    #[serde(skip)]
    sort: At,
}

async fn list(
    permit: Permit<ListIdentities>,
    State(app): State<App>,
    params: Params,
) -> Result<Page<Identity>> {
    let user = who(&permit)?;
    let paging = Paging::of(&params)?;
    let before = paging.before.map(|(at, id)| (at, IdentityId::from_uuid(id)));
    let limit = paging.fetch();
    let rows = app.db.read(permit.scope(), move |tx| {
        Box::pin(async move { identities::list(tx, user, before, limit).await })
    });
    let shown = |row: IdentityRow| {
        let mut providers = app.inner.sso.providers.iter();
        let provider = providers.find(|provider| provider.said.issuer == row.issuer);
        Identity {
            id: row.id,
            provider: provider.map(|provider| provider.said.name.clone()),
            issuer: row.issuer,
            email: row.email,
            created_at: row.created_at.to_string(),
            last_used_at: row.used_at.to_string(),
            sort: row.created_at,
        }
    };
    let shown: Vec<Identity> = rows.await?.into_iter().map(shown).collect();
    Ok(Page::cut(shown, &paging, &params, |identity| (identity.sort, identity.id.uuid())))
}

/// Link what one came back from an issuer with, in the browser that came back: whoever the issuer says this is signs in to this account
/// from now on. `POST /auth/oauth/{provider}/start` with `link` begins.
async fn link(
    permit: Permit<LinkIdentity>,
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    Body(Password(password)): Body<Password>,
) -> Result<WithCookie<NoContent>> {
    who(&permit)?;
    cookie::from_page(&headers)?;
    let Caller { id, .. } = passwords::caller(&app, &permit, peer, password, "password").await?;
    let (scope, pass) = (permit.scope(), sso::shown(&app, &headers)?);
    let (pass, proven) = sso::proven(&app, pass, None).await?;
    if !proven.link {
        return Err(sso::expired());
    }
    let provider = sso::of(&app, &proven)?;
    // Whom the operator's rules would not let in is not linked either.
    let found = Found { linked: Some(scope.tenant()), ..Found::default() };
    decide(&provider.said.rules, proven.proof.said(), found).map_err(|_| {
        Error::new(Code::SsoNoAccount, "this issuer signs in nobody like this, or nobody of this tenant")
    })?;
    sso::taken(&app, pass).await?;
    sso::link_to(&app, scope.tenant(), id, proven.proof).await?;
    tracing::info!(tenant = %scope.tenant(), user = %id, provider = proven.provider, "linked an identity");
    Ok(WithCookie { cookie: sso::forgotten(&app)?, answer: NoContent })
}

async fn unlink(
    permit: Permit<UnlinkIdentity>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    let user = who(&permit)?;
    let not_found = || Error::new(Code::IdentityNotFound, "you have no such identity");
    let id: IdentityId = id.parse().map_err(|_| not_found())?;
    let unlinked = app
        .db
        .write(permit.scope(), move |tx| Box::pin(async move { identities::unlink(tx, user, id).await }));
    if !unlinked.await? {
        return Err(not_found());
    }
    tracing::info!(tenant = %permit.scope().tenant(), %user, identity = %id, "unlinked an identity");
    Ok(NoContent)
}

fn who<A: Act>(permit: &Permit<A>) -> Result<UserId> {
    match permit.actor().principal {
        Principal::User { id, .. } => Ok(id),
        Principal::Key { .. } => Err(not_signed_in()),
    }
}
