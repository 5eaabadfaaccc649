//! `lantern totp`: a code of an authenticator app beside the password.
//!
//! Invariant: the secret and the recovery codes go to standard output and nowhere else; nothing here keeps them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::{Console, fields};
use crate::cli::failure::Failure;
use crate::cli::format::{line, number, text, time};
use crate::cli::login;

const PATH: &str = "/auth/totp";

/// What can be done with the second factor.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show whether logging in asks you for a code
    Show,
    /// Get a secret for your authenticator app, and confirm that the app makes codes
    Enable(Password),
    /// Confirm that your authenticator app makes codes: from now on logging in asks for one
    Confirm {
        /// The code that the app shows now
        code: String,
    },
    /// Log in without a code again
    Disable(Password),
}

/// The password that is asked for again.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Password {
    /// Read your password from standard input: its first line
    #[arg(long)]
    password_stdin: bool,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show => {
            let shown = api.fetch(Call::get(PATH)).await?;
            console.answer(&shown, || described(&shown))
        }
        Verb::Enable(password) => enable(console, api, password).await,
        Verb::Confirm { code } => confirm(console, api, &code).await,
        Verb::Disable(Password { password_stdin }) => {
            let password = login::password_again(console, password_stdin)?;
            api.send(Call::post(format!("{PATH}/disable"), json!({ "password": password.expose() }))).await?;
            console.answer(&json!({ "enabled": false }), || "logging in asks for no code any more".to_owned())
        }
    }
}

async fn enable(console: &Console, api: &Api, password: Password) -> Result<(), Failure> {
    let password = login::password_again(console, password.password_stdin)?;
    let begun = api.fetch(Call::post(PATH, json!({ "password": password.expose() }))).await?;
    console.answer(&begun, || {
        let [secret, uri] = ["secret", "uri"].map(|name| line(text(&begun, name)));
        fields(&[("secret", secret), ("address", uri)])
    })?;
    if console.json() || !console.interactive() {
        console.note("add it to your app, and confirm with `lantern totp confirm CODE`: until then nothing is asked for");
        return Ok(());
    }
    confirm(console, api, &login::ask_code()?).await
}

async fn confirm(console: &Console, api: &Api, code: &str) -> Result<(), Failure> {
    let done = api.fetch(Call::post(format!("{PATH}/confirm"), json!({ "code": code }))).await?;
    let codes = done.get("recoveryCodes").and_then(Value::as_array).into_iter().flatten();
    let codes: Vec<String> = codes.filter_map(Value::as_str).map(line).collect();
    console.answer(&done, || codes.join("\n"))?;
    if !console.json() {
        console.note(
            "logging in asks for a code from now on; keep these for when your app is gone, each is good once",
        );
    }
    Ok(())
}

fn described(shown: &Value) -> String {
    let enabled = shown.get("enabled") == Some(&Value::Bool(true));
    let left = if enabled { number(shown, "recoveryCodesLeft").to_string() } else { String::new() };
    let enabled = if enabled { "yes" } else { "no" };
    fields(&[
        ("enabled", enabled.to_owned()),
        ("since", time(text(shown, "confirmedAt"))),
        ("recovery codes left", left),
    ])
}
