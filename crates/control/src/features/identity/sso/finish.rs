//! Being signed in: a pass is shown, and who it is of is decided.
//!
//! Invariant: a pass that was taken signs nobody else in, and it is taken before anything is changed. Whoever has a second factor shows
//! it here too, before their pass is taken, as often as anybody may try. Somebody new is made together with their identity, and has
//! a password that nobody knows.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::audit::Who;
use lantern_edge::request::Peer;
use lantern_edge::{Body, Code, Error, Fields, Json, Model, Result, WithCookie, Witness, cookie};
use lantern_policy::sso::{self as rules, Found, Refused, Verdict};
use lantern_policy::{Role, Scope};
use lantern_store::identities::{self, NewIdentity};
use lantern_store::sso as flows;
use lantern_store::system::{self, Account};
use lantern_types::{Digest, IdentityId, Secret, TenantId, UserId};

use super::super::accounts::USER;
use super::super::cookies;
use super::super::factors::CODE_BYTES_MAX;
use super::super::invitations::{self, Named};
use super::super::session::{self, Device, SignedIn, User, factored, rate_limited};
use super::super::slips::Slip;
use super::{PASS, Proven, expired, forget_cookie, provider, random, shown_cookie};
use crate::App;
use crate::sso::Proof;

/// What the audit log calls signing in by an issuer.
const SIGN_IN: &str = "auth.sso";
/// The same, and an account that was there is linked.
const LINK: &str = "auth.sso_link";
/// The same, as somebody new.
const JOIN: &str = "auth.sso_join";
const TEXT_BYTES_MAX: usize = 128;

pub(super) struct Exchange {
    code: Secret<String>,
    verifier: Option<Secret<String>>,
    totp: Option<String>,
}

impl Model for Exchange {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let code = fields.required_text("code", TEXT_BYTES_MAX).map(Secret::new);
        let verifier = fields.text("verifier", TEXT_BYTES_MAX).map(Secret::new);
        let totp = fields.text("totp", CODE_BYTES_MAX).filter(|code| !code.trim().is_empty());
        Some(Self { code: code?, verifier, totp })
    }
}

pub(super) struct Factor(Option<String>);

impl Model for Factor {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self(fields.text("code", CODE_BYTES_MAX).filter(|code| !code.trim().is_empty())))
    }
}

/// Sign a program in that was handed a code at its port: `verifier` is what it sent the digest of, and `totp` the code of a second
/// factor, where the account has one. The code is good until it has worked once.
pub(super) async fn exchange(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(Exchange { code, verifier, totp }): Body<Exchange>,
) -> Result<Json<SignedIn>> {
    app.inner.logins_of_peer.take(peer.0.ip(), app.clock.now()).map_err(rate_limited)?;
    let verifier = verifier.ok_or_else(expired)?;
    let bound = Some(Digest::of(verifier.expose().as_bytes()));
    let (pass, proven) = proven(&app, code.expose(), bound).await?;
    let account = come_in(&app, &witness, peer, (pass, proven), totp.as_deref()).await?;
    session::begin(&app, account, &Device::of(peer, &headers)).await.map(Json)
}

/// Sign in as a web page whose browser came back from an issuer. `code` is that of a second factor, where the account has one; the
/// page asks for it and sends this again.
pub(super) async fn session(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(Factor(code)): Body<Factor>,
) -> Result<WithCookie<WithCookie<Json<User>>>> {
    cookie::from_page(&headers)?;
    app.inner.logins_of_peer.take(peer.0.ip(), app.clock.now()).map_err(rate_limited)?;
    let (sso, text) = (&app.inner.sso, shown_cookie(&app.inner.sso, &headers).ok_or_else(expired)?);
    let (pass, proven) = proven(&app, text, None).await?;
    let account = come_in(&app, &witness, peer, (pass, proven), code.as_deref()).await?;
    let answer = cookies::shown(&app, account, peer, &headers).await?;
    Ok(WithCookie { cookie: forget_cookie(sso)?, answer })
}

/// What a pass says that was shown, and what it is taken by.
pub(in super::super) async fn proven(
    app: &App,
    text: &str,
    bound: Option<Digest>,
) -> Result<(Digest, Proven)> {
    if !text.starts_with(PASS) {
        return Err(expired());
    }
    let hash = Digest::of(text.as_bytes());
    let pass = flows::find_pass(&app.db, hash, app.clock.now()).await?;
    // A page's pass is no program's, and the other way round.
    let pass = pass.filter(|pass| pass.bound == bound).ok_or_else(expired)?;
    Ok((hash, serde_json::from_str(&pass.proof).map_err(Error::internal)?))
}

/// Uses a pass up, for whoever it is that is first.
pub(in super::super) async fn taken(app: &App, pass: Digest) -> Result<()> {
    if flows::take_pass(&app.db, pass).await? { Ok(()) } else { Err(expired()) }
}

/// Whom a proof is of here, as far as rows say.
struct Looked {
    linked: Option<(IdentityId, Account)>,
    account: Option<Account>,
    /// The account is somebody else to this issuer.
    other: bool,
    invited: Option<(Slip, Named)>,
}

async fn look(app: &App, proof: &Proof, invitation: Option<Slip>) -> Result<Looked> {
    let linked = flows::person(&app.db, proof.issuer.clone(), proof.subject.clone()).await?;
    let key = proof.email.to_lowercase();
    let account = system::user_by_email(&app.db, key.clone()).await?;
    let other = match &account {
        None => false,
        Some(account) => {
            let (id, issuer) = (account.id, proof.issuer.clone());
            let look = app.db.read(Scope::of_lease(account.tenant), move |tx| {
                Box::pin(async move { identities::is_of(tx, id, issuer).await })
            });
            look.await?
        }
    };
    let invited = match invitation {
        None => None,
        Some(slip) => invitations::named(app, slip).await?.map(|named| (slip, named)),
    };
    let invited = invited.filter(|(_, named)| named.email.to_lowercase() == key);
    Ok(Looked { linked, account, other, invited })
}

/// The account of whoever a pass is of, which is used up.
async fn come_in(
    app: &App,
    witness: &Witness,
    peer: Peer,
    (pass, Proven { provider: name, proof, link, invitation }): (Digest, Proven),
    code: Option<&str>,
) -> Result<Account> {
    if link {
        return Err(expired());
    }
    let provider = provider(&app.inner.sso, &name)?;
    let Looked { linked, account, other, invited } = look(app, &proof, invitation).await?;
    let found = Found {
        linked: linked.as_ref().map(|(_, account)| account.tenant),
        account: account.as_ref().map(|account| (account.tenant, other)),
        invited: invited.as_ref().map(|(slip, _)| slip.scope().tenant()),
    };
    let verdict = rules::decide(&provider.said.rules, proof.said(), found).map_err(|why| {
        if let Some(account) = linked.as_ref().map(|(_, account)| account).or(account.as_ref()) {
            witness.names(account.tenant, Who::Stranger(account.id), SIGN_IN);
        }
        refused(why)
    })?;
    let account = match (verdict, linked, account, invited) {
        (Verdict::Known, Some((identity, account)), ..) => {
            factored(app, &account, peer.0.ip(), code, (witness, SIGN_IN)).await?;
            taken(app, pass).await?;
            used(app, &account, identity).await?;
            account
        }
        (Verdict::Link, _, Some(account), _) => {
            factored(app, &account, peer.0.ip(), code, (witness, LINK)).await?;
            taken(app, pass).await?;
            link_to(app, account.tenant, account.id, proof).await?;
            account
        }
        (Verdict::Accept, .., Some((slip, Named { role, .. }))) => {
            taken(app, pass).await?;
            made(app, slip.scope(), proof, role, Some(slip)).await?
        }
        (Verdict::Join(tenant), ..) => {
            taken(app, pass).await?;
            made(app, Scope::of_lease(tenant), proof, Role::Member.as_str().to_owned(), None).await?
        }
        _ => return Err(refused(Refused::Nobody)),
    };
    let action = match verdict {
        Verdict::Known => SIGN_IN,
        Verdict::Link => LINK,
        Verdict::Accept | Verdict::Join(_) => JOIN,
    };
    witness.names(account.tenant, Who::Person(account.id), action);
    tracing::info!(tenant = %account.tenant, user = %account.id, provider = name, action, "came in by single sign-on");
    Ok(account)
}

fn refused(why: Refused) -> Error {
    match why {
        Refused::NotLinked => {
            let words = "an account has this address: sign in to it as before, and link this on its page";
            Error::new(Code::SsoNotLinked, words)
        }
        Refused::Nobody => {
            let words = "nobody here signs in as this; ask somebody of the tenant for an invitation";
            Error::new(Code::SsoNoAccount, words)
        }
    }
}

async fn used(app: &App, account: &Account, identity: IdentityId) -> Result<()> {
    let now = app.clock.now();
    let note = app.db.write(Scope::of_lease(account.tenant), move |tx| {
        Box::pin(async move { identities::used(tx, identity, now).await })
    });
    Ok(note.await?)
}

/// Links what an issuer says to an account. `identity_linked` when it is somebody's.
pub(in super::super) async fn link_to(app: &App, tenant: TenantId, user: UserId, proof: Proof) -> Result<()> {
    let (new, now) = (identity(app, user, proof), app.clock.now());
    let link = app.db.write(Scope::of_lease(tenant), move |tx| {
        Box::pin(async move { identities::link(tx, new, now).await })
    });
    match link.await {
        Err(lantern_store::Error::Conflict) => {
            Err(Error::new(Code::IdentityLinked, "this identity is an account's already"))
        }
        linked => Ok(linked?),
    }
}

fn identity(app: &App, user: UserId, proof: Proof) -> NewIdentity {
    let Proof { issuer, subject, email, .. } = proof;
    NewIdentity { id: IdentityId::from_uuid(app.ids.uuid()), user, issuer, subject, email }
}

/// Makes somebody new, with their identity, and uses their invitation up.
async fn made(app: &App, scope: Scope, proof: Proof, role: String, slip: Option<Slip>) -> Result<Account> {
    // One that nobody knows: they sign in by the issuer, until somebody who may makes them a reset.
    let password = Secret::new(hex::encode(random(&*app.ids)));
    let hash = app.inner.passwords.hash(password).await?;
    let (id, now) = (UserId::from_uuid(app.ids.uuid()), app.clock.now());
    let key = proof.email.to_lowercase();
    let local = || proof.email.split('@').next().unwrap_or_default().to_owned();
    let (email, name) = (proof.email.clone(), proof.name.clone().unwrap_or_else(local));
    let words = [email.into(), key.clone().into(), name.into(), role.into(), hash.into(), now.into()];
    let user = [&[id.into()], &words[..]].concat();
    let new = identity(app, id, proof);
    let make = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if let Some(slip) = slip
                && !invitations::take(tx, slip, now).await?
            {
                return Ok(false);
            }
            tx.exec(USER, &user).await?;
            identities::link(tx, new, now).await?;
            Ok(true)
        })
    });
    match make.await {
        Ok(true) => {}
        Ok(false) => return Err(refused(Refused::Nobody)),
        Err(lantern_store::Error::Conflict) => {
            // The address or the identity was taken meanwhile; or the operator names a tenant that is not there.
            tracing::warn!(tenant = %scope.tenant(), "somebody new cannot be made: is there such a tenant?");
            return Err(refused(Refused::Nobody));
        }
        Err(error) => return Err(error.into()),
    }
    system::user_by_email(&app.db, key).await?.ok_or_else(|| refused(Refused::Nobody))
}
