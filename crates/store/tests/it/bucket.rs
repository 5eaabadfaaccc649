//! Blobs in a bucket: against a fake that misbehaves, and against a real server.

use std::error::Error as _;
use std::future::ready;
use std::sync::Arc;

use lantern_net::{Client, RealClock};
use lantern_policy::Scope;
use lantern_store::testing::{BucketServer, Folder, SetClock, block_on};
use lantern_store::{Blobs, BucketOptions, Credentials, Error, blob};
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::*;

use crate::fake_bucket::{FakeBucket, Wrong};
use crate::support::{at, tenant};

/// A clock whose waits are over at once.
struct Quick(SetClock);

impl Clock for Quick {
    fn now(&self) -> At {
        self.0.now()
    }
    fn sleep(&self, _: Dur) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}

fn scope() -> Scope {
    Scope::of_lease(tenant(1))
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; blob::INLINE_MAX + 1]
}

pub(crate) fn blobs(options: BucketOptions, folder: &Folder) -> Blobs {
    let clock = Arc::new(Quick(SetClock::at(at(1_369_353_600_000_000))));
    Blobs::bucket(options, folder.path(), Client::new().unwrap(), clock).unwrap()
}

/// The whole chain of an error.
fn words(error: &Error) -> String {
    let (mut words, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

fn unavailable(outcome: Result<impl std::fmt::Debug, Error>) -> String {
    match outcome {
        Err(error @ Error::Unavailable(_)) => words(&error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_put_is_signed_kept_found_and_removed() {
    block_on(async {
        let (fake, folder) = (FakeBucket::start().await, Folder::new("bucket"));
        let blobs = blobs(fake.options(), &folder);
        blobs.check().await.unwrap();
        assert!(fake.objects().is_empty(), "the check cleans up");
        let stored = blobs.park(scope(), large(7)).await.unwrap();
        let digest = Digest::of(&large(7));
        let want = format!("/bodies/lantern/{}/{}/{digest}", tenant(1), &digest.to_string()[..2]);
        assert_eq!(fake.objects(), [want]);
        assert_eq!(blobs.fetch(scope(), &stored).await.unwrap(), large(7));
        let stranger = blobs.fetch(Scope::of_lease(tenant(2)), &stored).await;
        assert!(matches!(stranger, Err(Error::Missing(_))), "{stranger:?}");
        blobs.discard(scope(), digest).await.unwrap();
        blobs.discard(scope(), digest).await.unwrap();
        assert!(matches!(blobs.fetch(scope(), &stored).await, Err(Error::Missing(_))));
        fake.asked();
        let small = blobs.park(scope(), b"small".to_vec()).await.unwrap();
        assert_eq!(blobs.fetch(scope(), &small).await.unwrap(), b"small");
        assert_eq!(fake.asked(), 0, "small bodies stay in their row");
    });
}

#[test]
fn faults_that_pass_are_tried_again() {
    block_on(async {
        let (fake, folder) = (FakeBucket::start().await, Folder::new("bucket"));
        let blobs = blobs(fake.options(), &folder);
        for wrong in [
            Wrong::Status(500, "InternalError"),
            Wrong::Status(503, "SlowDown"),
            Wrong::Status(429, "TooManyRequests"),
            Wrong::Status(400, "RequestTimeout"),
            Wrong::Reset,
        ] {
            fake.misbehave([wrong, wrong, wrong]);
            let stored = blobs.park(scope(), large(1)).await.unwrap();
            fake.misbehave([wrong, wrong, wrong]);
            assert_eq!(blobs.fetch(scope(), &stored).await.unwrap(), large(1), "{wrong:?}");
            fake.misbehave([wrong, wrong, wrong]);
            blobs.discard(scope(), Digest::of(&large(1))).await.unwrap();
            assert_eq!(fake.asked(), 12, "{wrong:?}");
        }
        let stored = blobs.park(scope(), large(2)).await.unwrap();
        fake.misbehave([Wrong::Half]);
        assert_eq!(blobs.fetch(scope(), &stored).await.unwrap(), large(2), "half a body is no body");
    });
}

#[test]
fn faults_that_stay_are_told_and_nothing_is_kept() {
    block_on(async {
        let (fake, folder) = (FakeBucket::start().await, Folder::new("bucket"));
        let blobs = blobs(fake.options(), &folder);
        fake.misbehave([Wrong::Status(500, "InternalError"); 4]);
        let told = unavailable(blobs.park(scope(), large(1)).await);
        assert!(told.contains("500") && told.contains("InternalError"), "{told}");
        assert_eq!(fake.asked(), 4, "a bounded number of tries");
        assert!(fake.objects().is_empty());
        fake.misbehave([Wrong::Status(400, "InvalidRequest")]);
        unavailable(blobs.park(scope(), large(1)).await);
        assert_eq!(fake.asked(), 1, "what will not pass is not repeated");
        fake.misbehave([Wrong::Status(404, "NotFound")]);
        unavailable(blobs.park(scope(), large(1)).await);
        let stored = blobs.park(scope(), large(1)).await.unwrap();
        fake.misbehave([Wrong::Other]);
        let changed = blobs.fetch(scope(), &stored).await;
        assert!(matches!(changed, Err(Error::Corrupt(_))), "{changed:?}");
        fake.misbehave([Wrong::Status(403, "AccessDenied")]);
        unavailable(blobs.fetch(scope(), &stored).await);
    });
}

#[test]
fn a_bucket_that_says_nothing_is_not_waited_for_for_ever() {
    block_on(async {
        let (fake, folder) = (FakeBucket::start().await, Folder::new("bucket"));
        let client = Client::new().unwrap();
        let blobs = Blobs::bucket(fake.options(), folder.path(), client, Arc::new(RealClock::new())).unwrap();
        // From here on time passes whenever nothing else can happen.
        tokio::time::pause();
        fake.misbehave([Wrong::Silence]);
        let stored = blobs.park(scope(), large(3)).await.unwrap();
        assert_eq!(fake.asked(), 2);
        fake.misbehave([Wrong::Silence; 8]);
        let told = unavailable(blobs.fetch(scope(), &stored).await);
        assert!(told.contains("20000 ms"), "{told}");
        assert!(fake.asked() <= 4);
    });
}

#[test]
fn bodies_from_before_the_bucket_are_found_in_the_folder() {
    block_on(async {
        let (fake, folder) = (FakeBucket::start().await, Folder::new("bucket"));
        let stored = Blobs::folder(folder.path()).park(scope(), large(5)).await.unwrap();
        let blobs = blobs(fake.options(), &folder);
        assert_eq!(blobs.fetch(scope(), &stored).await.unwrap(), large(5));
        blobs.discard(scope(), Digest::of(&large(5))).await.unwrap();
        let gone = Blobs::folder(folder.path()).fetch(scope(), &stored).await;
        assert!(matches!(gone, Err(Error::Missing(_))), "{gone:?}");
    });
}

/// What an operator may get wrong, and what is said about it.
async fn mistakes(right: BucketOptions, nowhere: String) {
    let folder = Folder::new("bucket");
    let wrong_key = |id: &str, secret: &str| Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.to_owned()),
        ..right.credentials.clone()
    };
    let id = right.credentials.access_key_id.clone();
    for (options, want) in [
        (
            BucketOptions { bucket: "another-bucket".to_owned(), ..right.clone() },
            "another-bucket does not exist",
        ),
        (BucketOptions { credentials: wrong_key(&id, "guessed"), ..right.clone() }, "SignatureDoesNotMatch"),
        (
            BucketOptions { credentials: wrong_key("nobody", "guessed"), ..right.clone() },
            "InvalidAccessKeyId",
        ),
        (BucketOptions { endpoint: nowhere, ..right.clone() }, "cannot reach 127.0.0.1"),
    ] {
        let told = unavailable(blobs(options, &folder).check().await);
        assert!(told.contains(want), "{want}: {told}");
        assert!(!told.contains("guessed"), "{told}");
    }
}

async fn nobody_there() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_mistake_in_the_configuration_is_named() {
    block_on(async {
        let fake = FakeBucket::start().await;
        mistakes(fake.options(), nobody_there().await).await;
        let folder = Folder::new("bucket");
        let elsewhere = BucketOptions { region: "us-west-2".to_owned(), ..fake.options() };
        let told = unavailable(blobs(elsewhere, &folder).check().await);
        assert!(told.contains("another region"), "{told}");
        fake.misbehave([Wrong::Status(200, "x")]);
        let told = unavailable(blobs(fake.options(), &folder).check().await);
        assert!(told.contains("other bytes"), "{told}");
    });
}

#[test]
fn a_real_server_keeps_what_two_processes_share() {
    let server = BucketServer::start();
    block_on(async {
        let (here, there) = (Folder::new("here"), Folder::new("there"));
        let open = |folder: &Folder| {
            let client = Client::new().unwrap();
            Blobs::bucket(server.options(), folder.path(), client, Arc::new(RealClock::new())).unwrap()
        };
        let (one, two) = (open(&here), open(&there));
        one.check().await.unwrap();
        for size in [blob::INLINE_MAX + 1, 1 << 20, 5 << 20] {
            let sealed: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let stored = one.park(scope(), sealed.clone()).await.unwrap();
            assert_eq!(two.fetch(scope(), &stored).await.unwrap(), sealed);
            two.discard(scope(), Digest::of(&sealed)).await.unwrap();
            assert!(matches!(one.fetch(scope(), &stored).await, Err(Error::Missing(_))), "{size}");
        }
        mistakes(server.options(), nobody_there().await).await;
    });
}
