//! Images from registries: a tag becomes a digest, and what a digest names comes into the layout of this machine.
//!
//! Invariant: every request goes through the address guard of `lantern-net`, redirects and the places that tokens are fetched from
//! included; private addresses and plain HTTP are for registries that the operator lists, and for nobody whom those lead to. No byte of a
//! blob is under its name before all of it was read and found to be what its digest says, and none is read beyond the size that the
//! manifest gives. What a registry says of itself is believed nowhere. Knows no boxes.

mod challenge;
mod origin;
mod session;
#[cfg(test)]
mod tests;

use lantern_net::http::Client;
use lantern_policy::workload::{Image, Unfetched, Wanted};
use lantern_sandbox::{Blob, Images, Named};
use tokio::sync::Semaphore;

pub use origin::Origin;
use session::{Session, refused};

/// Images that are fetched at once.
const AT_ONCE: usize = 2;

/// The registries that this machine may fetch from.
pub struct Registries {
    client: Client,
    /// Those that may be at private addresses.
    private: Vec<Origin>,
    fetching: Semaphore,
}

impl Registries {
    /// Any public registry, and these.
    pub const fn new(client: Client, private: Vec<Origin>) -> Self {
        Self { client, private, fetching: Semaphore::const_new(AT_ONCE) }
    }

    /// Finds an image for this machine and fetches what it says of itself, its layers not yet: so whoever schedules it is told now
    /// what speaks against it. The answer names it by the digest of its own manifest, also where a list of images was asked for.
    pub async fn find(&self, images: &Images, wanted: &Wanted) -> Result<Image, Unfetched> {
        let mut session = self.session(&wanted.repository)?;
        images.begin().map_err(ours)?;
        let mut asked = wanted.reference();
        // A list names images, and no other lists.
        for _ in 0..2 {
            let (sha256, bytes) = session.manifest(&asked).await?;
            match Named::read(&bytes).map_err(bad)? {
                Named::Image { config } => {
                    let manifest = Blob { sha256: sha256.clone(), size: bytes.len() as u64 };
                    images.has_room(manifest.size.saturating_add(config.size)).map_err(bad)?;
                    // The manifest last: where it is, what it says of the image is.
                    if !images.has_blob(&config) {
                        session.blob(images, &config).await?;
                    }
                    keep(images, &manifest, &bytes)?;
                    let image = Image { repository: wanted.repository.clone(), sha256 };
                    images.check(&image).map_err(bad)?;
                    return Ok(image);
                }
                Named::List { here } => {
                    let here = here.ok_or_else(|| {
                        refused("the registry has this image for other machines, and not for this one")
                    })?;
                    asked = format!("sha256:{here}");
                }
            }
        }
        Err(refused("a list of images names another list"))
    }

    /// Fetches the layers of an image that was found, those that are not here.
    pub async fn layers(&self, images: &Images, image: &Image) -> Result<(), Unfetched> {
        let missing = images.missing(image).map_err(bad)?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut session = self.session(&image.repository)?;
        let _turn = self.fetching.acquire().await.map_err(|_| refused("the server stops"))?;
        // Another workload may have fetched them while this one waited.
        for layer in images.missing(image).map_err(bad)? {
            images.has_room(layer.size).map_err(bad)?;
            session.blob(images, &layer).await?;
        }
        Ok(())
    }

    fn session<'a>(&'a self, repository: &'a str) -> Result<Session<'a>, Unfetched> {
        let (host, path) = lantern_policy::workload::registry_of(repository).ok_or_else(|| {
            Unfetched::NotFound(format!(
                "{repository} is not on this machine, and names no registry that it could come from"
            ))
        })?;
        Ok(Session::new(&self.client, &self.private, host, path))
    }
}

fn keep(images: &Images, blob: &Blob, bytes: &[u8]) -> Result<(), Unfetched> {
    let mut incoming = images.incoming(blob).map_err(ours)?;
    incoming.write(bytes).map_err(bad)?;
    incoming.finish().map_err(bad)
}

/// Something about the image, or about this machine's disk.
fn bad(error: lantern_sandbox::Error) -> Unfetched {
    match error {
        lantern_sandbox::Error::Io { .. } => ours(error),
        error => Unfetched::Refused(error.to_string()),
    }
}

fn ours(error: lantern_sandbox::Error) -> Unfetched {
    let error: &dyn std::error::Error = &error;
    tracing::warn!(error, "an image could not be kept");
    Unfetched::Away("this machine cannot keep the image now".to_owned())
}
