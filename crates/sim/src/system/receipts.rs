//! Every run that is over has one receipt, by whichever process and after whichever crash, and the receipt is true.

use lantern_receipts::note::Note;
use lantern_store::{Vault, journal, receipts};
use lantern_types::Digest;
use lantern_verify::{Trust, verify};

use super::place::{Place, Told, unread};
use crate::check::{Violation, demand};

/// More than a story has.
const MANY: u32 = 100_000;

/// What must hold once nothing moves any more. Answers every receipt.
pub(super) async fn hold(place: &Place) -> Result<Vec<Vec<u8>>, Violation> {
    let keys = place.deps.notary.published().await.map_err(unread)?;
    let keys: Vec<_> = keys.into_iter().map(|published| published.key).collect();
    let everything = place.everything().await?;
    for (n, tenant) in place.tenants.iter().enumerate() {
        let issued = receipts::list(&place.db, tenant.scope, None, MANY).await.map_err(unread)?;
        let runs = everything.iter().filter(|(told, _)| told.tenant == n).count();
        let gapless = issued.iter().rev().zip(0..).all(|(issued, index)| issued.index == index);
        demand(gapless && issued.len() == runs, "receipts", || {
            format!("{} receipts for {runs} runs of tenant {n}", issued.len())
        })?;
        let head = receipts::checkpoint(&place.db, tenant.scope, None).await.map_err(unread)?;
        let size = head.map(|head| Note::parse(&head)).transpose().map_err(unread)?;
        let size = size.map_or(0, |note| note.checkpoint.size);
        demand(size == issued.len() as u64, "receipts", || {
            format!("the signed head covers {size} of {runs}")
        })?;
    }
    let mut files = Vec::new();
    for (told, _) in everything {
        let file = file(place, &told).await?;
        let report = verify(&file, Some(&keys));
        let holds =
            report.as_ref().is_ok_and(|report| report.trust == Trust::Key && report.derived.bounded == 0);
        demand(holds, "receipts", || {
            let why = report.err().map_or_else(|| "by other rules".to_owned(), |fault| fault.to_string());
            format!("{}: {why}\n{}", told.id, String::from_utf8_lossy(&file).replace("},{", "},\n{"))
        })?;
        files.push(file);
    }
    Ok(files)
}

/// A run's receipt as a file.
async fn file(place: &Place, told: &Told) -> Result<Vec<u8>, Violation> {
    let scope = place.scope(told);
    let issued = receipts::find(&place.db, scope, told.id).await.map_err(unread)?;
    let issued = issued.ok_or_else(|| unread(format!("{} has no receipt", told.id)))?;
    let written = receipts::written(&place.db, scope, &issued).await.map_err(unread)?;
    let written = written.ok_or_else(|| unread("the log has lost a receipt"))?;
    let mut appends = Vec::new();
    for stored in journal::read(&place.db, scope, told.id, 1, MANY).await.map_err(unread)? {
        let body =
            stored.body.as_deref().map_or_else(|| Ok(Digest::of(&[])), Vault::digest).map_err(unread)?;
        appends.push((stored.bytes, body));
    }
    written.bytes(Some(&appends)).map_err(unread)
}
