//! The questions to one registry about one repository: manifests and blobs, with the token that it wants.
//!
//! Invariant: a token is shown to the registry that asked for it and to nobody that it redirects to. Nobody is asked for a token but
//! over TLS, unless the operator lists it as plain.

use lantern_net::Reach;
use lantern_net::http::{Client, Deadlines, HeaderValue, Request, Response, StatusCode, header};
use lantern_policy::workload::Unfetched;
use lantern_sandbox::{Blob, Images, MANIFEST_MAX};
use lantern_types::{Dur, Secret};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::challenge;
use super::origin::Origin;
use super::{bad, ours};

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const REDIRECTS_MAX: usize = 5;
const TOKEN_BYTES_MAX: usize = 64 << 10;
const SMALL: Deadlines =
    Deadlines { first_byte: Dur::from_secs(20), idle: Dur::from_secs(20), total: Dur::from_secs(60) };
const LARGE: Deadlines =
    Deadlines { first_byte: Dur::from_secs(30), idle: Dur::from_secs(30), total: Dur::from_secs(1_800) };

/// Says why an image is not taken.
pub(super) fn refused(words: &str) -> Unfetched {
    Unfetched::Refused(words.to_owned())
}

pub(super) struct Session<'a> {
    client: &'a Client,
    private: &'a [Origin],
    base: String,
    path: &'a str,
    token: Option<Secret<String>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a Client, private: &'a [Origin], host: &'a str, path: &'a str) -> Self {
        let base = Origin::of(private, host).map_or_else(|| format!("https://{host}"), Origin::to_string);
        Self { client, private, base, path, token: None }
    }

    /// A manifest by its tag or digest, and the digest of what came: the one that was asked for, if it was one.
    pub(super) async fn manifest(&mut self, asked: &str) -> Result<(String, Vec<u8>), Unfetched> {
        let response = self.get(&format!("manifests/{asked}"), Some(MANIFESTS), SMALL).await?;
        let said = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let said = said.map(str::to_owned);
        let bytes = response.bytes(MANIFEST_MAX).await.map_err(|error| unread(&error))?;
        let sha256 = lantern_types::Digest::of(&bytes).to_string();
        let sha256 = sha256.strip_prefix("sha256:").unwrap_or(&sha256).to_owned();
        let wrong = |digest: &str| digest.strip_prefix("sha256:").is_some_and(|digest| digest != sha256);
        if wrong(asked) || said.as_deref().is_some_and(wrong) {
            return Err(refused("the registry sent a manifest that is not what its digest says"));
        }
        Ok((sha256, bytes.to_vec()))
    }

    /// Fetches a blob into the layout.
    pub(super) async fn blob(&mut self, images: &Images, blob: &Blob) -> Result<(), Unfetched> {
        let mut response = self.get(&format!("blobs/sha256:{}", blob.sha256), None, LARGE).await?;
        let length = response.header(&header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if length.is_some_and(|length| length != blob.size) {
            return Err(refused("the registry sends a blob of another size than its manifest says"));
        }
        let mut incoming = images.incoming(blob).map_err(ours)?;
        while let Some(piece) = response.chunk().await.map_err(|error| unread(&error))? {
            incoming.write(&piece).map_err(bad)?;
        }
        // What is checked is what was written; to wait for the disk is another thread's.
        let finished = tokio::task::spawn_blocking(move || incoming.finish()).await;
        finished.map_err(|_| Unfetched::Away("the server stops".to_owned()))?.map_err(bad)
    }

    /// Asks, with a token once one is wanted, and goes where it is led.
    async fn get(
        &mut self,
        what: &str,
        accept: Option<&'static str>,
        deadlines: Deadlines,
    ) -> Result<Response, Unfetched> {
        let url = format!("{}/v2/{}/{what}", self.base, self.path);
        let mut response = self.ask(&url, accept, deadlines).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.token.is_none() {
            let said = response.header(&header::WWW_AUTHENTICATE).map(str::to_owned);
            self.token = Some(self.fetch_token(said.as_deref().unwrap_or_default()).await?);
            response = self.ask(&url, accept, deadlines).await?;
        }
        for _ in 0..REDIRECTS_MAX {
            let Some(next) = response.redirect() else { return answered(response) };
            response = self.ask(&next, accept, deadlines).await?;
        }
        Err(refused("the registry redirects too often"))
    }

    async fn ask(
        &self,
        url: &str,
        accept: Option<&'static str>,
        deadlines: Deadlines,
    ) -> Result<Response, Unfetched> {
        let mut request = Request::get(url);
        if let Some(accept) = accept {
            request.headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let at_home = Origin::in_url(&self.base).is_some_and(|origin| origin.has(url));
        if let Some(token) = self.token.as_ref().filter(|_| at_home) {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| refused("the registry gave a token that cannot be sent"))?;
            value.set_sensitive(true);
            request.headers.insert(header::AUTHORIZATION, value);
        }
        let sent = self.client.send(self.reach(url)?, request, deadlines).await;
        sent.map_err(|error| unread(&error))
    }

    /// Where a URL may lead: what the operator lists may be private and plain, and nothing else.
    fn reach(&self, url: &str) -> Result<Reach, Unfetched> {
        if self.private.iter().any(|origin| origin.has(url)) {
            return Ok(Reach::Private);
        }
        match Origin::in_url(url) {
            Some(origin) if !origin.is_plain() => Ok(Reach::Public),
            _ => Err(refused("the registry leads to a place without TLS, which the operator does not list")),
        }
    }

    async fn fetch_token(&self, said: &str) -> Result<Secret<String>, Unfetched> {
        let challenge = challenge::read(said)
            .ok_or_else(|| refused("the registry wants credentials, and none are kept for it"))?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let glue = if challenge.realm.contains('?') { '&' } else { '?' };
        let scope = encode(&format!("repository:{}:pull", self.path));
        let service =
            challenge.service.map(|service| format!("service={}&", encode(&service))).unwrap_or_default();
        let url = format!("{}{glue}{service}scope={scope}", challenge.realm);
        let sent = self.client.send(self.reach(&url)?, Request::get(url), SMALL).await;
        let response = sent.map_err(|error| unread(&error))?;
        if !response.status().is_success() {
            return Err(refused("the registry gives no token for this image to who has no credentials"));
        }
        let bytes = response.bytes(TOKEN_BYTES_MAX).await.map_err(|error| unread(&error))?;
        let token = serde_json::from_slice::<Token>(&bytes).ok();
        let token =
            token.and_then(|token| token.token.or(token.access_token)).filter(|text| !text.is_empty());
        token.map(Secret::new).ok_or_else(|| refused("the registry gives no token that can be read"))
    }
}

fn answered(response: Response) -> Result<Response, Unfetched> {
    match response.status().as_u16() {
        200 => Ok(response),
        404 => Err(Unfetched::NotFound("the registry has no such image".to_owned())),
        401 | 403 => Err(refused("the registry does not give this image to who has no credentials")),
        status @ (408 | 429 | 500..=599) => {
            Err(Unfetched::Away(format!("the registry cannot answer now: status {status}")))
        }
        status => Err(Unfetched::Refused(format!("the registry answers with status {status}"))),
    }
}

fn unread(error: &lantern_net::Error) -> Unfetched {
    match error {
        lantern_net::Error::Denied(_)
        | lantern_net::Error::Invalid(_)
        | lantern_net::Error::TooLarge { .. } => Unfetched::Refused(error.to_string()),
        error => Unfetched::Away(error.to_string()),
    }
}
