//! The keys that receipts are signed with.
//!
//! Invariant: one is in use. Its secret half is sealed in its row, or is the operator's and in no row; when another takes its
//! place, the sealed half is destroyed and the public half stays, so that what it signed can be checked for ever.

use lantern_receipts::{Published, Signer, VerifyKey};
use lantern_types::Secret;
use zeroize::Zeroize as _;

use crate::db::{Db, SystemTx};
use crate::error::{Error, Result};
use crate::seal::{Place, Sealer};
use crate::value::{Row, Value};

const PURPOSE: &str = "receipts";

const IN_USE: &str = "SELECT public_key, sealed FROM signing_keys WHERE purpose = $1 AND retired_at IS NULL";
const LIST: &str = "SELECT public_key, created_at, retired_at FROM signing_keys WHERE purpose = $1
    ORDER BY created_at DESC, public_key";
const RETIRE: &str =
    "UPDATE signing_keys SET retired_at = $2, sealed = NULL WHERE purpose = $1 AND retired_at IS NULL";
const KEEP: &str =
    "INSERT INTO signing_keys (public_key, purpose, sealed, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING";
const AGAIN: &str = "UPDATE signing_keys SET retired_at = NULL WHERE public_key = $1 AND purpose = $2";

/// Every statement of this file, all of no tenant.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[IN_USE, LIST, RETIRE, KEEP, AGAIN];

/// The key in use, opened unless it was already. Without one, the operator's is, or else a new one.
pub(super) async fn in_use(
    db: &Db,
    sealer: &Sealer,
    own: Option<&Signer>,
    opened: Option<Signer>,
) -> Result<Signer> {
    let found = db.system_read(|tx| Box::pin(async move { tx.one(IN_USE, &[PURPOSE.into()]).await })).await?;
    let found =
        found.map(|row| Ok::<_, Error>((row.bytes("public_key")?, row.opt_bytes("sealed")?))).transpose()?;
    match (found, own) {
        (Some((public, _)), Some(own)) if public == own.public().bytes() => Ok(own.clone()),
        (_, Some(own)) => adopt(db, sealer, own).await,
        (Some((public, sealed)), None) => match (opened, sealed) {
            (Some(opened), _) if public == opened.public().bytes() => Ok(opened),
            (_, Some(sealed)) => open(sealer, &public, &sealed),
            (_, None) => {
                Err(Error::Sealed("receipts are signed with a key of the operator's that is not set"))
            }
        },
        (None, None) => make(db, sealer).await,
    }
}

/// Every key, the newest first.
pub(super) async fn published(db: &Db) -> Result<Vec<Published>> {
    let rows = db.system_read(|tx| Box::pin(async move { tx.all(LIST, &[PURPOSE.into()]).await })).await?;
    let read = |row: &Row| {
        let key = verify_key(&row.bytes("public_key")?)?;
        Ok(Published { key, since: row.at("created_at")?, until: row.opt_at("retired_at")? })
    };
    rows.iter().map(read).collect()
}

/// Puts a new key in the place of the one in use. Answers also whether that was the operator's.
pub(super) async fn replace(db: &Db, sealer: &Sealer) -> Result<(Signer, bool)> {
    let (signer, row) = fresh(sealer)?;
    let now = sealer.now();
    let own = db.system_write(move |tx| {
        Box::pin(async move {
            let before = tx.one(IN_USE, &[PURPOSE.into()]).await?;
            tx.exec(RETIRE, &[PURPOSE.into(), now.into()]).await?;
            keep(tx, &row).await?;
            Ok(before.map(|row| row.opt_bytes("sealed")).transpose()?.is_some_and(|sealed| sealed.is_none()))
        })
    });
    Ok((signer, own.await?))
}

/// Two processes may both try: the first row stands, and both use it.
async fn make(db: &Db, sealer: &Sealer) -> Result<Signer> {
    let (_, row) = fresh(sealer)?;
    let kept = db.system_write(move |tx| {
        Box::pin(async move {
            tx.exec(KEEP, &row).await?;
            tx.one(IN_USE, &[PURPOSE.into()]).await
        })
    });
    let row = kept.await?.ok_or_else(|| Error::internal("a signing key vanished as it was made"))?;
    let sealed = row.opt_bytes("sealed")?;
    let sealed =
        sealed.ok_or(Error::Sealed("receipts are signed with a key of the operator's that is not set"))?;
    open(sealer, &row.bytes("public_key")?, &sealed)
}

/// The operator's key takes the place of whichever is in use. It may be one that was in use before.
async fn adopt(db: &Db, sealer: &Sealer, own: &Signer) -> Result<Signer> {
    let (public, now) = (own.public().bytes().to_vec(), sealer.now());
    db.system_write(move |tx| {
        Box::pin(async move {
            tx.exec(RETIRE, &[PURPOSE.into(), now.into()]).await?;
            if tx.exec(AGAIN, &[public.clone().into(), PURPOSE.into()]).await? == 1 {
                return Ok(());
            }
            keep(tx, &[public.into(), PURPOSE.into(), Value::Null, now.into()]).await
        })
    })
    .await?;
    tracing::info!(key = own.public().id(), "receipts are signed with the operator's key from now on");
    Ok(own.clone())
}

async fn keep(tx: &mut SystemTx<'_>, row: &[Value]) -> Result<()> {
    // Somebody else was faster: asked again, theirs is found.
    if tx.exec(KEEP, row).await? == 1 { Ok(()) } else { Err(Error::Conflict) }
}

fn fresh(sealer: &Sealer) -> Result<(Signer, [Value; 4])> {
    let mut seed = [0; 32];
    sealer.fill(&mut seed);
    let signer = Signer::new(&Secret::new(seed));
    let public = signer.public().bytes();
    let sealed = sealer.seal_own(place(&public), &seed);
    seed.zeroize();
    let row = [public.to_vec().into(), PURPOSE.into(), sealed?.into(), sealer.now().into()];
    Ok((signer, row))
}

fn open(sealer: &Sealer, public: &[u8], sealed: &[u8]) -> Result<Signer> {
    let mut plain = sealer.open_own(place(public), sealed)?;
    let seed = <[u8; 32]>::try_from(plain.as_slice());
    plain.zeroize();
    let signer =
        Signer::new(&Secret::new(seed.map_err(|_| Error::Sealed("a signing key of another length"))?));
    if signer.public().bytes() == public {
        Ok(signer)
    } else {
        Err(Error::Sealed("a signing key under another name"))
    }
}

pub(super) fn verify_key(bytes: &[u8]) -> Result<VerifyKey> {
    let key = bytes.try_into().ok().and_then(VerifyKey::from_bytes);
    key.ok_or_else(|| Error::Corrupt("a public key that is none".into()))
}

const fn place(public: &[u8]) -> Place<'_> {
    Place { purpose: "signing_key", row: public }
}
