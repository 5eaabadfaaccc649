//! A registry that keeps to the rules, and the same when it lies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lantern_policy::workload::{Image, Which};
use lantern_sandbox::image::{Layout, Plan, build};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What is answered to a path: a status, headers, and a body.
type Answer = (u16, Vec<(String, String)>, Vec<u8>);

type Answers = Arc<Mutex<BTreeMap<String, Answer>>>;
type Asked = Arc<Mutex<Vec<String>>>;

/// A registry on this machine. What it was asked is kept, with the token that was shown.
struct Registry {
    host: String,
    answers: Answers,
    asked: Asked,
}

#[expect(clippy::disallowed_methods, reason = "a test's own tasks end with its runtime")]
fn tasks(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, asked) = (Answers::default(), Asked::default());
        let kept = (Arc::clone(&answers), Arc::clone(&asked));
        tasks(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, asked) = kept.clone();
                tasks(async move {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte).await, Ok(1)) {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let shown = head.lines().find_map(|line| line.strip_prefix("authorization: "));
                    asked.lock().unwrap().push(format!("{path} {}", shown.unwrap_or("-")));
                    let answer = answers.lock().unwrap().get(&path).cloned();
                    let wants = answer.as_ref().is_some_and(|(status, ..)| *status == 401);
                    let second = answers.lock().unwrap().get(&format!("{path} with a token")).cloned();
                    let answer = if wants && shown == Some("Bearer good") { second } else { answer };
                    let (status, headers, body) = answer.unwrap_or((404, Vec::new(), Vec::new()));
                    let mut text = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\n");
                    for (name, value) in headers {
                        text.extend([&name, ": ", &value, "\r\n"]);
                    }
                    drop(stream.write_all(&[text.as_bytes(), b"\r\n", &body].concat()).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self { host, answers, asked }
    }

    fn says(&self, path: &str, status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.answers.lock().unwrap().insert(path.to_owned(), (status, headers, body.into()));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// An image of a folder, whose blobs a registry has, and a machine that has none of them.
struct House {
    registry: Registry,
    registries: Registries,
    images: Images,
    repository: String,
    manifest: (String, Vec<u8>),
    config: String,
    layer: (String, Vec<u8>),
    dir: PathBuf,
}

fn scratch() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("lantern-registry-{}-{n}", std::process::id()));
    std::fs::create_dir_all(dir.join("folder")).unwrap();
    dir
}

fn blob(layout: &Path, sha256: &str) -> Vec<u8> {
    std::fs::read(layout.join("blobs/sha256").join(sha256)).unwrap()
}

fn hex(digest: &Value) -> String {
    digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned()
}

async fn house() -> House {
    let dir = scratch();
    std::fs::write(dir.join("folder/hello"), "x".repeat(100_000)).unwrap();
    let theirs = dir.join("theirs");
    let plan = Plan { entrypoint: vec!["/hello".to_owned()], ..Plan::default() };
    let built = build(&Layout::at(theirs.clone()), &dir.join("folder"), &plan).unwrap();
    let manifest = blob(&theirs, &built.image.sha256);
    let said: Value = serde_json::from_slice(&manifest).unwrap();
    let (config, layer) = (hex(&said["config"]["digest"]), hex(&said["layers"][0]["digest"]));
    let registry = Registry::start().await;
    registry.says("/v2/team/hello/manifests/1.2", 200, &[], manifest.clone());
    registry.says(
        &format!("/v2/team/hello/manifests/sha256:{}", built.image.sha256),
        200,
        &[],
        manifest.clone(),
    );
    registry.says(&format!("/v2/team/hello/blobs/sha256:{config}"), 200, &[], blob(&theirs, &config));
    registry.says(&format!("/v2/team/hello/blobs/sha256:{layer}"), 200, &[], blob(&theirs, &layer));
    let origin = format!("http://{}", registry.host).parse().unwrap();
    House {
        repository: format!("{}/team/hello", registry.host),
        registries: Registries::new(Client::new().unwrap(), vec![origin]),
        images: Images::below(&dir.join("ours")),
        manifest: (built.image.sha256, manifest),
        layer: (layer.clone(), blob(&theirs, &layer)),
        registry,
        config,
        dir,
    }
}

impl House {
    fn tag(&self) -> Wanted {
        Wanted { repository: self.repository.clone(), which: Which::Tag("1.2".to_owned()) }
    }

    fn by_digest(&self) -> Wanted {
        Wanted { repository: self.repository.clone(), which: Which::Digest(self.manifest.0.clone()) }
    }

    fn at_layer(&self) -> String {
        at(&format!("blobs/sha256:{}", self.layer.0))
    }

    async fn find(&self) -> Result<Image, Unfetched> {
        self.registries.find(&self.images, &self.tag()).await
    }

    async fn whole(&self) -> Result<Image, Unfetched> {
        let image = self.find().await?;
        self.registries.layers(&self.images, &image).await.map(|()| image)
    }

    /// Files that were begun.
    fn begun(&self) -> usize {
        std::fs::read_dir(self.images.layout().dir().join("incoming")).map_or(0, Iterator::count)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn at(what: &str) -> String {
    format!("/v2/team/hello/{what}")
}

fn refusal(answer: Result<Image, Unfetched>) -> String {
    match answer {
        Err(Unfetched::Refused(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tag_becomes_a_digest_and_each_blob_is_asked_for_once() {
    let house = house().await;
    let image = house.find().await.unwrap();
    assert_eq!((&image.sha256, &image.repository), (&house.manifest.0, &house.repository));
    assert_eq!(house.images.missing(&image).unwrap().len(), 1, "its layer is not here yet");
    house.registries.layers(&house.images, &image).await.unwrap();
    let ready = house.images.ready(&image).unwrap();
    assert_eq!(std::fs::read_to_string(ready.rootfs.join("hello")).unwrap().len(), 100_000);
    let asked = house.registry.asked();
    let paths: Vec<String> =
        [at("manifests/1.2"), at(&format!("blobs/sha256:{}", house.config)), house.at_layer()]
            .map(|path| format!("{path} -"))
            .into();
    assert_eq!(asked, paths);
    // Of what is here nothing is asked for again.
    assert_eq!(house.registries.find(&house.images, &house.by_digest()).await.unwrap(), image);
    house.registries.layers(&house.images, &image).await.unwrap();
    assert_eq!(house.registry.asked(), [format!("{} -", at(&format!("manifests/sha256:{}", image.sha256)))]);
    assert_eq!(house.begun(), 0);
    let other = Wanted { which: Which::Tag("2".to_owned()), ..house.tag() };
    let missing = house.registries.find(&house.images, &other).await;
    assert!(matches!(missing, Err(Unfetched::NotFound(_))), "{missing:?}");
}

#[tokio::test]
async fn a_list_names_the_image_for_this_machine() {
    let house = house().await;
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let list = |machine: &str| {
        let entry = json!({ "digest": format!("sha256:{}", house.manifest.0), "size": 1,
            "platform": { "os": "linux", "architecture": machine } });
        json!({ "schemaVersion": 2, "manifests": [entry] }).to_string()
    };
    house.registry.says(&at("manifests/1.2"), 200, &[], list(machine));
    assert_eq!(house.whole().await.unwrap().sha256, house.manifest.0);
    house.registry.says(&at("manifests/1.2"), 200, &[], list("mips"));
    assert!(refusal(house.find().await).contains("for other machines"));
}

#[tokio::test]
async fn a_registry_that_lies_is_not_believed() {
    let house = house().await;
    let (place, layer) = (house.at_layer(), house.layer.1.clone());
    let mut wrong = layer.clone();
    wrong[1_000] ^= 1;
    let long = [layer.clone(), b"more".to_vec()].concat();
    let short = layer[..layer.len() - 1].to_vec();
    let length = layer.len().to_string();
    for (body, headers, want) in [
        (wrong, vec![], "not what its digest says"),
        (long.clone(), vec![], "longer than its manifest says"),
        (short.clone(), vec![], "shorter than its manifest says"),
        (long, vec![("content-length", "999999999")], "another size than its manifest says"),
    ] {
        house.registry.says(&place, 200, &headers, body);
        let words = refusal(house.whole().await);
        assert!(words.contains(want), "{want}: {words}");
        assert_eq!(house.begun(), 0, "{want}");
    }
    // Cut off where more was announced: nobody knows, and nothing is kept.
    house.registry.says(&place, 200, &[("content-length", length.as_str())], short);
    let cut = house.whole().await;
    assert!(matches!(cut, Err(Unfetched::Away(_))), "{cut:?}");
    assert_eq!(house.begun(), 0);
    let image = house.find().await.unwrap();
    assert_eq!(house.images.missing(&image).unwrap().len(), 1, "no lie became a layer");
    // Manifests and configurations as well.
    let other = String::from_utf8(house.manifest.1.clone()).unwrap() + " ";
    house.registry.says(&at(&format!("manifests/sha256:{}", house.manifest.0)), 200, &[], other);
    let answer = house.registries.find(&house.images, &house.by_digest()).await;
    assert!(refusal(answer).contains("not what its digest says"));
    let said = [("docker-content-digest", "sha256:00")];
    house.registry.says(&at("manifests/1.2"), 200, &said, house.manifest.1.clone());
    assert!(refusal(house.find().await).contains("not what its digest says"));
    house.registry.says(&at("manifests/1.2"), 200, &[], vec![b' '; MANIFEST_BYTES + 1]);
    assert!(refusal(house.find().await).contains("more than"));
    let huge = json!({ "config": { "digest": format!("sha256:{}", house.config), "size": house.config.len() },
        "layers": [] });
    house.registry.says(&at("manifests/1.2"), 200, &[], huge.to_string());
    assert!(refusal(house.find().await).contains("longer than"), "than the manifest says");
    house.registry.says(&at("manifests/1.2"), 200, &[], "<html>");
    assert!(refusal(house.find().await).contains("cannot be read"));
}

const MANIFEST_BYTES: usize = lantern_sandbox::MANIFEST_MAX;

#[tokio::test]
async fn a_token_is_fetched_once_and_shown_to_the_registry_alone() {
    let mut house = house().await;
    let storage = Registry::start().await;
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"s p\"", house.registry.host);
    for what in ["manifests/1.2".to_owned(), format!("blobs/sha256:{}", house.config)] {
        let path = at(&what);
        let (.., body) = house.registry.answers.lock().unwrap().get(&path).cloned().unwrap();
        house.registry.says(&path, 401, &[("www-authenticate", &realm)], "");
        house.registry.says(&format!("{path} with a token"), 200, &[], body);
    }
    // The layer lies elsewhere.
    let elsewhere = format!("http://{}/layer", storage.host);
    house.registry.says(&house.at_layer(), 401, &[("www-authenticate", &realm)], "");
    let moved = format!("{} with a token", house.at_layer());
    house.registry.says(&moved, 307, &[("location", &elsewhere)], "");
    storage.says("/layer", 200, &[], house.layer.1.clone());
    let token = "/token?service=s%20p&scope=repository%3Ateam%2Fhello%3Apull";
    house.registry.says(token, 200, &[], r#"{"token":"good"}"#);
    let mine: Origin = format!("http://{}", house.registry.host).parse().unwrap();
    let theirs: Origin = format!("http://{}", storage.host).parse().unwrap();
    house.registries = Registries::new(Client::new().unwrap(), vec![mine, theirs]);
    house.whole().await.unwrap();
    assert_eq!(storage.asked(), ["/layer -"], "who it leads to sees no token");
    let asked = house.registry.asked();
    assert_eq!(
        asked.iter().filter(|asked| asked.starts_with("/token")).count(),
        2,
        "one a session: {asked:?}"
    );
    // Credentials are nobody's here.
    house.registry.says(&at("manifests/1.2"), 401, &[("www-authenticate", "Basic realm=x")], "");
    assert!(refusal(house.find().await).contains("wants credentials"));
    house.registry.says(&at("manifests/1.2"), 401, &[("www-authenticate", &realm)], "");
    house.registry.says(token, 403, &[], "");
    assert!(refusal(house.find().await).contains("gives no token"));
}

#[tokio::test]
async fn only_what_the_operator_lists_is_asked_at_a_private_address_or_without_tls() {
    let house = house().await;
    let aside = Registry::start().await;
    aside.says("/layer", 200, &[], house.layer.1.clone());
    for (location, want) in [
        (format!("http://{}/layer", aside.host), "without TLS"),
        (format!("https://{}/layer", aside.host), "127.0.0.1"),
        ("https://169.254.169.254/latest".to_owned(), "169.254.169.254"),
        ("https://[::1]/layer".to_owned(), "::1"),
        ("http://example.com/layer".to_owned(), "without TLS"),
        ("file:///etc/passwd".to_owned(), "without TLS"),
        (format!("http://{}@{}/layer", house.registry.host, aside.host), "without TLS"),
    ] {
        house.registry.says(&house.at_layer(), 302, &[("location", &location)], "");
        let words = refusal(house.whole().await);
        assert!(words.contains(want), "{location}: {words}");
    }
    assert!(aside.asked().is_empty());
    // Round and round.
    let round = format!("http://{}{}", house.registry.host, house.at_layer());
    house.registry.says(&house.at_layer(), 302, &[("location", &round)], "");
    assert!(refusal(house.whole().await).contains("redirects too often"));
    // A token is asked for nowhere else either.
    let realm = format!("Bearer realm=\"http://{}/token\"", aside.host);
    house.registry.says(&house.at_layer(), 401, &[("www-authenticate", &realm)], "");
    assert!(refusal(house.whole().await).contains("without TLS"));
    // Nor is a registry that is not listed.
    let unlisted = Registries::new(Client::new().unwrap(), Vec::new());
    let words = refusal(unlisted.find(&house.images, &house.tag()).await);
    assert!(words.contains("127.0.0.1"), "{words}");
    let local = Wanted { repository: "hello".to_owned(), ..house.tag() };
    let nowhere = house.registries.find(&house.images, &local).await;
    assert!(matches!(nowhere, Err(Unfetched::NotFound(_))), "{nowhere:?}");
    assert!(aside.asked().is_empty());
}
