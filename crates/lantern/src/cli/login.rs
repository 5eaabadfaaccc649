//! `login`, `signup`, `whoami` and `logout`.
//!
//! Invariant: a password is read without showing it, sent once and kept nowhere; what is kept are the tokens, for the
//! server that issued them. A command that is given a key or a token does not touch the saved login.

use std::io::{self, BufRead as _, IsTerminal as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use lantern_types::{At, Secret};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cli::api::{Api, Auth, Base, Call, DEFAULT_URL};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text, time};
use crate::cli::sso;
use crate::credentials::{Credentials, Place};
use crate::env;

/// The login that `lantern dev` seeds. It is no secret: such a server listens on this machine alone.
const DEV_LOGIN: (&str, &str) = ("admin@lantern.dev", "lantern");
/// More than any server takes as a password.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Who logs in.
#[derive(Args, Default)]
pub(crate) struct LoginArgs {
    /// Your email address; asked for when left out
    #[arg(long)]
    email: Option<String>,
    /// Your password; asked for, and not shown, when left out
    #[arg(long)]
    password: Option<String>,
    /// Read the password from standard input: its first line
    #[arg(long, requires = "email", conflicts_with = "password")]
    password_stdin: bool,
}

/// Flags of `lantern login`, whole.
#[derive(Args, Debug)]
pub(crate) struct CodedArgs {
    #[command(flatten)]
    login: LoginArgs,
    /// The code of your authenticator app, or a recovery code; asked for when it is needed and left out
    #[arg(long)]
    code: Option<String>,
    /// Log in by an issuer, in a browser on this machine: by this one, or by the only one that there is
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["email", "password", "password_stdin"])]
    sso: Option<String>,
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

/// A password that somebody chooses.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Chosen {
    /// Read the new password from standard input: its first line
    #[arg(long)]
    password_stdin: bool,
}

/// What was handed on, and the password that is chosen with it, as far as the flags do not say.
pub(crate) fn slip(
    console: &Console,
    said: Option<String>,
    chosen: Chosen,
    what: &str,
) -> Result<(Secret<String>, Secret<String>), Failure> {
    let interactive = console.interactive();
    let missing = |what: &str, next: &str| {
        Failure::usage(format!("there is nobody to ask for {what}")).hint(next.to_owned())
    };
    let slip = match said {
        Some(said) => Secret::new(said),
        None if interactive => ask_password_as(what)?,
        None => return Err(missing(&format!("the {}", what.to_lowercase()), "write it behind the command")),
    };
    let password = if chosen.password_stdin {
        piped_password()?
    } else if interactive {
        ask_twice()?
    } else {
        return Err(missing("the password", "pass --password-stdin"));
    };
    Ok((slip, password))
}

/// Asks for a secret, which is not shown.
pub(crate) fn ask_password_as(what: &str) -> Result<Secret<String>, Failure> {
    let answer = rpassword::prompt_password(question(what, None)).map_err(|error| unanswered(&error))?;
    let needed = || Failure::usage(format!("this needs an answer: {}", what.to_lowercase()));
    answered(&answer, None).map(Secret::new).ok_or_else(needed)
}

/// Asks for the code that an authenticator app shows.
pub(crate) fn ask_code() -> Result<String, Failure> {
    ask_password_as("Code of your app").map(|code| code.expose().clone())
}

/// The password of somebody who is logged in, from standard input or asked for.
pub(crate) fn password_again(console: &Console, piped: bool) -> Result<Secret<String>, Failure> {
    if piped {
        piped_password()
    } else if console.interactive() {
        ask_password_as("Password")
    } else {
        Err(Failure::usage("there is nobody to ask for the password").hint("pass --password-stdin"))
    }
}

/// Asks for a new password until it is the same twice in a row; nobody sees what they type.
pub(crate) fn ask_twice() -> Result<Secret<String>, Failure> {
    let (one, again) = (ask_password_as("New password")?, ask_password_as("The same again")?);
    if one.expose() == again.expose() { Ok(one) } else { Err(Failure::usage("these are not the same")) }
}

/// Secrets from standard input, one for each line.
pub(crate) fn piped_lines() -> Result<Vec<Secret<String>>, Failure> {
    let failed = |error: io::Error| {
        Failure::usage(format!("cannot read the passwords: {error}")).hint("give them as lines of text")
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(io::stdin().lock(), PASSWORD_BYTES_MAX), &mut text)
        .map_err(failed)?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(|line| Secret::new(line.to_owned())).collect())
}

/// Leaves the password out.
impl std::fmt::Debug for LoginArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginArgs").field("email", &self.email).finish_non_exhaustive()
    }
}

impl LoginArgs {
    /// Whether they name somebody.
    pub(crate) const fn given(&self) -> bool {
        self.email.is_some()
    }
}

/// Logs in and saves the login, and says nothing of it.
pub(crate) async fn sign_in(console: &Console, api: &Api, args: LoginArgs) -> Result<(), Failure> {
    let reply = show(console, api, args, None).await?;
    save(api, &reply).map(drop)
}

/// Logs in and saves the login.
pub(crate) async fn login(console: &Console, globals: &Globals, args: CodedArgs) -> Result<(), Failure> {
    let api = Api::anonymous(globals)?;
    let code = args.code.as_deref();
    let reply = match args.sso {
        Some(name) => sso::show(console, &api, &name, code).await?,
        None => show(console, &api, args.login, code).await?,
    };
    keep(console, &api, &reply, "logged in")
}

/// Shows who one is, and the code of one's app where the server asks for it.
async fn show(console: &Console, api: &Api, args: LoginArgs, code: Option<&str>) -> Result<Value, Failure> {
    let (email, password) = ask(console, api, args, true).await?;
    match api.fetch(Call::login(&email, &password, code)).await {
        Err(failure)
            if failure.code.as_deref() == Some("second_factor_required") && console.interactive() =>
        {
            api.fetch(Call::login(&email, &password, Some(&ask_code()?))).await
        }
        reply => reply,
    }
}

/// Makes an account and saves its login.
pub(crate) async fn signup(console: &Console, globals: &Globals, args: SignupArgs) -> Result<(), Failure> {
    let api = Api::anonymous(globals)?;
    let (email, password) = ask(console, &api, args.login, false).await?;
    let reply = api.fetch(Call::signup(&email, &password, args.name.as_deref())).await?;
    keep(console, &api, &reply, "signed up and logged in")
}

/// Saves what the server answered to a login.
fn save(api: &Api, reply: &Value) -> Result<Credentials, Failure> {
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
    Ok(credentials)
}

/// Saves what the server answered to a login, and says so.
pub(crate) fn keep(console: &Console, api: &Api, reply: &Value, done: &str) -> Result<(), Failure> {
    let credentials = save(api, reply)?;
    let token = text(reply, "token");
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
    let renews = matches!(api.auth(), Auth::Login(_));
    let me = match api.fetch(Call::get("/auth/me")).await {
        Err(failure) if renews && failure.exit == Exit::Unreachable => {
            console.warn(&format!("{}; this is the saved login, which may be over", failure.message));
            remembered()?
        }
        me => me?,
    };
    console.answer(&me, || describe(&me, api.base().as_str(), renews))
}

/// Who logged in, as far as the saved login says.
fn remembered() -> Result<Value, Failure> {
    let saved = place()?.load().ok().flatten().ok_or_else(|| {
        Failure::new(Exit::Forbidden, "not logged in").code("not_logged_in").hint("run `lantern login`")
    })?;
    let Credentials { email, name, tenant_id, user_id, .. } = saved;
    Ok(json!({ "id": user_id, "email": email, "name": name, "tenantId": tenant_id, "offline": true }))
}

/// Ends the saved login and forgets it. It is forgotten all the same when the server cannot be told. With a key or a token,
/// which commands use in its place, it is left alone.
pub(crate) async fn logout(console: &Console, globals: &Globals, args: LogoutArgs) -> Result<Exit, Failure> {
    let place = place()?;
    if let Some(failure) = given_instead(globals).filter(|_| place.file().exists()) {
        return Err(failure);
    }
    let mut whose = None;
    if let Ok(Some(saved)) = place.load_to_end() {
        whose = Some((saved.api_url.clone(), saved.email.clone()));
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
    let (url, email) = whose.unzip();
    let answer = json!({ "loggedOut": removed, "apiUrl": url, "email": email });
    console.answer(&answer, || match (removed, url.as_deref().zip(email.as_deref())) {
        (false, _) => "there was no saved login".to_owned(),
        (true, None) => "logged out".to_owned(),
        (true, Some((url, ""))) => format!("logged out of {}", line(url)),
        (true, Some((url, email))) => format!("logged out of {} as {}", line(url), line(email)),
    })?;
    Ok(Exit::Ok)
}

/// Whoever brings a key or a token is not the saved login, and would not expect that it ends.
fn given_instead(globals: &Globals) -> Option<Failure> {
    let set: Vec<&str> =
        [env::API_KEY, env::API_TOKEN].into_iter().filter(|name| env::get(name).is_some()).collect();
    let (source, next) = match (&globals.api_key, set.first()) {
        (Some(_), _) => ("--api-key", "leave --api-key out to end the saved login".to_owned()),
        (None, Some(name)) => (*name, format!("to end the saved login: {}= lantern logout", set.join("= "))),
        (None, None) => return None,
    };
    let message = format!("{source} is used in place of the saved login, which was not ended");
    Some(Failure::usage(message).code("login_kept").hint(next))
}

fn place() -> Result<Place, Failure> {
    Place::find().ok_or_else(|| {
        Failure::new(Exit::Failed, "there is no home folder to keep the login in")
            .hint(format!("name a file in {}", env::CREDENTIALS))
    })
}

/// An API key has no name and no email, and is good until its end or for ever. A login that is saved `renews`; a token that
/// was given ends.
fn describe(me: &Value, server: &str, renews: bool) -> String {
    let scopes = me.get("scopes").and_then(Value::as_array);
    let until = match time(text(me, if renews { "signInExpiresAt" } else { "expiresAt" })) {
        until if until.is_empty() && scopes.is_some() => "somebody revokes it".to_owned(),
        until => until,
    };
    let scopes: Vec<&str> = scopes.into_iter().flatten().filter_map(Value::as_str).collect();
    fields(&[
        ("email", text(me, "email").to_owned()),
        ("name", text(me, "name").to_owned()),
        ("role", text(me, "role").to_owned()),
        ("scopes", scopes.join(", ")),
        ("tenant", text(me, "tenantId").to_owned()),
        ("server", server.to_owned()),
        ("until", until),
    ])
}

/// What the flags say, and the answers to what they do not. Whoever is not `known` yet is offered nothing to answer.
async fn ask(
    console: &Console,
    api: &Api,
    args: LoginArgs,
    known: bool,
) -> Result<(String, Secret<String>), Failure> {
    let password = if args.password_stdin { Some(piped_password()?) } else { args.password.map(Secret::new) };
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
        (true, _) => ("the password", "--password-stdin or --password"),
        (false, true) => ("the email", "--email"),
        (false, false) => ("the email and the password", "--email and --password-stdin or --password"),
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

/// The first line of standard input. What is typed at a terminal would be shown.
fn piped_password() -> Result<Secret<String>, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(Failure::usage("standard input is a terminal, which would show the password")
            .hint("leave --password-stdin out to be asked for it"));
    }
    let read = first_line(input.lock()).map_err(|error| {
        Failure::usage(format!("cannot read the password: {error}")).hint("give it as a line of text")
    })?;
    read.map(Secret::new).ok_or_else(|| {
        Failure::usage("standard input has no password").hint("write it there, as the first line")
    })
}

/// Without its line end; nothing for an empty one.
fn first_line(input: impl io::BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    input.take(PASSWORD_BYTES_MAX).read_line(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
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
            (true, false, "the password", "pass --password-stdin or --password,"),
            (false, true, "the email", "pass --email,"),
            (false, false, "the email and the password", "pass --email and --password-stdin or --password,"),
        ] {
            let failure = nobody(email, password);
            assert!(failure.message.ends_with(&format!("ask for {message}")), "{failure:?}");
            assert!(failure.hint.unwrap_or_default().starts_with(flags), "{message}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let (email, password) = (Some("a@b.c".into()), Some("hunter2".into()));
        let args = LoginArgs { email, password, password_stdin: false };
        assert!(!format!("{args:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_is_described_by_what_it_has() {
        let mut me = json!({ "id": "", "email": "", "name": "", "role": "service", "tenantId": "t" });
        assert_eq!(describe(&me, "http://s", false), "role    service\ntenant  t\nserver  http://s");
        me["scopes"] = json!(["read", "write"]);
        let want =
            "role    service\nscopes  read, write\ntenant  t\nserver  http://s\nuntil   somebody revokes it";
        assert_eq!(describe(&me, "http://s", false), want);
        me["expiresAt"] = json!("2026-09-21T14:13:20.5Z");
        assert!(describe(&me, "http://s", false).ends_with("until   2026-09-21 14:13:20Z"));
    }

    #[test]
    fn a_login_counts_until_it_is_not_renewed_and_a_token_until_its_end() {
        let me = json!({ "role": "member", "expiresAt": "2026-09-21T14:13:20Z",
            "signInExpiresAt": "2026-10-21T14:13:20Z" });
        for (renews, month) in [(true, "10"), (false, "09")] {
            let want = format!("until   2026-{month}-21 14:13:20Z");
            assert!(describe(&me, "s", renews).ends_with(&want), "{renews}");
        }
    }

    #[test]
    fn a_password_is_the_first_line() {
        for (input, want) in [
            ("pw\nmore\n", Some("pw")),
            ("pw\r\n", Some("pw")),
            (" p w ", Some(" p w ")),
            ("\npw\n", None),
            ("", None),
        ] {
            assert_eq!(first_line(input.as_bytes()).unwrap().as_deref(), want, "{input:?}");
        }
        assert!(first_line([0xff, b'\n'].as_slice()).is_err());
    }
}
