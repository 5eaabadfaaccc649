//! The way out against real sockets: what arrives on the other side, and what was told of it.

use std::sync::atomic::AtomicUsize;

use lantern_net::RealClock;
use lantern_policy::egress::Reach;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Somebody outside, who keeps what was said and answers everybody alike.
struct Server {
    port: u16,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

const FOUND: &str =
    "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n";

async fn server(answer: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, heard) = mpsc::unbounded_channel();
    tasks(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let said = said.clone();
            tasks(async move {
                let mut buffer = vec![0; 65_536];
                let mut all = Vec::new();
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    all.extend_from_slice(&buffer[..length]);
                    if stream.write_all(answer.as_bytes()).await.is_err() || all.ends_with(b"bye") {
                        break;
                    }
                    if all.starts_with(b"GET") || all.starts_with(b"POST") {
                        drop(stream.shutdown().await);
                    }
                }
                drop(said.send(all));
            });
        }
    });
    Server { port, heard }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tasks end with its runtime")]
fn tasks(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}

/// A way out whose listener is here.
struct House {
    at: std::net::SocketAddr,
    egress: Arc<Egress>,
    said: mpsc::Receiver<Told>,
    asked: Arc<AtomicUsize>,
    open: Option<oneshot::Sender<()>>,
}

fn rule(pattern: &str, methods: &[&str], port: u16) -> EgressRule {
    let http_methods = methods.iter().map(|method| (*method).to_owned()).collect();
    EgressRule { pattern: pattern.to_owned(), http_methods, ports: vec![port], rate_bps: None }
}

/// `answers` are what every name resolves to, one after the other; the last stays.
async fn house(rules: Vec<EgressRule>, answers: &'static [&'static [&'static str]]) -> House {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let resolve: Resolve = Arc::new(move |_| {
        let n = counted.fetch_add(1, Ordering::SeqCst).min(answers.len().saturating_sub(1));
        let found = answers.get(n).copied().unwrap_or_default();
        Box::pin(async move { found.iter().map(|text| text.parse().unwrap()).collect() })
    });
    let reach = Rule { reach: Reach::Public, opened: Arc::new(["127.0.0.1".parse().unwrap()]) };
    let (egress, said) = Egress::new(rules, Outside { reach, resolve }, Arc::new(RealClock::new()), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (open, gone) = oneshot::channel();
    tasks(egress.clone().serve(listener, gone));
    House { at, egress, said, asked, open: Some(open) }
}

impl House {
    /// What is answered to whoever says this and no more.
    async fn say(&self, text: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn told(&mut self) -> String {
        let Some(Told::Decided(said)) = self.said.recv().await else { panic!("a decision") };
        let verdict = said.verdict.map_or_else(|why| why.as_str().to_owned(), |at| at.to_string());
        format!("{} {}:{} {verdict}", said.method, said.host, said.port)
    }
}

fn sized(bytes: usize, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    [&length[length.len() - bytes..], body].concat()
}

/// The first words of TLS for a name.
fn hello(name: &str) -> Vec<u8> {
    let list = [vec![0], sized(2, name.as_bytes())].concat();
    let extension = [vec![0, 0], sized(2, &sized(2, &list))].concat();
    let rest = [sized(1, &[]), sized(2, &[0x13, 1]), sized(1, &[0]), sized(2, &extension)].concat();
    let body = [vec![3, 3], vec![7; 32], rest].concat();
    [vec![22, 3, 1], sized(2, &[vec![1], sized(3, &body)].concat())].concat()
}

const HERE: &[&[&str]] = &[&["127.0.0.1"]];
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[tokio::test]
async fn one_request_is_passed_on_and_nothing_behind_it() {
    let mut server = server(OK).await;
    let port = server.port;
    let mut house = house(vec![rule("a.example", &["POST"], port)], HERE).await;
    let smuggled = format!(
        "POST http://A.example.:{port}/x HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\nbyeDELETE /all HTTP/1.1\r\n\r\n"
    );
    assert_eq!(house.say(smuggled.as_bytes()).await, OK);
    let heard = String::from_utf8(server.heard.recv().await.unwrap()).unwrap();
    let want = format!(
        "POST /x HTTP/1.1\r\nhost: a.example:{port}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbye"
    );
    assert_eq!(heard, want);
    assert_eq!(house.told().await, format!("POST a.example:{port} 127.0.0.1"));
    let (sent, received) = house.egress.counted();
    assert_eq!((sent, received), (want.len() as u64, OK.len() as u64));
}

#[tokio::test]
async fn a_tunnel_passes_what_tls_says_both_ways() {
    let mut server = server("back").await;
    let port = server.port;
    let mut house = house(vec![rule("a.example", &[], port)], HERE).await;
    let mut stream = TcpStream::connect(house.at).await.unwrap();
    stream.write_all(format!("CONNECT a.example:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 19];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
    let hello = hello("a.example");
    let (first, rest) = hello.split_at(9);
    stream.write_all(first).await.unwrap();
    stream.write_all(rest).await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
    stream.write_all(b"bye").await.unwrap();
    let mut end = Vec::new();
    stream.read_to_end(&mut end).await.unwrap();
    assert_eq!(server.heard.recv().await.unwrap(), [hello.as_slice(), b"bye"].concat());
    assert_eq!(house.told().await, format!("CONNECT a.example:{port} 127.0.0.1"));
}

#[tokio::test]
async fn tunnels_for_something_else_carry_nothing() {
    let mut server = server("never").await;
    let port = server.port;
    let mut house = house(vec![rule("a.example", &[], port), rule("127.0.0.1", &[], port)], HERE).await;
    let connect = |host: &str| format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n").into_bytes();
    for (host, bytes, want) in [
        ("a.example", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
        ("a.example", b"S".to_vec(), "not_tls"),
        ("a.example", hello("evil.example"), "sni_other"),
        ("a.example", hello("169.254.169.254"), "sni_other"),
        ("127.0.0.1", hello("a.example"), "sni_other"),
    ] {
        let said = house.say(&[connect(host), bytes].concat()).await;
        assert_eq!(said, "HTTP/1.1 200 OK\r\n\r\n", "{host} {want}");
        assert_eq!(house.told().await, format!("CONNECT {host}:{port} {want}"));
        assert_eq!(server.heard.recv().await.unwrap(), b"", "{host} {want}");
    }
}

#[tokio::test]
async fn what_no_rule_lists_is_not_even_resolved() {
    let mut house = house(vec![rule("a.example", &["GET"], 80)], HERE).await;
    for (line, status, why) in [
        ("GET http://evil.example/ HTTP/1.1", 403, "no_rule"),
        ("CONNECT evil.example:80 HTTP/1.1", 403, "no_rule"),
        ("CONNECT a.example:80 HTTP/1.1", 403, "method_hidden"),
        ("CONNECT a.example:22 HTTP/1.1", 403, "port"),
        ("POST http://a.example/ HTTP/1.1", 403, "method"),
        ("GET http://a.example:81/ HTTP/1.1", 403, "port"),
        ("GET http://127.0.0.1/ HTTP/1.1", 403, "address_not_listed"),
        ("GET http://2130706433/ HTTP/1.1", 403, "address_odd"),
        ("GET http://0x7f.1/ HTTP/1.1", 403, "address_odd"),
        ("GET http://[::ffff:127.0.0.1]/ HTTP/1.1", 403, "address_not_listed"),
        ("GET http://a.example@evil.example/ HTTP/1.1", 403, "host_invalid"),
        ("GET https://a.example/ HTTP/1.1", 400, "request_invalid"),
        ("nonsense", 400, "request_invalid"),
    ] {
        let answer = house.say(format!("{line}\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains(&format!("x-lantern-reason: {why}\r\n")), "{line}: {answer}");
        assert!(house.told().await.ends_with(why), "{line}");
    }
    assert_eq!(house.asked.load(Ordering::SeqCst), 0, "no name was resolved");
}

#[tokio::test]
async fn a_name_that_comes_to_mean_another_address_gains_nothing() {
    let mut server = server(OK).await;
    let port = server.port;
    let answers: &[&[&str]] = &[&["127.0.0.1"], &["169.254.169.254"]];
    let mut house = house(vec![rule("*.example", &[], port)], answers).await;
    let get = |host: &str| format!("GET http://{host}:{port}/bye HTTP/1.1\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(house.say(get("a.example").as_bytes()).await, OK);
        assert_eq!(house.told().await, format!("GET a.example:{port} 127.0.0.1"), "it keeps its address");
        server.heard.recv().await.unwrap();
    }
    assert!(house.say(get("b.example").as_bytes()).await.contains("address_refused"));
    assert_eq!(house.told().await, format!("GET b.example:{port} address_refused"));
    assert_eq!(house.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_address_among_others_that_may_not_be_reached_spoils_a_name() {
    let answers: &[&[&str]] = &[&["127.0.0.1", "10.0.0.1"]];
    let mut house = house(vec![rule("a.example", &[], 80)], answers).await;
    assert!(house.say(b"GET http://a.example/ HTTP/1.1\r\n\r\n").await.contains("address_refused"));
    assert_eq!(house.told().await, "GET a.example:80 address_refused");
}

#[tokio::test]
async fn a_redirect_is_the_programs_to_follow_and_asked_about_again() {
    let server = server(FOUND).await;
    let port = server.port;
    let mut house = house(vec![rule("a.example", &[], port)], HERE).await;
    let get = format!("GET http://a.example:{port}/ HTTP/1.1\r\n\r\n");
    assert_eq!(house.say(get.as_bytes()).await, FOUND);
    assert_eq!(house.told().await, format!("GET a.example:{port} 127.0.0.1"));
    let followed = house.say(b"GET http://169.254.169.254/latest HTTP/1.1\r\n\r\n").await;
    assert!(followed.contains("address_not_listed"), "{followed}");
}

#[tokio::test]
async fn nobody_is_reached_when_the_decision_cannot_be_told() {
    let mut server = server(OK).await;
    let port = server.port;
    let mut house = house(vec![rule("a.example", &[], port)], HERE).await;
    house.said.close();
    let get = format!("GET http://a.example:{port}/ HTTP/1.1\r\n\r\n");
    assert_eq!(house.say(get.as_bytes()).await, "");
    assert_eq!(server.heard.recv().await.unwrap(), b"");
}

#[tokio::test]
async fn every_connection_ends_with_the_box() {
    let server = server("back").await;
    let port = server.port;
    let mut house = house(vec![rule("a.example", &[], port)], HERE).await;
    let mut stream = TcpStream::connect(house.at).await.unwrap();
    let connect = format!("CONNECT a.example:{port} HTTP/1.1\r\n\r\n").into_bytes();
    stream.write_all(&[connect, hello("a.example")].concat()).await.unwrap();
    let mut answer = [0; 23];
    stream.read_exact(&mut answer).await.unwrap();
    drop(house.open.take());
    assert!(!matches!(stream.read(&mut answer).await, Ok(1..)));
    assert_eq!(house.told().await, format!("CONNECT a.example:{port} 127.0.0.1"));
}

#[tokio::test]
async fn whoever_breaks_off_is_seen_to_have_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let asking = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut client, _) = listener.accept().await.unwrap();
    drop(asking);
    proxy::left(&mut client).await;
}

#[tokio::test]
async fn the_bodies_of_one_box_have_room_for_so_much() {
    let house = house(Vec::new(), &[]).await;
    let most = u64::from(BODIES_KIB_MAX) << 10;
    assert!(house.egress.room(most + 1).is_none() && house.egress.room(u64::MAX).is_none());
    let whole = house.egress.room(most).unwrap();
    assert!(house.egress.room(1).is_none());
    // What has no body takes no room.
    assert!(house.egress.room(0).is_some());
    drop(whole);
    let most_of_it = house.egress.room(most - 1).unwrap();
    assert!(house.egress.room(1).is_none(), "counted in KiB");
    drop(most_of_it);
    assert!(house.egress.room(most).is_some());
}
