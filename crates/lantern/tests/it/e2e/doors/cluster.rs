//! A thousand calls at once against one cap, through three processes on one PostgreSQL of which some are killed: what providers
//! were asked to do never costs more than the cap, and nothing stays held.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::future::join;
use lantern_store::testing::{Cluster, Folder};
use serde_json::json;

use super::caps::{Raw, released, seen, stands};
use super::clients::{cap, key, until_calls};
use super::upstream::Upstream;
use crate::e2e::api::{Api, tick};
use crate::e2e::cluster::{LOGIN, served_by};
use crate::e2e::process::{NEVER, Server};

const CALLS: usize = 1_000;
const AT_ONCE: usize = 200;
/// Micro-dollars: some two hundred of the calls fit.
const CAP: i64 = 30_000;
/// What the provider charges for each that it answers: 9 and 12 tokens of the model.
const COST: i64 = 143;

#[test]
fn a_thousand_calls_through_processes_that_die_never_pass_the_cap() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let upstream = Upstream::start().await;
        let folders: Vec<Folder> = (0..3).map(|n| Folder::new(&format!("doors-{n}"))).collect();
        let start = |n: usize| Server::start(served_by(folders[n].path(), app, system, &upstream.env()));
        let servers: Vec<Server> = (0..3).map(start).collect();
        let api = Api::login(&servers[2], LOGIN.0, LOGIN.1).await;
        let servers: Vec<Mutex<Option<Server>>> =
            servers.into_iter().map(|server| Mutex::new(Some(server))).collect();
        let whole = |n: usize| servers[n].lock().unwrap();
        let secret = key(&api).await;
        cap(&api, 0.03).await;
        seen(&api).await;

        let over = AtomicBool::new(false);
        let calls = async {
            let call = |n: usize| {
                // Whoever is there; a client of its own finds another when its server dies.
                let raw = (n..n + 3).find_map(|n| whole(n % 3).as_ref().map(|server| Raw::new(server, &secret)));
                async move {
                    let raw = raw?;
                    let stream = n.is_multiple_of(2);
                    let response = raw.chat("hi", json!({"max_tokens": 60, "stream": stream})).await.ok()?;
                    let status = response.status().as_u16();
                    response.bytes(1 << 20).await.ok().map(|_| status)
                }
            };
            let answers: Vec<Option<u16>> =
                futures_util::stream::iter(0..CALLS).map(call).buffer_unordered(AT_ONCE).collect().await;
            over.store(true, Ordering::SeqCst);
            answers
        };
        // Two are killed while calls are under way, wherever they are then; the first comes back.
        let kills = async {
            for (victim, asked) in [(0, 20), (1, 60)] {
                while upstream.asked().len() < asked && !over.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
                let server = whole(victim).take();
                server.unwrap().kill();
                if victim == 0 {
                    let again = tokio::task::block_in_place(|| start(0));
                    *whole(0) = Some(again);
                }
                let (spent, held) = stands(&api).await;
                assert!(spent + held <= CAP, "{spent} and {held}");
            }
            while !over.load(Ordering::SeqCst) {
                let (spent, held) = stands(&api).await;
                assert!(spent + held <= CAP, "{spent} and {held}");
                tick().await;
            }
        };
        let (answers, ()) = join(calls, kills).await;
        let count = |status: Option<u16>| answers.iter().filter(|answer| **answer == status).count();
        let (done, refused, lost) = (count(Some(200)), count(Some(429)), count(None));
        let charged = COST * i64::try_from(upstream.asked().len()).unwrap();
        assert!(charged <= CAP, "the provider was asked for {charged}");
        assert!(done > 20 && refused > 100, "{done} done, {refused} refused, {lost} lost");

        let spent = tokio::time::timeout(NEVER, released(&api)).await.expect("something stays held");
        assert!(spent <= CAP && spent >= charged, "{spent} are spent, {charged} were charged");
        let told = until_calls(&api, 1).await;
        let crashes = told.iter().filter(|call| call["kind"] == "crash_charge").count();
        assert!(crashes >= 1, "what the dead had not settled is told");
        println!("{done} done, {refused} refused, {lost} lost; {charged} charged, {spent} of {CAP} spent, {crashes} crashes");
        for server in servers {
            if let Some(server) = server.into_inner().unwrap() {
                assert!(server.stop().success());
            }
        }
        let other = Server::start(served_by(folders[1].path(), app, system, &upstream.env()));
        let api = Api::login(&other, LOGIN.0, LOGIN.1).await;
        assert_eq!(stands(&api).await, (spent, 0));
        database.discard().await;
    });
}
