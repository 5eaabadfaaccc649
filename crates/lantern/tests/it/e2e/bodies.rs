//! Large bodies in a bucket: what one process wrote another reads, and what is wrong with a bucket is said at once.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use lantern_store::testing::{BucketServer, Cluster, Folder, block_on};
use serde_json::json;

use super::api::Api;
use super::process::{Server, lantern};
use super::provider::{Answer, Provider};

const LOGIN: (&str, &str) = ("ada@example.com", "correct horse battery");

/// The environment that makes a server use this bucket.
fn bucket_env(bucket: &BucketServer) -> Vec<(&'static str, String)> {
    let options = bucket.options();
    vec![
        ("S3_BUCKET", options.bucket),
        ("S3_ENDPOINT", options.endpoint),
        ("AWS_ACCESS_KEY_ID", options.credentials.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", options.credentials.secret_access_key.expose().clone()),
    ]
}

fn serve(folder: &Folder) -> Command {
    let mut command = lantern();
    command.args(["serve", "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    command.env("LANTERN_CREDENTIAL_KEY", "07".repeat(32)).env("LOG_LEVEL", "error");
    command.env("LANTERN_ADMIN_EMAIL", LOGIN.0).env("LANTERN_ADMIN_PASSWORD", LOGIN.1);
    command
}

#[test]
fn a_large_run_is_finished_and_read_by_a_process_with_another_folder() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let (options, bucket) = (database.options(), BucketServer::start());
        let said: &'static str = "a long answer, ".repeat(8_000).leak();
        let provider = Provider::start(vec![Answer::Hang, Answer::Say(said)]).await;
        let (here, there) = (Folder::new("here"), Folder::new("there"));
        let start = |folder: &Folder| {
            let mut command = serve(folder);
            command.env("LANTERN_DATABASE_APP_URL", options.app_url.expose());
            command.env("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose());
            command.envs(bucket_env(&bucket)).envs(provider.env());
            Server::start(command)
        };
        let one = start(&here);
        assert_eq!(one.ready["bodies"], "bucket");
        let api = Api::login(&one, LOGIN.0, LOGIN.1).await;
        let steps = json!([{"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"}}]);
        api.agent("work", json!({"program": "steps", "steps": steps})).await;
        let input = json!({"text": "a long question, ".repeat(8_000)});
        let run = api.run("work", input.clone()).await;
        provider.called(1).await;
        let two = start(&there);
        one.kill();
        let api = Api::login(&two, LOGIN.0, LOGIN.1).await;
        let ended = api.ended(&run).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");

        let again = start(&here);
        for server in [&two, &again] {
            let api = Api::login(server, LOGIN.0, LOGIN.1).await;
            let (status, read) = api.get(&format!("/v1/runs/{run}")).await;
            assert_eq!((status, &read["input"]), (200, &input));
            assert!(read["output"].to_string().contains(said), "the whole answer is there");
            assert_eq!(read["output"], ended["output"]);
        }
        for folder in [&here, &there] {
            assert!(!folder.path().join("blobs").exists(), "nothing lies in a folder");
        }
        drop((two, again));
        database.discard().await;
    });
}

#[test]
fn a_server_without_its_bucket_does_not_start_and_says_why() {
    let (bucket, folder) = (BucketServer::start(), Folder::new("serve"));
    let fails = |name: &str, value: &str| {
        let mut command = serve(&folder);
        let output: Output =
            command.envs(bucket_env(&bucket)).env(name, value).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, value, want) in [
        ("AWS_SECRET_ACCESS_KEY", "guessed", "the credentials are refused (SignatureDoesNotMatch)"),
        ("AWS_ACCESS_KEY_ID", "nobody", "the credentials are refused (InvalidAccessKeyId)"),
        ("AWS_ACCESS_KEY_ID", "", "AWS_ACCESS_KEY_ID"),
        ("S3_BUCKET", "another-bucket", "the bucket another-bucket does not exist there"),
        ("S3_BUCKET", "no such name", "not the name of a bucket"),
        ("S3_ENDPOINT", &format!("http://{nobody}"), "cannot reach 127.0.0.1"),
        ("S3_ENDPOINT", "nowhere", "the endpoint \\\"nowhere\\\""),
    ] {
        let words = fails(name, value);
        assert!(words.contains(want), "{name}={value}: {words}");
        assert!(!words.contains("guessed"), "{words}");
    }
}

#[test]
fn a_folder_of_ones_own_beside_a_shared_database_is_said() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let (options, folder) = (database.options(), Folder::new("serve"));
        let mut command = serve(&folder);
        command.env("LANTERN_DATABASE_APP_URL", options.app_url.expose());
        command.env("LANTERN_DATABASE_SYSTEM_URL", options.system_url.expose()).env("LOG_LEVEL", "warn");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.into_iter().find(|line| line.contains("S3_BUCKET"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.is_some_and(|line| line.contains("64 KiB")), "the warning never came");
        database.discard().await;
    });
}

#[tokio::test]
async fn the_doctor_says_whether_large_bodies_are_kept() {
    let (bucket, folder) = (BucketServer::start(), Folder::new("dev"));
    let env = bucket_env(&bucket);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::dev_with(folder.path(), &env);
    let token = Api::of(&server).await.token;
    let doctor = || {
        let mut command = lantern();
        command.arg("doctor").env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &token);
        let output = command.env("HOME", folder.path()).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (well, words) = doctor();
    assert!(well && words.contains("✔ bodies  a body over 64 KiB was kept"), "{words}");
    drop(bucket);
    let (well, words) = doctor();
    assert!(!well && words.contains("✘ bodies  ") && words.contains("bucket"), "{words}");
}
