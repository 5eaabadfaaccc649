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
pub struct Signer<'a> {
    /// The name of the key, which is no secret.
    pub access_key_id: &'a str,
    /// The key.
    pub secret_access_key: &'a Secret<String>,
    /// Where the signature counts: `eu-west-1`.
    pub region: &'a str,
    /// For what it counts: `s3`, `iam`.
    pub service: &'a str,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `GET`, `POST`, ….
    pub method: &'a str,
    /// As it is sent to `s3`; for every other service each segment is percent-encoded once more than that.
    pub path: &'a str,
    /// As it is sent: percent-encoded, its names in order.
    pub query: &'a str,
    /// Lower-case names in order, with `host` and every `x-amz-…` among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The SHA-256 of the body.
    pub payload: Digest,
}

/// The value of the `authorization` header of a request that is sent at `at`.
pub fn authorization(signer: Signer<'_>, request: Signed<'_>, at: At) -> String {
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
pub fn stamp(at: At) -> String {
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

    /// 30 August 2015, 12:36:00: the time of the suite of test vectors that AWS publishes (`aws-sig-v4-test-suite`).
    const SUITE: At = At::from_micros(1_440_938_160_000_000);
    const SUITE_HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const SUITE_DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");
    /// 24 May 2013, midnight: the time of the cases of the storage service
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).
    const STORAGE: At = At::from_micros(1_369_353_600_000_000);
    const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
    const EMPTY: (&str, &str) =
        ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

    fn said(request: Signed<'_>, service: &str, at: At) -> String {
        let (id, secret) = match service {
            "s3" => ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            _ => ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        };
        let secret = Secret::new(secret.to_owned());
        let signer = Signer { access_key_id: id, secret_access_key: &secret, region: "us-east-1", service };
        authorization(signer, request, at)
    }

    fn get<'a>(headers: &'a [(&'a str, &'a str)]) -> Signed<'a> {
        Signed { method: "GET", path: "/", query: "", headers, payload: Digest::of(b"") }
    }

    #[test]
    fn the_published_cases() {
        let suite = [SUITE_HOST, SUITE_DATE];
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let users = [form, ("host", "iam.amazonaws.com"), SUITE_DATE];
        let (plain, part) = ([HOST, EMPTY, DATE], [HOST, ("range", "bytes=0-9"), EMPTY, DATE]);
        let body = Digest::of(b"Welcome to Amazon S3.");
        let body_text = body.to_string();
        let put = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            HOST,
            ("x-amz-content-sha256", &body_text),
            DATE,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        for (name, request, (service, at), want) in [
            (
                "get-vanilla",
                get(&suite),
                ("service", SUITE),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                Signed { method: "POST", ..get(&suite) },
                ("service", SUITE),
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "the guide's list of users",
                Signed { query: "Action=ListUsers&Version=2010-05-08", ..get(&users) },
                ("iam", SUITE),
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
            (
                "a part of an object",
                Signed { path: "/test.txt", ..get(&part) },
                ("s3", STORAGE),
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "an object is put",
                Signed { method: "PUT", path: "/test%24file.text", payload: body, ..get(&put) },
                ("s3", STORAGE),
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "a bucket's lifecycle",
                Signed { query: "lifecycle=", ..get(&plain) },
                ("s3", STORAGE),
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "a list of objects",
                Signed { query: "max-keys=2&prefix=J", ..get(&plain) },
                ("s3", STORAGE),
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let said = said(request, service, at);
            assert!(said.ends_with(&format!(", Signature={want}")), "{name}: {said}");
        }
    }

    #[test]
    fn the_header_names_key_day_and_headers() {
        let want = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                    SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=";
        let said = said(get(&[HOST, EMPTY, DATE]), "s3", STORAGE);
        assert!(said.starts_with(want), "{said}");
    }

    #[test]
    fn a_signature_depends_on_everything() {
        let headers = [SUITE_HOST, SUITE_DATE];
        let base = Signed { method: "POST", path: "/a", payload: Digest::of(b"x"), ..get(&headers) };
        let usual = said(base, "service", SUITE);
        assert_eq!(usual, said(base, "service", SUITE));
        for (other, service, at) in [
            (Signed { method: "GET", ..base }, "service", SUITE),
            (Signed { path: "/b", ..base }, "service", SUITE),
            (Signed { query: "a=b", ..base }, "service", SUITE),
            (Signed { headers: &[SUITE_HOST], ..base }, "service", SUITE),
            (Signed { payload: Digest::of(b"y"), ..base }, "service", SUITE),
            (base, "iam", SUITE),
            (base, "service", At::from_micros(SUITE.micros() + 86_400_000_000)),
        ] {
            let signature = |said: String| said.rsplit_once('=').unwrap().1.to_owned();
            assert_ne!(signature(said(other, service, at)), signature(usual.clone()));
        }
    }

    #[test]
    fn a_time_has_no_fraction() {
        for (micros, want) in [
            (0, "19700101T000000Z"),
            (999_999, "19700101T000000Z"),
            (STORAGE.micros() + 1, "20130524T000000Z"),
        ] {
            assert_eq!(stamp(At::from_micros(micros)), want);
        }
    }
}
