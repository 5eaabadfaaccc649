//! Signatures of requests to AWS: Signature Version 4, as a function from data to text.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
//!
//! Invariant: what is signed is what is sent: method, path, query, the listed headers and the digest of the body.
//! Reads no clock.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use lantern_types::{At, Digest, Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Whose signature, and where it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signer<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a Secret<String>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Percent-encoded once more than it is sent.
    pub(super) path: &'a str,
    /// As it is sent: percent-encoded, its names in order.
    pub(super) query: &'a str,
    /// Lower-case names in order, with `host` and every `x-amz-…` among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The SHA-256 of the body.
    pub(super) payload: Digest,
}

/// The value of the `authorization` header of a request that is sent at `at`.
pub(super) fn authorization(signer: Signer<'_>, request: Signed<'_>, at: At) -> String {
    let stamp = stamp(at);
    let day = stamp.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", signer.region, signer.service);
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let digest = Digest::of(canonical(request, &names).as_bytes());
    let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{digest}");
    let signature = Digest::from_bytes(mac(key(signer, day).as_ref(), &text).as_ref());
    let signature = signature.map(|bytes| bytes.to_string()).unwrap_or_default();
    let credential = format!("{}/{scope}", signer.access_key_id);
    format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}")
}

/// The time of a request as the header `x-amz-date` says it: `20150830T123600Z`.
pub(super) fn stamp(at: At) -> String {
    let whole = At::from_micros(at.seconds().saturating_mul(1_000_000));
    whole.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}

fn canonical(request: Signed<'_>, names: &str) -> String {
    let Signed { method, path, query, headers, payload } = request;
    let mut lines = String::new();
    for (name, value) in headers {
        lines.extend([name, ":", value.trim(), "\n"]);
    }
    format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}")
}

/// The key of one day, region and service: the secret itself signs nothing else.
fn key(signer: Signer<'_>, day: &str) -> Tag {
    let mut secret = zeroize::Zeroizing::new(String::from("AWS4"));
    secret.push_str(signer.secret_access_key.expose());
    let day = mac(secret.as_bytes(), day);
    let region = mac(day.as_ref(), signer.region);
    let service = mac(region.as_ref(), signer.service);
    mac(service.as_ref(), "aws4_request")
}

fn mac(key: &[u8], text: &str) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 August 2015, 12:36:00.
    const AT: At = At::from_micros(1_440_938_160_000_000);
    const HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");

    fn said(request: Signed<'_>, service: &str, at: At) -> String {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        let signer =
            Signer { access_key_id: "AKIDEXAMPLE", secret_access_key: &secret, region: "us-east-1", service };
        authorization(signer, request, at)
    }

    /// From the suite of test vectors that AWS publishes (`aws-sig-v4-test-suite`), and the example of the guide.
    #[test]
    fn the_published_cases() {
        let get =
            Signed { method: "GET", path: "/", query: "", headers: &[HOST, DATE], payload: Digest::of(b"") };
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        for (name, request, service, want) in [
            (
                "get-vanilla",
                get,
                "service",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                Signed { method: "POST", ..get },
                "service",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "the guide's list of users",
                Signed {
                    query: "Action=ListUsers&Version=2010-05-08",
                    headers: &[form, ("host", "iam.amazonaws.com"), DATE],
                    ..get
                },
                "iam",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            let said = said(request, service, AT);
            assert!(said.ends_with(&format!(", Signature={want}")), "{name}: {said}");
        }
    }

    #[test]
    fn a_signature_depends_on_everything() {
        let base = Signed {
            method: "POST",
            path: "/a",
            query: "",
            headers: &[HOST, DATE],
            payload: Digest::of(b"x"),
        };
        let usual = said(base, "bedrock", AT);
        assert_eq!(usual, said(base, "bedrock", AT));
        for (other, service, at) in [
            (Signed { method: "GET", ..base }, "bedrock", AT),
            (Signed { path: "/b", ..base }, "bedrock", AT),
            (Signed { query: "a=b", ..base }, "bedrock", AT),
            (Signed { headers: &[HOST], ..base }, "bedrock", AT),
            (Signed { payload: Digest::of(b"y"), ..base }, "bedrock", AT),
            (base, "s3", AT),
            (base, "bedrock", At::from_micros(AT.micros() + 86_400_000_000)),
        ] {
            let signature = |said: String| said.rsplit_once('=').unwrap().1.to_owned();
            assert_ne!(signature(said(other, service, at)), signature(usual.clone()));
        }
    }
}
