//! A login over the hours: renewed when its access token is over, by one command at a time, and ended for good.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::process::{Folder, Server};
use crate::cli_fake::{Done, User};

/// A person at a server, with a home folder of their own.
struct Person {
    user: User,
    server: Server,
    folder: Folder,
}

impl Person {
    fn new() -> Self {
        let folder = Folder::new();
        let server = Server::dev(folder.path());
        Self { user: User::new().with("LANTERN_API_URL", &server.api), server, folder }
    }

    fn run(&self, args: &[&str]) -> Done {
        self.user.run(args)
    }

    fn sign_up(&self, email: &str) -> String {
        self.run(&["signup", "--email", email, "--password", "correct horse"]).ok()
    }

    fn file(&self) -> PathBuf {
        self.user.home.join(".lantern/credentials.json")
    }

    fn saved(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file()).unwrap()).unwrap()
    }

    /// Writes a file that only its owner can read, as the program does.
    fn put(&self, saved: &Value) {
        std::fs::write(self.file(), saved.to_string()).unwrap();
        std::fs::set_permissions(self.file(), Permissions::from_mode(0o600)).unwrap();
    }

    /// An hour later: the access token is none any more.
    fn an_hour_passes(&self) {
        let mut saved = self.saved();
        saved["token"] = json!("over");
        self.put(&saved);
    }
}

#[test]
fn who_signs_up_stays_logged_in_until_they_log_out() {
    let person = Person::new();
    let words = person.sign_up("ada@example.com");
    assert!(words.starts_with("signed up and logged in to http://127.0.0.1:"), "{words}");
    assert!(words.contains(" as ada@example.com, until "), "{words}");
    let first = person.saved();
    person.an_hour_passes();
    assert!(person.run(&["whoami"]).ok().contains("email   ada@example.com\n"));
    let second = person.saved();
    assert_ne!((&first["token"], &first["refreshToken"]), (&second["token"], &second["refreshToken"]));
    assert_eq!(first["email"], second["email"]);

    let url = &person.server.api;
    assert_eq!(person.run(&["logout"]).ok(), format!("logged out of {url} as ada@example.com\n"));
    assert!(!person.file().exists());
    // Whoever has a copy of the file has nothing.
    person.put(&second);
    let done = person.run(&["whoami"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(
        done.err.contains("(unauthorized)\nnext: the login has expired: run `lantern login`"),
        "{done:?}"
    );
}

#[test]
fn whoever_asks_who_they_are_is_told_until_when_and_what_their_key_may_do() {
    let person = Person::new();
    let words = person.sign_up("ada@example.com");
    let until = words.trim_end().rsplit_once(", until ").unwrap().1;
    assert!(person.run(&["whoami"]).ok().ends_with(&format!("\nuntil   {until}\n")), "{words}");
    let make = ["keys", "create", "--name", "k", "--scope", "read", "--scope", "write"];
    let key = person.run(&make).ok();
    let told = person.run(&["whoami", "--api-key", key.trim()]).ok();
    assert!(
        told.contains("\nscopes  read, write\n") && told.ends_with("\nuntil   somebody revokes it\n"),
        "{told}"
    );
    let key = person.run(&[&make[..], &["--expires-in", "30d"]].concat()).ok();
    let listed: Value = serde_json::from_str(&person.run(&["keys", "list", "-o", "json"]).ok()).unwrap();
    let ends = listed[0]["expiresAt"].as_str().unwrap();
    let told = person.run(&["whoami", "--api-key", key.trim()]).ok();
    assert!(told.ends_with(&format!("\nuntil   {}Z\n", ends.get(..19).unwrap().replace('T', " "))), "{told}");
    let told: Value = serde_json::from_str(&person.run(&["whoami", "-o", "json"]).ok()).unwrap();
    assert!(told["expiresAt"].as_str().unwrap() < told["signInExpiresAt"].as_str().unwrap(), "{told}");
}

#[test]
fn commands_side_by_side_renew_a_login_once() {
    let person = Person::new();
    person.sign_up("ada@example.com");
    for _ in 0..3 {
        person.an_hour_passes();
        std::thread::scope(|scope| {
            let commands: Vec<_> = (0..6).map(|_| scope.spawn(|| person.run(&["whoami"]))).collect();
            for command in commands {
                assert!(command.join().unwrap().ok().contains("ada@example.com"));
            }
        });
    }
}

#[test]
fn a_login_is_ended_everywhere() {
    let person = Person::new();
    person.sign_up("ada@example.com");
    let elsewhere = person.saved();
    person.run(&["login", "--email", "ada@example.com", "--password", "correct horse"]).ok();
    person.an_hour_passes();
    person.run(&["logout", "--everywhere"]).ok();
    person.put(&elsewhere);
    assert_eq!(person.run(&["whoami"]).code, 3);
}

#[test]
fn a_copied_refresh_token_ends_the_login() {
    let person = Person::new();
    person.sign_up("ada@example.com");
    let copy = person.saved();
    person.an_hour_passes();
    person.run(&["whoami"]).ok();
    let mine = person.saved();
    let mut thief = copy;
    thief["token"] = json!("over");
    person.put(&thief);
    assert_eq!(person.run(&["whoami"]).code, 3);
    person.put(&mine);
    assert_eq!(person.run(&["whoami"]).code, 3, "and nobody is in any more");
}

#[test]
fn a_server_that_is_gone_keeps_nobody_logged_in() {
    let person = Person::new();
    person.sign_up("ada@example.com");
    let saved = person.saved();
    let Person { user, server, folder } = person;
    server.kill();
    drop(folder);
    let done = user.run(&["logout"]);
    assert!(done.code == 0 && done.out.starts_with("logged out of http://127.0.0.1:"), "{done:?}");
    assert!(done.err.contains("warning: the server was not told: cannot reach"), "{done:?}");
    assert!(saved["token"].is_string() && !user.home.join(".lantern/credentials.json").exists());
}

#[test]
fn an_owner_who_is_locked_out_comes_back_by_the_servers_machine() {
    let person = Person::new();
    person.sign_up("ada@example.com");
    let folder = person.folder.path().to_str().unwrap();
    let nobody = ["admin", "reset-password", "--email", "eve@example.com", "--data-dir", folder];
    let done = person.run(&nobody);
    assert!(done.code != 0 && done.err.contains("(account_not_found)"), "{done:?}");
    // Beside the server, which runs.
    let made =
        person.run(&["admin", "reset-password", "--email", "ADA@example.com", "--data-dir", folder]).ok();
    let reset = ["password", "reset", made.trim(), "--password-stdin"];
    person.user.run_reading(&reset, "another horse battery\n").ok();
    assert_eq!(person.run(&["whoami"]).code, 3, "whoever was logged in with the old one is out");
    let again = person.user.run_reading(&reset, "a third horse battery\n");
    assert!(again.code == 3 && again.err.contains("(invalid_reset_token)"), "{again:?}");
    let login = |password| person.run(&["login", "--email", "ada@example.com", "--password", password]);
    assert_eq!(login("correct horse").code, 3);
    login("another horse battery").ok();
    assert!(person.run(&["whoami"]).ok().contains("role    owner\n"));
    // And for a second factor that is gone; there is none here, and that is no fault.
    let done = person.run(&["admin", "remove-totp", "--email", "ada@example.com", "--data-dir", folder]);
    assert_eq!(done.ok(), "ada@example.com logs in without a code now\n");
}
