//! `lantern password`: choosing another one, with the old one or with a reset that somebody has handed on.

use clap::{Args, Subcommand};
use lantern_types::Secret;
use serde_json::json;

use crate::cli::Globals;
use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::login::{self, Chosen};

/// What can be done with one's password.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Change your password; your other logins end
    Change,
    /// Choose a new password by a reset that was handed to you; all your logins end
    Reset(ResetArgs),
}

/// Flags of `lantern password reset`.
#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    /// The reset, as it was handed to you; asked for when left out
    reset: Option<String>,
    #[command(flatten)]
    password: Chosen,
}

/// Does what was asked. Whoever has a reset has no login.
pub(crate) async fn run(console: &Console, globals: &Globals, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Change => {
            let api = super::opened(globals).await?;
            let [current, new] = two(console)?;
            let body = json!({ "currentPassword": current.expose(), "newPassword": new.expose() });
            api.send(Call::post("/auth/password", body)).await?;
            let words = "the password is changed; your other logins have ended";
            console.answer(&json!({ "changed": true }), || words.to_owned())
        }
        Verb::Reset(args) => {
            let api = Api::anonymous(globals)?;
            let (token, new) = login::slip(console, args.reset, args.password, "Reset")?;
            let body = json!({ "token": token.expose(), "newPassword": new.expose() });
            api.send(Call::post("/auth/password-reset", body).public()).await?;
            let words = "the password is changed: log in with `lantern login`";
            console.answer(&json!({ "changed": true }), || words.to_owned())
        }
    }
}

/// The password and the next one: asked for, or two lines of standard input.
fn two(console: &Console) -> Result<[Secret<String>; 2], Failure> {
    if console.interactive() {
        return Ok([login::ask_password_as("Password")?, login::ask_twice()?]);
    }
    let lines = login::piped_lines()?;
    let [current, new] = lines.try_into().map_err(|_| {
        Failure::usage("standard input is not two passwords")
            .hint("write the old one and the new one, a line each")
    })?;
    Ok([current, new])
}
