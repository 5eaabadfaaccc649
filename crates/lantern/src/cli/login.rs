//! `login`, `signup`, `whoami` and `logout`.
//!
//! Invariant: a password is read without showing it, sent once and kept nowhere; what is kept are the tokens, for the
//! server that issued them.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use lantern_types::{At, Secret};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cli::api::{Api, Base, Call, DEFAULT_URL};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text, time};
use crate::credentials::{Credentials, Place};
use crate::env;

/// The login that `lantern dev` seeds. It is no secret: such a server listens on this machine alone.
const DEV_LOGIN: (&str, &str) = ("admin@lantern.dev", "lantern");

/// Flags of `lantern login`.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// Your email address; asked for when left out
    #[arg(long)]
    email: Option<String>,
    /// Your password; asked for, and not shown, when left out
    #[arg(long)]
    password: Option<String>,
}

/// Flags of `lantern signup`.
#[derive(Args, Debug)]
pub(crate) struct SignupArgs {
    #[command(flatten)]
    login: LoginArgs,
    /// Your name; without it, what stands before the @ of your address
    #[arg(long)]
    name: Option<String>,
}

/// Flags of `lantern logout`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LogoutArgs {
    /// End all your logins to this server, on other machines and in browsers too
    #[arg(long)]
    everywhere: bool,
}

/// Leaves the password out.
impl std::fmt::Debug for LoginArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginArgs").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Logs in and saves the login.
pub(crate) async fn login(console: &Console, globals: &Globals, args: LoginArgs) -> Result<(), Failure> {
    let api = Api::anonymous(globals)?;
    let (email, password) = ask(console, &api, args, true).await?;
    let reply = api.fetch(Call::login(&email, &password)).await?;
    keep(console, &api, &reply, "logged in")
}

/// Makes an account and saves its login.
pub(crate) async fn signup(console: &Console, globals: &Globals, args: SignupArgs) -> Result<(), Failure> {
    let api = Api::anonymous(globals)?;
    let (email, password) = ask(console, &api, args.login, false).await?;
    let reply = api.fetch(Call::signup(&email, &password, args.name.as_deref())).await?;
    keep(console, &api, &reply, "signed up and logged in")
}

/// Saves what the server answered to a login, and says so.
fn keep(console: &Console, api: &Api, reply: &Value, done: &str) -> Result<(), Failure> {
    let place = place()?;
    let user = reply.get("user").cloned().unwrap_or_default();
    let token = text(reply, "token");
    if token.is_empty() {
        return Err(api.stranger());
    }
    let credentials = Credentials {
        api_url: api.base().as_str().to_owned(),
        token: Secret::new(token.to_owned()),
        refresh_token: Some(text(reply, "refreshToken"))
            .filter(|token| !token.is_empty())
            .map(|token| Secret::new(token.to_owned())),
        email: text(&user, "email").to_owned(),
        name: text(&user, "name").to_owned(),
        tenant_id: text(&user, "tenantId").to_owned(),
        user_id: text(&user, "id").to_owned(),
    };
    // A command that renews another login meanwhile must not put that one back.
    let kept = place.lock().and_then(|_lock| place.save(&credentials));
    kept.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot save the login in {}: {error}", place.file().display()))
            .hint(format!("name another file in {}", env::CREDENTIALS))
    })?;
    let until = Some(text(reply, "refreshExpiresAt")).and_then(|at| at.parse().ok()).or_else(|| until(token));
    let answer = json!({ "email": credentials.email, "expiresAt": until.map(|at| at.to_string()), "name": credentials.name,
        "tenantId": credentials.tenant_id, "apiUrl": credentials.api_url,
        // How clients of the contract know it.
        "tenant_id": credentials.tenant_id });
    console.answer(&answer, || {
        let until = until.map(|at| format!(", until {}", time(&at.to_string()))).unwrap_or_default();
        format!("{done} to {} as {}{until}", credentials.api_url, line(&credentials.email))
    })?;
    let given = env::get(env::API_URL).is_some_and(|url| Base::parse(&url).as_ref() == Ok(api.base()));
    if !given && api.base().as_str() != DEFAULT_URL {
        console.note(&format!("for the next commands: export {}={}", env::API_URL, credentials.api_url));
    }
    for name in [env::API_KEY, env::API_TOKEN] {
        if env::get(name).is_some() {
            console.warn(&format!("{name} is set and wins over this login"));
        }
    }
    Ok(())
}

/// Shows who the server takes us for.
pub(crate) async fn whoami(console: &Console, api: &Api) -> Result<(), Failure> {
    let me = api.fetch(Call::get("/auth/me")).await?;
    console.answer(&me, || describe(&me, api.base().as_str()))
}

/// Ends the saved login and forgets it. It is forgotten all the same when the server cannot be told.
pub(crate) async fn logout(console: &Console, args: LogoutArgs) -> Result<Exit, Failure> {
    let place = place()?;
    if let Ok(Some(saved)) = place.load_to_end() {
        let api = Api::saved(saved)?;
        let call = Call::post("/auth/logout", json!({ "everywhere": args.everywhere }));
        match api.fetch(call).await {
            // Its login was over already.
            Err(failure) if failure.exit == Exit::Forbidden && !args.everywhere => {}
            Err(failure) => console.warn(&format!("the server was not told: {}", failure.message)),
            Ok(_) => {}
        }
    }
    let remove =
        || if place.file().exists() { place.lock().and_then(|_lock| place.remove()) } else { Ok(false) };
    let removed = remove().map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot remove {}: {error}", place.file().display()))
    })?;
    let words = if removed { "logged out" } else { "there was no saved login" };
    console.answer(&json!({ "loggedOut": removed }), || words.to_owned())?;
    Ok(Exit::Ok)
}

fn place() -> Result<Place, Failure> {
    Place::find().ok_or_else(|| {
        Failure::new(Exit::Failed, "there is no home folder to keep the login in")
            .hint(format!("name a file in {}", env::CREDENTIALS))
    })
}

/// An API key has no name and no email.
fn describe(me: &Value, server: &str) -> String {
    fields(&[
        ("email", text(me, "email").to_owned()),
        ("name", text(me, "name").to_owned()),
        ("role", text(me, "role").to_owned()),
        ("tenant", text(me, "tenantId").to_owned()),
        ("server", server.to_owned()),
    ])
}

/// What the flags say, and the answers to what they do not. Whoever is not `known` yet is offered nothing to answer.
async fn ask(
    console: &Console,
    api: &Api,
    args: LoginArgs,
    known: bool,
) -> Result<(String, Secret<String>), Failure> {
    let password = args.password.map(Secret::new);
    if let (Some(email), Some(password)) = (args.email.clone(), password.clone()) {
        return Ok((email, password));
    }
    if !console.interactive() {
        return Err(nobody(args.email.is_some(), password.is_some()));
    }
    let dev = known && api.base().is_loopback() && healthy(api).await?;
    let email = match args.email {
        Some(email) => email,
        None => ask_email(console, dev.then_some(DEV_LOGIN.0))?,
    };
    let password = match password {
        Some(password) => password,
        None => ask_password((dev && email == DEV_LOGIN.0).then_some(DEV_LOGIN.1))?,
    };
    Ok((email, password))
}

/// When the session ends, as its token says; `None` for a token that is none of the kind that says so.
fn until(token: &str) -> Option<At> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("exp")?.as_i64()?.checked_mul(1_000_000).map(At::from_micros)
}

/// Nobody can be asked for what the flags do not say.
fn nobody(email: bool, password: bool) -> Failure {
    let (what, flags) = match (email, password) {
        (true, _) => ("the password", "--password"),
        (false, true) => ("the email", "--email"),
        (false, false) => ("the email and the password", "--email and --password"),
    };
    Failure::usage(format!("there is nobody to ask for {what}"))
        .hint(format!("pass {flags}, or set LANTERN_API_KEY instead of logging in"))
}

/// Also finds out before the first question that there is no server to log in to.
async fn healthy(api: &Api) -> Result<bool, Failure> {
    Ok(text(&api.fetch(Call::get("/healthz").public()).await?, "status") == "ok")
}

fn ask_email(console: &Console, default: Option<&str>) -> Result<String, Failure> {
    console.ask(&question("Email", default));
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).map_err(|error| unanswered(&error))? == 0 {
        return Err(Failure::new(Exit::Failed, "nothing was entered"));
    }
    answered(answer.trim(), default).ok_or_else(|| Failure::usage("an email address is needed"))
}

fn ask_password(default: Option<&str>) -> Result<Secret<String>, Failure> {
    let answer =
        rpassword::prompt_password(question("Password", default)).map_err(|error| unanswered(&error))?;
    answered(&answer, default).map(Secret::new).ok_or_else(|| Failure::usage("a password is needed"))
}

fn question(what: &str, default: Option<&str>) -> String {
    default.map_or_else(|| format!("{what}: "), |default| format!("{what} [{default}]: "))
}

fn answered(answer: &str, default: Option<&str>) -> Option<String> {
    if answer.is_empty() { default.map(str::to_owned) } else { Some(answer.to_owned()) }
}

fn unanswered(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::Interrupted {
        return Failure::new(Exit::Interrupted, "interrupted");
    }
    Failure::new(Exit::Failed, format!("cannot ask: {error}")).hint("pass --email and --password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_typed_means_what_was_offered() {
        assert_eq!(question("Email", Some("a@b.c")), "Email [a@b.c]: ");
        assert_eq!(question("Email", None), "Email: ");
        assert_eq!(answered("", Some("a@b.c")).as_deref(), Some("a@b.c"));
        assert_eq!(answered("x@y.z", Some("a@b.c")).as_deref(), Some("x@y.z"));
        assert_eq!(answered("", None), None);
    }

    #[test]
    fn a_token_says_how_long_it_is_good() {
        for (claims, want) in [
            (json!({ "exp": 1_790_000_000 }), Some("2026-09-21T14:13:20Z")),
            (json!({ "exp": i64::MAX }), None),
            (json!({ "sub": "x" }), None),
        ] {
            let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
            assert_eq!(until(&token).map(|at| at.to_string()).as_deref(), want, "{claims}");
        }
        assert_eq!((until("opaque"), until("a.%.c")), (None, None));
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        for (email, password, message, flags) in [
            (true, false, "the password", "pass --password,"),
            (false, true, "the email", "pass --email,"),
            (false, false, "the email and the password", "pass --email and --password,"),
        ] {
            let failure = nobody(email, password);
            assert!(failure.message.ends_with(&format!("ask for {message}")), "{failure:?}");
            assert!(failure.hint.unwrap_or_default().starts_with(flags), "{message}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let args = LoginArgs { email: Some("a@b.c".into()), password: Some("hunter2".into()) };
        assert!(!format!("{args:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_is_described_by_what_it_has() {
        let me = json!({ "id": "", "email": "", "name": "", "role": "service", "tenantId": "t" });
        assert_eq!(describe(&me, "http://s"), "role    service\ntenant  t\nserver  http://s");
    }
}
