//! Signatures of requests to an S3-compatible store: AWS Signature Version 4, as a function from data to text.
//!
//! Invariant: what is signed is what is sent: method, path, query, the listed headers and the digest of the body.
//! Reads no clock. The cases below are the published ones
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).

use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use lantern_types::{At, Digest, Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "s3";

/// Whose signature, and where it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signer<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a Secret<String>,
    pub(super) region: &'a str,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// As it is sent: percent-encoded.
    pub(super) path: &'a str,
    /// As it is sent: percent-encoded, its names in order.
    pub(super) query: &'a str,
    /// Lower-case names in order, with `host` and every `x-amz-…` among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The SHA-256 of the body, which the header `x-amz-content-sha256` repeats.
    pub(super) payload: Digest,
}

/// The value of the `authorization` header of a request that is sent at `at`.
pub(super) fn authorization(signer: Signer<'_>, request: Signed<'_>, at: At) -> String {
    let stamp = stamp(at);
    let day = stamp.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{SERVICE}/aws4_request", signer.region);
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let digest = Digest::of(canonical(request, &names).as_bytes());
    let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{digest}");
    let signature = hex::encode(mac(key(signer, day).as_ref(), &text));
    let credential = format!("{}/{scope}", signer.access_key_id);
    format!("{ALGORITHM} Credential={credential},SignedHeaders={names},Signature={signature}")
}

/// The time of a request as the header `x-amz-date` says it: `20130524T000000Z`.
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
    let service = mac(region.as_ref(), SERVICE);
    mac(service.as_ref(), "aws4_request")
}

fn mac(key: &[u8], text: &str) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 May 2013, midnight.
    const AT: At = At::from_micros(1_369_353_600_000_000);
    const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
    const EMPTY: (&str, &str) =
        ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

    fn signature(request: Signed<'_>) -> String {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let signer =
            Signer { access_key_id: "AKIAIOSFODNN7EXAMPLE", secret_access_key: &secret, region: "us-east-1" };
        authorization(signer, request, AT)
    }

    #[test]
    fn the_published_cases() {
        let get = Signed { method: "GET", path: "/", query: "", headers: &[], payload: Digest::of(b"") };
        let body = Digest::of(b"Welcome to Amazon S3.");
        let body_text = body.to_string();
        for (name, request, want) in [
            (
                "a part of an object",
                Signed { path: "/test.txt", headers: &[HOST, ("range", "bytes=0-9"), EMPTY, DATE], ..get },
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "an object is put",
                Signed {
                    method: "PUT",
                    path: "/test%24file.text",
                    headers: &[
                        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                        HOST,
                        ("x-amz-content-sha256", &body_text),
                        DATE,
                        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                    ],
                    payload: body,
                    ..get
                },
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "a bucket's lifecycle",
                Signed { query: "lifecycle=", headers: &[HOST, EMPTY, DATE], ..get },
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "a list of objects",
                Signed { query: "max-keys=2&prefix=J", headers: &[HOST, EMPTY, DATE], ..get },
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let said = signature(request);
            assert!(said.ends_with(&format!(",Signature={want}")), "{name}: {said}");
        }
    }

    #[test]
    fn the_header_names_key_day_and_headers() {
        let request = Signed {
            method: "GET",
            path: "/",
            query: "",
            headers: &[HOST, EMPTY, DATE],
            payload: Digest::of(b""),
        };
        let want = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                    SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=";
        assert!(signature(request).starts_with(want), "{}", signature(request));
    }

    #[test]
    fn a_time_has_no_fraction() {
        for (micros, want) in
            [(0, "19700101T000000Z"), (999_999, "19700101T000000Z"), (AT.micros() + 1, "20130524T000000Z")]
        {
            assert_eq!(stamp(At::from_micros(micros)), want);
        }
    }
}
