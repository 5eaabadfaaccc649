//! Single sign-on with the real binary, a real issuer, and a browser that is this test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use lantern_types::edge::Clock as _;
use serde_json::Value;

use super::issuer::{CLIENT, Issuer, SECRET};
use super::process::{Folder, Server, lantern};
use crate::cli_fake::User;

const ADMIN: (&str, &str) = ("boss@example.com", "correct horse battery");

/// What a browser is answered.
struct Answer {
    status: u16,
    location: String,
    cookie: String,
    body: String,
}

/// One request of a browser that goes nowhere by itself.
fn look(url: &str, cookie: &str) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head =
        format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let found = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
    Answer {
        status: head[9..12].parse().unwrap(),
        location: header("location"),
        cookie,
        body: body.to_owned(),
    }
}

fn serve(folder: &Folder, config: Option<&str>) -> Server {
    let mut command = lantern();
    command.args(["serve", "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    command
        .env("LOG_LEVEL", "error")
        .env("LANTERN_ADMIN_EMAIL", ADMIN.0)
        .env("LANTERN_ADMIN_PASSWORD", ADMIN.1);
    if let Some(config) = config {
        let file = folder.path().join("lantern.toml");
        std::fs::write(&file, config).unwrap();
        command.arg("--config").arg(file);
    }
    Server::start(command)
}

/// A command that logs in by an issuer, and the address that it shows.
fn begun(
    user: &User,
    server: &Server,
    args: &[&str],
) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut command = lantern();
    command.args(args).env("HOME", &user.home).env("LANTERN_API_URL", &server.api);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    words.read_line(&mut line).unwrap();
    let url = line.trim().rsplit_once(" at ").unwrap_or_else(|| panic!("{line}")).1.to_owned();
    (child, words, url)
}

#[test]
fn somebody_logs_in_by_an_issuer_and_is_whom_it_says() {
    let issuer = Issuer::start(lantern_net::RealClock::new().now().seconds());
    let folder = Folder::new();
    let boss = |server: &Server| {
        let user = User::new().with("LANTERN_API_URL", &server.api);
        user.run(&["login", "--email", ADMIN.0, "--password", ADMIN.1]).ok();
        user
    };
    let server = serve(&folder, None);
    let user = boss(&server);
    let me: Value = serde_json::from_str(&user.run(&["whoami", "-o", "json"]).ok()).unwrap();
    let tenant = me["tenantId"].as_str().unwrap();
    let refused = user.run(&["login", "--sso"]);
    assert!(
        refused.code == 2 && refused.err.contains("nobody can log in to this server by an issuer"),
        "{refused:?}"
    );
    assert!(server.stop().success());

    let url = &issuer.url;
    let config = format!(
        "[[sso.providers]]\nname = \"work\"\nlabel = \"Work\"\nissuer = \"{url}\"\nclient_id = \"{CLIENT}\"\n\
         client_secret = \"{SECRET}\"\nprivate_address = true\ntenant = \"{tenant}\"\n\
         joins = {{ \"example.com\" = \"{tenant}\" }}\n"
    );
    let server = serve(&folder, Some(&config));
    let user = boss(&server);
    let told = user.run(&["doctor"]);
    assert!(told.out.contains("work answers"), "{told:?}");

    let ada = User::new().with("LANTERN_API_URL", &server.api);
    let (child, _words, shown) = begun(&ada, &server, &["login", "--sso"]);
    assert!(shown.starts_with(&format!("{}/auth/oauth/work/terminal?port=", server.api)), "{shown}");
    let sent = look(&shown, "");
    assert_eq!(sent.status, 302);
    let back = issuer.consent(&sent.location);
    assert!(back.starts_with(&format!("{}/auth/oauth/work/callback?", server.api)), "{back}");
    // In another browser it leads nowhere.
    assert_eq!(look(&back, "").location, "/sign-in?sso=work&error=sso_expired");
    let handed = look(&back, &sent.cookie);
    // A page that happens to ask that port, with a code that is not for this command, changes nothing.
    let (port, _) = handed.location.split_once("/?").unwrap();
    assert_eq!(look(&format!("{port}/?code=hlx_sso_00&state=guessed"), "").status, 404);
    let done = look(&handed.location, "");
    assert!(done.status == 200 && done.body.contains("You are logged in at the terminal"), "{}", done.body);
    assert!(!done.body.contains("hlx_sso_"), "{}", done.body);
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && words.contains(" as ada@example.com, until "), "{words}");
    let me: Value = serde_json::from_str(&ada.run(&["whoami", "-o", "json"]).ok()).unwrap();
    assert_eq!((me["tenantId"].as_str(), me["role"].as_str()), (Some(tenant), Some("member")));
    let listed: Value = serde_json::from_str(&ada.run(&["identities", "list", "-o", "json"]).ok()).unwrap();
    assert_eq!((&listed[0]["provider"], &listed[0]["issuer"]), (&"work".into(), &url.as_str().into()));
    assert!(user.run(&["audit", "list"]).ok().contains("auth.sso_join"));

    // What the issuer does not vouch for is told the command.
    issuer.script().claims = serde_json::json!({"email_verified": false});
    let (child, mut words, shown) = begun(&ada, &server, &["login", "--sso", "work"]);
    let sent = look(&shown, "");
    let handed = look(&issuer.consent(&sent.location), &sent.cookie);
    assert!(look(&handed.location, "").body.contains("You are not logged in"));
    let output = child.wait_with_output().unwrap();
    let mut said = String::new();
    words.read_to_string(&mut said).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("(sso_email_unverified)"), "{said}");

    // Unlinked, it is nobody's; and the account stays.
    ada.run(&["identities", "unlink", listed[0]["id"].as_str().unwrap()]).ok();
    assert!(ada.run(&["identities", "list"]).err.contains("you log in by no issuer"));
    assert!(server.stop().success());
}
