//! A scripted issuer: OpenID Connect as an issuer speaks it, and GitHub as it does, over real connections, with keys of its own.
//!
//! It believes what issuers believe: a code is good once, for who shows the verifier, the secret and the address that it was asked
//! with. What it says of somebody, and how badly it behaves, is the script's. The tests of the program use it too. The keys are made
//! for this and known to everybody.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lantern_types::Digest;
use serde_json::{Value, json};

pub(crate) const CLIENT: &str = "lantern-client";
/// With letters that a form and a header must take apart.
pub(crate) const SECRET: &str = "s&cret:+ü/=";

/// What an issuer signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    /// ES256 by its first or second key.
    Es(usize),
    /// RS256.
    Rs,
    /// With nothing at all.
    None,
    /// HS256 by the text of its public key.
    PublicKeyAsSecret,
}

/// How an answer is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Html,
    Huge,
    Hangs,
    Fails,
}

/// What it says and does.
pub(crate) struct Script {
    /// Seconds since 1970.
    pub(crate) now: i64,
    pub(crate) subject: String,
    /// What its tokens say beside or in place of the usual; `null` leaves out.
    pub(crate) claims: Value,
    pub(crate) signs: Signs,
    /// Keys that it publishes.
    pub(crate) published: Vec<Signs>,
    /// The key that its tokens name, in place of the one that signs.
    pub(crate) names: Option<String>,
    /// What it says of itself beside or in place of the usual.
    pub(crate) description: Value,
    /// Where it misbehaves, by the beginning of a path.
    pub(crate) trouble: Option<(&'static str, Trouble)>,
    /// Addresses of somebody at GitHub.
    pub(crate) addresses: Value,
}

struct Code {
    nonce: Option<String>,
    challenge: String,
    redirect: String,
}

#[derive(Default)]
struct Seen {
    codes: BTreeMap<String, Code>,
    made: usize,
    asked: Vec<String>,
}

/// An issuer that runs until it is dropped.
pub(crate) struct Issuer {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Seen>>,
}

fn key(signs: Signs) -> (EncodingKey, Algorithm, &'static str) {
    let der = |text: &str| hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    match signs {
        Signs::Es(1) => {
            (EncodingKey::from_ec_der(&der(include_str!("issuer/ec1.hex"))), Algorithm::ES256, "ec1")
        }
        Signs::Es(_) => {
            (EncodingKey::from_ec_der(&der(include_str!("issuer/ec2.hex"))), Algorithm::ES256, "ec2")
        }
        Signs::Rs => {
            (EncodingKey::from_rsa_der(&der(include_str!("issuer/rsa.hex"))), Algorithm::RS256, "rsa")
        }
        Signs::None | Signs::PublicKeyAsSecret => {
            let public = public(Signs::Rs)["n"].as_str().unwrap().to_owned();
            (EncodingKey::from_secret(public.as_bytes()), Algorithm::HS256, "rsa")
        }
    }
}

fn public(signs: Signs) -> Value {
    let (key, algorithm, name) = key(signs);
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = name.into();
    jwk["use"] = "sig".into();
    jwk
}

fn merged(mut usual: Value, other: &Value) -> Value {
    for (name, value) in other.as_object().into_iter().flatten() {
        usual[name] = value.clone();
    }
    usual.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    usual
}

/// The pairs of a query or a form.
pub(crate) fn pairs(text: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
            bytes.push(match byte {
                b'%' => u8::try_from(digit() * 16 + digit()).unwrap(),
                b'+' => b' ',
                byte => byte,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (plain(name), plain(value))).collect()
}

impl Issuer {
    /// One that says of Ada what it must. Its clock stands still.
    pub(crate) fn start(now: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            now,
            subject: "ada-1".to_owned(),
            claims: json!({}),
            signs: Signs::Es(1),
            published: vec![Signs::Es(1), Signs::Rs],
            names: None,
            description: json!({}),
            trouble: None,
            addresses: json!([{"email": "ada@example.com", "primary": true, "verified": true}]),
        };
        let issuer = Self { url, script: Arc::new(Mutex::new(script)), seen: Arc::default() };
        let (url, script, seen) = (issuer.url.clone(), issuer.script.clone(), issuer.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = Desk { url: url.clone(), script: script.clone(), seen: seen.clone() };
                std::thread::spawn(move || desk.serve(stream));
            }
        });
        issuer
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// How often a path was asked for until now.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.seen.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }

    /// What its page does once somebody has said who they are and yes: the address that their browser goes back to.
    pub(crate) fn consent(&self, sent_to: &str) -> String {
        let (page, query) = sent_to.split_once('?').unwrap();
        assert!(
            [format!("{}/authorize", self.url), format!("{}/login/oauth/authorize", self.url)]
                .contains(&page.to_owned())
        );
        let asked = pairs(query);
        assert_eq!((asked["response_type"].as_str(), asked["client_id"].as_str()), ("code", CLIENT));
        assert_eq!(asked["code_challenge_method"], "S256");
        let mut seen = self.seen.lock().unwrap();
        seen.made += 1;
        let code = format!("code+{}&", seen.made);
        let made = Code {
            nonce: asked.get("nonce").cloned(),
            challenge: asked["code_challenge"].clone(),
            redirect: asked["redirect_uri"].clone(),
        };
        seen.codes.insert(code.clone(), made);
        let escaped = code.replace('+', "%2B").replace('&', "%26");
        format!("{}?code={escaped}&state={}", asked["redirect_uri"], asked["state"])
    }
}

/// One connection's side of it.
struct Desk {
    url: String,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Seen>>,
}

impl Desk {
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut length, mut authorization) = (String::new(), 0, String::new());
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or_default() <= 2 {
                break;
            }
            let (name, value) = header.trim().split_once(": ").unwrap();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => value.clone_into(&mut authorization),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = line.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
        self.seen.lock().unwrap().asked.push(path.clone());
        let trouble =
            self.script.lock().unwrap().trouble.filter(|(at, _)| path.starts_with(at)).map(|(_, what)| what);
        let (status, body) = match trouble {
            Some(Trouble::Hangs) => {
                // Until the other side gives up.
                drop(reader.read(&mut [0]));
                return;
            }
            Some(Trouble::Fails) => ("500 Internal Server Error", "oops".to_owned()),
            Some(Trouble::Html) => ("200 OK", "<!doctype html><script>alert(1)</script>".to_owned()),
            Some(Trouble::Huge) => ("200 OK", format!("{{\"issuer\":\"{}\"}}", "a".repeat(1 << 20))),
            None => match self.answer(&path, &String::from_utf8(body).unwrap(), &authorization) {
                Some(answer) => ("200 OK", answer.to_string()),
                None => ("400 Bad Request", json!({"error": "invalid_grant"}).to_string()),
            },
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
    }

    fn answer(&self, path: &str, body: &str, authorization: &str) -> Option<Value> {
        let script = self.script.lock().unwrap();
        let at = |path: &str| format!("{}{path}", self.url);
        match path {
            "/.well-known/openid-configuration" => {
                let usual = json!({
                    "issuer": self.url, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
                    "jwks_uri": at("/keys"), "scopes_supported": ["openid"],
                });
                Some(merged(usual, &script.description))
            }
            "/keys" => {
                let strange = json!({"kty": "strange", "kid": "ec9", "x": 1});
                let keys: Vec<Value> =
                    script.published.iter().map(|signs| public(*signs)).chain([strange]).collect();
                Some(json!({ "keys": keys }))
            }
            "/token" => {
                let form = pairs(body);
                let escaped = "s%26cret%3A%2B%C3%BC%2F%3D";
                let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{escaped}")));
                let posted = (
                    form.get("client_id").map(String::as_str),
                    form.get("client_secret").map(String::as_str),
                );
                let known = authorization == basic || posted == (Some(CLIENT), Some(SECRET));
                let code =
                    self.redeemed(&form).filter(|_| known && form["grant_type"] == "authorization_code")?;
                Some(
                    json!({"access_token": "at", "token_type": "Bearer", "id_token": token(&script, &self.url, &code)}),
                )
            }
            "/login/oauth/access_token" => {
                let form = pairs(body);
                let known = form["client_id"] == CLIENT && form["client_secret"] == SECRET;
                match self.redeemed(&form).filter(|_| known) {
                    Some(_) => Some(json!({"access_token": "gho_1", "token_type": "bearer"})),
                    // As GitHub says it.
                    None => Some(json!({"error": "bad_verification_code"})),
                }
            }
            "/api/v3/" => Some(json!({"user_url": at("/user")})),
            _ if authorization != "Bearer gho_1" => None,
            "/api/v3/user" => {
                Some(json!({"id": 4711, "login": "ada", "name": "Ada", "email": "public@elsewhere.example"}))
            }
            "/api/v3/user/emails" => Some(script.addresses.clone()),
            _ => None,
        }
    }

    /// What a code was given for, once.
    fn redeemed(&self, form: &BTreeMap<String, String>) -> Option<Code> {
        let code = self.seen.lock().unwrap().codes.remove(form.get("code")?)?;
        let shown = B64.encode(Digest::of(form.get("code_verifier")?.as_bytes()).bytes());
        (shown == code.challenge && form.get("redirect_uri") == Some(&code.redirect)).then_some(code)
    }
}

fn token(script: &Script, url: &str, code: &Code) -> String {
    let usual = json!({
        "iss": url, "sub": script.subject, "aud": CLIENT, "iat": script.now, "exp": script.now + 300, "nonce": code.nonce,
        "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
    });
    let claims = merged(usual, &script.claims);
    let (key, algorithm, name) = key(script.signs);
    let mut header = Header::new(algorithm);
    header.kid = Some(script.names.clone().unwrap_or_else(|| name.to_owned()));
    let signed = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    if script.signs == Signs::None {
        let payload = signed.split('.').nth(1).unwrap();
        return format!("{}.{payload}.", B64.encode(r#"{"alg":"none","typ":"JWT"}"#));
    }
    signed
}
