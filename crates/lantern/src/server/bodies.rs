//! Where bodies over 64 KiB live: a bucket when one is configured, else the data folder.
//!
//! Invariant: a bucket is used only after it has kept, given back and removed something; a server that cannot do that
//! does not start. A folder of one's own beside a shared database is allowed, and said.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use lantern_net::Client;
use lantern_store::{Blobs, BucketOptions, Credentials, Error};
use lantern_types::Secret;
use lantern_types::edge::Clock;
use serde::Deserialize;

use super::advice::Advice;
use super::config::Config;
use crate::env;

/// `[bodies]` in the configuration file.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bodies {
    /// The bucket's name; it switches the bucket on.
    pub(super) bucket: Option<String>,
    /// Where the bucket is, as `https://HOST[:PORT]`. Without it: the address that belongs to the region.
    pub(super) endpoint: Option<String>,
    /// The bucket's region. Without it: `us-east-1` when there is an endpoint.
    pub(super) region: Option<String>,
    /// What the names of all objects begin with.
    pub(super) prefix: String,
    /// Whether the bucket's name is in the path, not in the host. Without it: when there is an endpoint.
    pub(super) path_style: Option<bool>,
    /// Which key the bucket is asked with.
    pub(super) access_key_id: Option<String>,
    /// The key that the bucket is asked with.
    pub(super) secret_access_key: Option<String>,
}

const SETTINGS: &str = "see docs/serve.md for the settings of a bucket";

/// The bucket that is configured. The other settings count only when there is one: they may be there for others.
pub(super) fn bucket(
    file: Bodies,
    said: impl Fn(&'static str) -> Option<String>,
) -> Result<Option<BucketOptions>> {
    let Some(bucket) = said(env::S3_BUCKET).or(file.bucket) else { return Ok(None) };
    let own = said(env::S3_ENDPOINT).or(file.endpoint);
    let region =
        said(env::AWS_REGION).or(file.region).or_else(|| own.is_some().then(|| "us-east-1".to_owned()));
    let Some(region) = region else {
        let what = format!("a bucket needs {} or {}", env::S3_ENDPOINT, env::AWS_REGION);
        return Err(Advice::config(what, SETTINGS).into());
    };
    let path_style = match said(env::S3_PATH_STYLE).as_deref() {
        Some("true" | "1") => true,
        Some("false" | "0") => false,
        Some(other) => {
            let what = format!("{} is {other:?}", env::S3_PATH_STYLE);
            return Err(Advice::config(what, "write true or false").into());
        }
        None => file.path_style.unwrap_or_else(|| own.is_some()),
    };
    let id = said(env::AWS_ACCESS_KEY_ID).or(file.access_key_id);
    let secret = said(env::AWS_SECRET_ACCESS_KEY).or(file.secret_access_key);
    let (Some(access_key_id), Some(secret)) = (id, secret) else {
        let what =
            format!("a bucket needs both {} and {}", env::AWS_ACCESS_KEY_ID, env::AWS_SECRET_ACCESS_KEY);
        return Err(Advice::config(what, SETTINGS).into());
    };
    let endpoint = own.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let credentials = Credentials {
        access_key_id,
        secret_access_key: Secret::new(secret),
        session_token: said(env::AWS_SESSION_TOKEN).map(Secret::new),
    };
    let prefix = said(env::S3_PREFIX).unwrap_or(file.prefix);
    Ok(Some(BucketOptions { endpoint, bucket, region, prefix, path_style, credentials }))
}

/// The configured place, asked whether it works.
pub(super) async fn open(config: &Config, client: &Client, clock: &Arc<dyn Clock>) -> Result<Blobs> {
    let Some(options) = config.bucket.clone() else {
        if config.postgres.is_some() {
            tracing::warn!(
                folder = %config.data_dir.display(),
                "bodies over 64 KiB lie in this process's own data folder; another process on this database can read \
                 them only when it shares that folder, or when all of them are given one bucket ({})",
                env::S3_BUCKET,
            );
        }
        return Ok(Blobs::folder(&config.data_dir));
    };
    let context = format!(
        "cannot keep large bodies in the bucket {} at {} (see {}, {}, {} and the AWS_ keys)",
        options.bucket,
        options.endpoint,
        env::S3_BUCKET,
        env::S3_ENDPOINT,
        env::AWS_REGION,
    );
    let blobs = Blobs::bucket(options, &config.data_dir, client.clone(), clock.clone());
    let checked = match blobs {
        Ok(blobs) => blobs.check().await.map(|()| blobs),
        Err(error) => Err(error),
    };
    let next = format!("{SETTINGS}, and try it with the provider's own tool");
    checked.map_err(|error| why(error).context(Advice::new("bucket_unusable", context, next)))
}

/// What the bucket said, without the store's words around it.
fn why(error: Error) -> anyhow::Error {
    match error {
        Error::Unavailable(source) => anyhow!(source),
        Error::Misuse(text) => anyhow!(text),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Said<'a> = &'a [(&'static str, &'a str)];

    fn decide(file: &str, said: Said<'_>) -> Result<Option<BucketOptions>> {
        let find = |name| said.iter().find(|(said, _)| *said == name).map(|(_, value)| (*value).to_owned());
        bucket(toml::from_str(file).unwrap(), find)
    }

    const KEYS: Said<'_> = &[(env::AWS_ACCESS_KEY_ID, "AK"), (env::AWS_SECRET_ACCESS_KEY, "shh")];

    #[test]
    fn a_bucket_is_complete_or_refused() {
        assert!(decide("", KEYS).unwrap().is_none(), "keys alone are somebody else's");
        for (file, said, want) in [
            (
                "bucket = \"b\"\nregion = \"eu-central-1\"",
                KEYS,
                Some(("https://s3.eu-central-1.amazonaws.com", "eu-central-1", false)),
            ),
            (
                "bucket = \"b\"\nendpoint = \"http://m:9000\"",
                KEYS,
                Some(("http://m:9000", "us-east-1", true)),
            ),
            (
                "bucket = \"b\"\nendpoint = \"http://m:9000\"\npath_style = false\nregion = \"x\"",
                KEYS,
                Some(("http://m:9000", "x", false)),
            ),
            (
                "bucket = \"b\"\nregion = \"x\"\naccess_key_id = \"AK\"\nsecret_access_key = \"shh\"",
                &[][..],
                Some(("https://s3.x.amazonaws.com", "x", false)),
            ),
            ("bucket = \"b\"", KEYS, None),
            ("bucket = \"b\"\nregion = \"x\"", &[], None),
            ("bucket = \"b\"\nregion = \"x\"\naccess_key_id = \"AK\"", &[], None),
        ] {
            let made = decide(file, said).ok().flatten();
            let made = made.as_ref().map(|it| (it.endpoint.as_str(), it.region.as_str(), it.path_style));
            assert_eq!(made, want, "{file}");
        }
    }

    #[test]
    fn the_environment_wins_and_is_checked() {
        let said = [
            KEYS,
            &[
                (env::S3_BUCKET, "said"),
                (env::S3_ENDPOINT, "http://said:1"),
                (env::S3_PREFIX, "p"),
                (env::S3_PATH_STYLE, "false"),
                (env::AWS_SESSION_TOKEN, "token"),
            ],
        ]
        .concat();
        let made = decide("bucket = \"file\"\nendpoint = \"http://file:1\"\nprefix = \"q\"", &said)
            .unwrap()
            .unwrap();
        let names = (made.bucket.as_str(), made.endpoint.as_str(), made.prefix.as_str());
        assert_eq!(names, ("said", "http://said:1", "p"));
        assert!(!made.path_style && made.credentials.session_token.is_some());
        assert!(!format!("{made:?}").contains("shh"));
        let odd =
            [KEYS, &[(env::S3_BUCKET, "b"), (env::AWS_REGION, "x"), (env::S3_PATH_STYLE, "maybe")]].concat();
        for odd in [odd, vec![(env::S3_BUCKET, "b")], vec![(env::S3_BUCKET, "b"), (env::AWS_REGION, "x")]] {
            assert_eq!(
                super::super::advice::failure(&decide("", &odd).unwrap_err()).code.as_deref(),
                Some("invalid_config")
            );
        }
    }
}
