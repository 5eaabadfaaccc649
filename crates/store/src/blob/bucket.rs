//! Blobs as objects of a bucket that speaks S3: what one process writes, every process reads.
//!
//! Invariant: an object is put under the digest of its bytes, which the store on the other side checks too, so doing
//! anything twice is the same as doing it once. Every request is signed and has a deadline, a fault that passes is
//! tried again a few times, and what remains is `Unavailable`: the caller keeps what it has and asks again.

use std::sync::Arc;

use bytes::Bytes;
use lantern_net::http::{Deadlines, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use lantern_net::sigv4::{Signed, Signer, authorization, stamp};
use lantern_net::{Client, Error as NetError, Reach};
use lantern_types::edge::Clock;
use lantern_types::{At, Digest, Dur, Secret, TenantId};

use super::name;
use crate::error::{Error, Result};

/// The largest object: far above the largest body that the limits let in.
const BLOB_MAX: usize = 256 << 20;
/// The most that is read of a refusal.
const REFUSAL_MAX: usize = 16 << 10;
/// How often one request goes out.
const ATTEMPTS_MAX: u32 = 4;
/// The wait after the first attempt; each further one is four times as long.
const WAIT: Dur = Dur::from_millis(100);
/// No attempt begins later than this after the first.
const BEGIN_MAX: Dur = Dur::from_secs(30);
/// The upload counts as waiting for the first byte.
const DEADLINES: Deadlines =
    Deadlines { first_byte: Dur::from_secs(20), idle: Dur::from_secs(10), total: Dur::from_secs(40) };

/// Where a bucket is and who asks.
#[derive(Clone, Debug)]
pub struct BucketOptions {
    /// `https://HOST[:PORT][/PATH]`, or `http` within the operator's own network.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What every object's name begins with; may be empty.
    pub prefix: String,
    /// Whether the bucket's name is in the path (`HOST/BUCKET/…`) or in the host (`BUCKET.HOST/…`).
    pub path_style: bool,
    /// Who asks.
    pub credentials: Credentials,
}

/// The operator's key for the bucket.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Which key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret<String>,
    /// What comes with a temporary key.
    pub session_token: Option<Secret<String>>,
}

/// A bucket, ready to be asked.
#[derive(Clone)]
pub(super) struct Bucket {
    options: Arc<BucketOptions>,
    /// `https://HOST[:PORT]`.
    origin: String,
    /// What the `host` header says.
    host: String,
    /// What comes before an object's name: begins and ends with a slash.
    base: String,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// One request, before it is signed.
struct Ask<'a> {
    method: Method,
    object: &'a str,
    body: Bytes,
    payload: Digest,
}

/// Why a bucket did not do it. Names no key and no header; the code is a word that the other side's documentation
/// explains.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("the bucket {bucket} does not exist there")]
    NoBucket { bucket: String },
    #[error("the credentials are refused ({code})")]
    Refused { code: String },
    #[error("the bucket is in another region{}", region.as_ref().map(|region| format!(": {region}")).unwrap_or_default())]
    OtherRegion { region: Option<String> },
    #[error("it answered {status} {code}")]
    Status { status: StatusCode, code: String },
    #[error("it gave back other bytes than it was given: is it an S3-compatible store?")]
    OtherBytes,
}

impl Fault {
    /// Whether the same request may succeed in a moment.
    fn passes(&self) -> bool {
        match self {
            Self::Net(
                NetError::Unreachable { .. } | NetError::Timeout { .. } | NetError::Interrupted { .. },
            ) => true,
            Self::Status { status, code } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 429) || code == "RequestTimeout"
            }
            _ => false,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        // Also a refusal: when the operator has mended it, the same call succeeds, and until then nothing is lost.
        Self::unavailable(fault)
    }
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Bucket {
    pub(super) fn new(options: BucketOptions, client: Client, clock: Arc<dyn Clock>) -> Result<Self> {
        let misuse = |why: String| Error::Misuse(why);
        let bucket = &options.bucket;
        if !plain(bucket, b".-_") || !(3..=63).contains(&bucket.len()) || bucket.starts_with('.') {
            return Err(misuse(format!("{bucket:?} is not the name of a bucket")));
        }
        if !plain(&options.prefix, b".-_/")
            || options.prefix.split('/').any(|part| matches!(part, "." | ".."))
        {
            return Err(misuse(format!(
                "the prefix {:?} may have letters, digits and ./_- only",
                options.prefix
            )));
        }
        if options.region.is_empty() || !plain(&options.region, b"-") {
            return Err(misuse(format!("{:?} is not the name of a region", options.region)));
        }
        let Endpoint { scheme, authority, path } = Endpoint::parse(&options.endpoint).map_err(misuse)?;
        let (host, mut base) = if options.path_style {
            (authority, format!("{path}/{bucket}/"))
        } else {
            (format!("{bucket}.{authority}"), format!("{path}/"))
        };
        let prefix = options.prefix.trim_matches('/');
        if !prefix.is_empty() {
            base.extend([prefix, "/"]);
        }
        let origin = format!("{scheme}://{host}");
        Ok(Self { options: Arc::new(options), origin, host, base, client, clock })
    }

    pub(super) async fn put(&self, tenant: TenantId, digest: Digest, sealed: Vec<u8>) -> Result<()> {
        if sealed.len() > BLOB_MAX {
            return Err(Error::Misuse(format!("a body of {} bytes is too large for a bucket", sealed.len())));
        }
        self.put_object(&name(tenant, digest), digest, sealed.into()).await?;
        Ok(())
    }

    pub(super) async fn get(&self, tenant: TenantId, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.get_object(&name(tenant, digest)).await?.map(Vec::from))
    }

    pub(super) async fn remove(&self, tenant: TenantId, digest: Digest) -> Result<()> {
        self.remove_object(&name(tenant, digest)).await?;
        Ok(())
    }

    /// Puts, gets and removes a small object of its own.
    pub(super) async fn check(&self) -> Result<()> {
        let words = Bytes::from(format!("lantern {}", stamp(self.clock.now())));
        let digest = Digest::of(&words);
        let object = format!("check/{digest}");
        self.put_object(&object, digest, words.clone()).await?;
        let found = self.get_object(&object).await?;
        self.remove_object(&object).await?;
        if found == Some(words) { Ok(()) } else { Err(Fault::OtherBytes.into()) }
    }

    async fn put_object(&self, object: &str, payload: Digest, body: Bytes) -> Result<(), Fault> {
        self.ask(Ask { method: Method::PUT, object, body, payload }).await.map(drop)
    }

    async fn get_object(&self, object: &str) -> Result<Option<Bytes>, Fault> {
        self.ask(empty(Method::GET, object)).await
    }

    async fn remove_object(&self, object: &str) -> Result<(), Fault> {
        self.ask(empty(Method::DELETE, object)).await.map(drop)
    }

    /// Asks until there is an answer that counts, at most a few times. `None` when the object is not there.
    async fn ask(&self, ask: Ask<'_>) -> Result<Option<Bytes>, Fault> {
        let (start, mut attempt) = (self.clock.now(), 1);
        loop {
            let fault = match self.once(&ask).await {
                Err(fault) if fault.passes() => fault,
                answer => return answer,
            };
            let wait = wait(attempt, ask.payload);
            if attempt == ATTEMPTS_MAX || self.clock.now().since(start) > BEGIN_MAX {
                return Err(fault);
            }
            tracing::debug!(error = %fault, attempt, "the bucket is asked again");
            self.clock.sleep(wait).await;
            attempt += 1;
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Option<Bytes>, Fault> {
        let path = format!("{}{}", self.base, ask.object);
        let headers = self.headers(ask, &path, self.clock.now())?;
        let request = Request {
            method: ask.method.clone(),
            url: format!("{}{path}", self.origin),
            headers,
            body: ask.body.clone(),
        };
        // The operator's own infrastructure: it may be anywhere.
        let mut reply = self.client.send(Reach::Private, request, DEADLINES).await?;
        let status = reply.status();
        if status.is_success() {
            return Ok(Some(reply.bytes(BLOB_MAX).await?));
        }
        let region = HeaderName::from_static("x-amz-bucket-region");
        let region = reply.header(&region).map(ToOwned::to_owned);
        let (words, _) = reply.up_to(REFUSAL_MAX).await?;
        let code = code(&String::from_utf8_lossy(&words));
        match (status.as_u16(), code.as_str()) {
            (_, "NoSuchBucket") => Err(Fault::NoBucket { bucket: self.options.bucket.clone() }),
            (404, _) if ask.method != Method::PUT => Ok(None),
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed") => Err(Fault::OtherRegion { region }),
            (401 | 403, _) | (_, "InvalidToken" | "ExpiredToken") => Err(Fault::Refused { code }),
            _ => Err(Fault::Status { status, code }),
        }
    }

    fn headers(&self, ask: &Ask<'_>, path: &str, at: At) -> Result<HeaderMap, NetError> {
        let (payload, stamp) = (ask.payload.to_string(), stamp(at));
        let credentials = &self.options.credentials;
        let mut signed =
            vec![("host", self.host.as_str()), ("x-amz-content-sha256", &payload), ("x-amz-date", &stamp)];
        if let Some(token) = &credentials.session_token {
            signed.push(("x-amz-security-token", token.expose()));
        }
        let signer = Signer {
            access_key_id: &credentials.access_key_id,
            secret_access_key: &credentials.secret_access_key,
            region: &self.options.region,
            service: "s3",
        };
        let request =
            Signed { method: ask.method.as_str(), path, query: "", headers: &signed, payload: ask.payload };
        let authorization = authorization(signer, request, at);
        let mut headers = HeaderMap::new();
        // The client itself says the host.
        for (name, text) in signed.into_iter().skip(1).chain([("authorization", authorization.as_str())]) {
            let invalid =
                |_| NetError::Invalid(format!("the header {name} has characters that none may have"));
            let mut value = HeaderValue::from_str(text).map_err(invalid)?;
            value.set_sensitive(matches!(name, "authorization" | "x-amz-security-token"));
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| NetError::Invalid(name.to_owned()))?,
                value,
            );
        }
        Ok(headers)
    }
}

fn empty(method: Method, object: &str) -> Ask<'_> {
    Ask { method, object, body: Bytes::new(), payload: Digest::of(b"") }
}

/// Between half and all of the full wait. What spreads the processes is the digest, which differs between bodies.
fn wait(attempt: u32, payload: Digest) -> Dur {
    let full = WAIT.times(4_u64.pow(attempt.saturating_sub(1).min(8)));
    let spread = payload.bytes().first().copied().map_or(0, u64::from);
    Dur::from_micros(full.micros() / 2) + Dur::from_micros(full.micros() / 512).times(spread)
}

/// The `<Code>` of a refusal, or nothing. Only a word is taken: the rest may repeat what was signed.
fn code(xml: &str) -> String {
    let found = xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let word = found.map_or("", |(word, _)| word);
    word.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

fn plain(text: &str, more: &[u8]) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
}

/// The parts of an endpoint.
struct Endpoint {
    scheme: String,
    /// As browsers write it: without the scheme's own port.
    authority: String,
    /// Without a slash at its end.
    path: String,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("the endpoint {text:?} is not like https://host or http://host:port");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().unwrap_or_default().to_owned();
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_ascii_lowercase();
        let path = uri.path().trim_end_matches('/').to_owned();
        let signed = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if signed || uri.query().is_some() || !plain(&path, b"./_-") {
            return Err(wrong());
        }
        let authority = match uri.port_u16().filter(|port| *port != usual) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        Ok(Self { scheme, authority, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_net::RealClock;

    fn options(endpoint: &str, path_style: bool) -> BucketOptions {
        BucketOptions {
            endpoint: endpoint.to_owned(),
            bucket: "bodies".to_owned(),
            region: "eu-central-1".to_owned(),
            prefix: "/lantern/".to_owned(),
            path_style,
            credentials: Credentials {
                access_key_id: "AK".to_owned(),
                secret_access_key: Secret::new("shh".to_owned()),
                session_token: Some(Secret::new("hush".to_owned())),
            },
        }
    }

    fn bucket(options: BucketOptions) -> Result<Bucket> {
        Bucket::new(options, Client::new().unwrap(), Arc::new(RealClock::new()))
    }

    #[test]
    fn where_an_object_is() {
        for (endpoint, path_style, want) in [
            ("https://s3.example.com", true, "https://s3.example.com/bodies/lantern/"),
            ("https://s3.example.com", false, "https://bodies.s3.example.com/lantern/"),
            ("https://S3.example.com:443/", true, "https://s3.example.com/bodies/lantern/"),
            ("http://127.0.0.1:9000", true, "http://127.0.0.1:9000/bodies/lantern/"),
            ("http://gate:80/store", true, "http://gate/store/bodies/lantern/"),
        ] {
            let made = bucket(options(endpoint, path_style)).unwrap();
            assert_eq!(format!("{}{}", made.origin, made.base), want);
            assert!(made.origin.ends_with(&made.host));
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let good = options("https://s3.example.com", true);
        assert!(bucket(good.clone()).is_ok());
        for endpoint in
            ["", "s3.example.com", "ftp://x", "https://", "https://me:pw@x", "https://x/?a", "https://x/a b"]
        {
            assert!(matches!(bucket(options(endpoint, true)), Err(Error::Misuse(_))), "{endpoint}");
        }
        for name in ["", "ab", "a/b/c", "a b c", "..", &"a".repeat(64)] {
            assert!(bucket(BucketOptions { bucket: name.to_owned(), ..good.clone() }).is_err(), "{name}");
        }
        for prefix in ["a b", "a?b", "../x", "a/./b", "ä"] {
            assert!(bucket(BucketOptions { prefix: prefix.to_owned(), ..good.clone() }).is_err(), "{prefix}");
        }
        assert!(bucket(BucketOptions { region: String::new(), ..good }).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let made = bucket(options("https://s3.example.com", true)).unwrap();
        let headers = made.headers(&empty(Method::GET, "x"), "/x", At::from_micros(0)).unwrap();
        let printed = format!("{made:?} {headers:?}");
        assert!(
            !printed.contains("shh") && !printed.contains("hush") && !printed.contains("Signature"),
            "{printed}"
        );
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for (attempt, least, most) in [(1, 50, 100), (2, 200, 400), (3, 800, 1_600)] {
            for byte in [0, 128, 255] {
                let waited = wait(attempt, Digest::from_bytes(&[byte; 32]).unwrap()).millis();
                assert!((least..=most).contains(&waited), "{attempt}: {waited}");
            }
        }
    }

    #[test]
    fn a_refusals_code_is_one_word() {
        for (xml, want) in [
            ("<Error><Code>SlowDown</Code><Message>x</Message></Error>", "SlowDown"),
            ("<Code>a b\n<x></Code>", "abx"),
            ("<Code>", ""),
            ("", ""),
        ] {
            assert_eq!(code(xml), want);
        }
    }

    proptest::proptest! {
        /// Of what a bucket answers only a word is taken, whatever it is.
        #[test]
        fn any_answer_gives_a_word_or_nothing(xml in "(<Code>|</Code>|<|>|[A-Za-z]{1,40}|\\PC|<Error>){0,10}") {
            let word = code(&xml);
            proptest::prop_assert!(word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            proptest::prop_assert!(word.is_empty() || xml.contains("<Code>"));
        }

        /// An endpoint that is read says the same when it is written and read once more.
        #[test]
        fn any_text_is_an_endpoint_or_refused(
            text in "(https?://|ftp:|//)?([a-zA-Z0-9.-]{0,9}|\\[::1\\]|[a-z]:[a-z]@h)(:[0-9]{0,6})?(/[a-z./?#é -]{0,8})?|\\PC{0,20}",
        ) {
            if let Ok(Endpoint { scheme, authority, path }) = Endpoint::parse(&text) {
                let again = Endpoint::parse(&format!("{scheme}://{authority}{path}"));
                proptest::prop_assert_eq!(again.map(|again| (again.scheme, again.authority, again.path)), Ok((scheme, authority, path)));
            }
        }
    }
}
