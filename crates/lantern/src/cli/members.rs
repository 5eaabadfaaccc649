//! `lantern members` and `lantern logins`: the people of a tenant, and where one is logged in oneself.
//!
//! Invariant: the text of an invitation or a reset goes to standard output, alone, and nowhere else; nothing here keeps it.

use clap::{Args, Subcommand, ValueEnum};
use lantern_types::{InvitationId, SignInId, UserId};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text, time};
use crate::cli::login::{self, Chosen};
use crate::cli::runs::confirmed;
use crate::cli::table::Column;

const MEMBERS: &str = "/v1/members";
const INVITATIONS: &str = "/v1/invitations";
const LOGINS: &str = "/auth/sign-ins";

const PEOPLE: &[Column] = &[
    Column::whole("ID"),
    Column::text("EMAIL"),
    Column::text("NAME"),
    Column::whole("ROLE"),
    Column::whole("SEEN"),
    Column::spare("SINCE"),
];
const WAITING: &[Column] = &[
    Column::whole("ID"),
    Column::text("EMAIL"),
    Column::whole("ROLE"),
    Column::whole("EXPIRES"),
    Column::spare("INVITED"),
];
const PLACES: &[Column] = &[
    Column::whole("ID"),
    Column::whole("THIS"),
    Column::whole("FROM"),
    Column::text("CLIENT"),
    Column::whole("USED"),
    Column::whole("UNTIL"),
    Column::spare("SINCE"),
];

/// What a person may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Looks at everything
    Viewer,
    /// Makes agents and runs, and decides what they ask
    Member,
    /// The same, and looks after keys, providers and people
    Admin,
    /// Everything
    Owner,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// What can be done with the people of a tenant.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the people of the tenant, the newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Invite somebody: the answer is what to hand to them, which is shown once
    Invite {
        /// Their address
        email: String,
        /// What they may do, no more than yourself
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// How many days it is good
        #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=30))]
        expires_in_days: u32,
    },
    /// List invitations that nobody has used yet
    Invitations {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Take an invitation back
    Withdraw {
        /// The invitation's id
        invitation: InvitationId,
    },
    /// Come into a tenant by an invitation, and log in
    Accept(AcceptArgs),
    /// Give a member another role
    Role {
        /// The member's id
        member: UserId,
        /// What they may do from now on
        #[arg(value_enum)]
        role: Role,
    },
    /// Remove a member: their logins end, and keys that they made are revoked
    Remove {
        /// The member's id
        member: UserId,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
    /// Log a member out everywhere
    Logout {
        /// The member's id
        member: UserId,
    },
    /// Let a member log in without a code, because their authenticator app is gone
    RemoveTotp {
        /// The member's id
        member: UserId,
    },
    /// Make a password reset for a member: the answer is what to hand to them, which is shown once
    ResetPassword {
        /// The member's id
        member: UserId,
    },
}

/// Flags of `lantern members accept`.
#[derive(Args, Debug)]
pub(crate) struct AcceptArgs {
    /// The invitation, as it was handed to you; asked for when left out
    invitation: Option<String>,
    #[command(flatten)]
    password: Chosen,
    /// Your name; without it, what stands before the @ of your address
    #[arg(long)]
    name: Option<String>,
}

/// What can be done with one's own logins.
#[derive(Debug, Subcommand)]
pub(crate) enum LoginsVerb {
    /// List where you are logged in, the newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// End one of your logins
    End {
        /// The login's id
        login: SignInId,
    },
}

/// Does what was asked. Whoever accepts an invitation has no login yet.
pub(crate) async fn run(console: &Console, globals: &Globals, verb: Verb) -> Result<(), Failure> {
    if let Verb::Accept(args) = verb {
        return accept(console, globals, args).await;
    }
    let api = &super::opened(globals).await?;
    match verb {
        Verb::List { limit } => {
            let row = |one: &Value| {
                let [id, email, name, role] =
                    ["id", "email", "name", "role"].map(|name| text(one, name).to_owned());
                vec![id, email, name, role, time(text(one, "lastSeenAt")), time(text(one, "createdAt"))]
            };
            list(
                console,
                api,
                List { path: MEMBERS, limit, columns: PEOPLE, none: "nobody is a member" },
                row,
            )
            .await
        }
        Verb::Invitations { limit } => {
            let row = |one: &Value| {
                let [id, email, role] = ["id", "email", "role"].map(|name| text(one, name).to_owned());
                vec![id, email, role, time(text(one, "expiresAt")), time(text(one, "createdAt"))]
            };
            list(
                console,
                api,
                List { path: INVITATIONS, limit, columns: WAITING, none: "no invitation waits" },
                row,
            )
            .await
        }
        Verb::Invite { email, role, expires_in_days } => {
            let body = json!({ "email": email, "role": role.as_str(), "expiresInDays": expires_in_days });
            let made = api.fetch(Call::post(INVITATIONS, body)).await?;
            let invited = made.get("invitation").unwrap_or(&Value::Null);
            let until = time(text(invited, "expiresAt"));
            hand_on(
                console,
                api,
                &made,
                &format!(
                    "hand it to {} now, it is not shown again: `lantern members accept` takes it until {until}",
                    line(&email)
                ),
            )
        }
        Verb::Withdraw { invitation } => {
            api.send(Call::delete(format!("{INVITATIONS}/{invitation}"))).await?;
            let answer = json!({ "id": invitation, "withdrawn": true });
            console.answer(&answer, || format!("took the invitation {invitation} back"))
        }
        Verb::Accept(_) => Ok(()),
        Verb::Role { member, role } => {
            let body = json!({ "role": role.as_str() });
            let changed = api.fetch(Call::patch(format!("{MEMBERS}/{member}"), body)).await?;
            console.answer(&changed, || {
                let article = if matches!(role, Role::Admin | Role::Owner) { "an" } else { "a" };
                format!("{} is {article} {} now", line(text(&changed, "email")), role.as_str())
            })
        }
        Verb::Remove { member, force } => {
            confirmed(console, force, &format!("remove the member {member}"))?;
            api.send(Call::delete(format!("{MEMBERS}/{member}"))).await?;
            console
                .answer(&json!({ "id": member, "removed": true }), || format!("removed the member {member}"))
        }
        Verb::Logout { member } => {
            api.send(Call::delete(format!("{MEMBERS}/{member}/sign-ins"))).await?;
            let answer = json!({ "id": member, "loggedOut": true });
            console.answer(&answer, || format!("logged the member {member} out everywhere"))
        }
        Verb::RemoveTotp { member } => {
            api.send(Call::delete(format!("{MEMBERS}/{member}/totp"))).await?;
            let answer = json!({ "id": member, "removed": true });
            console.answer(&answer, || format!("the member {member} logs in without a code now"))
        }
        Verb::ResetPassword { member } => {
            let made = api.fetch(Call::post(format!("{MEMBERS}/{member}/password-reset"), json!({}))).await?;
            let until = time(text(&made, "expiresAt"));
            hand_on(
                console,
                api,
                &made,
                &format!(
                    "hand it to them now, it is not shown again: `lantern password reset` takes it until {until}"
                ),
            )
        }
    }
}

/// Does what was asked of one's own logins.
pub(crate) async fn logins(console: &Console, api: &Api, verb: LoginsVerb) -> Result<(), Failure> {
    match verb {
        LoginsVerb::List { limit } => {
            let row = |one: &Value| {
                let this = if one.get("current") == Some(&Value::Bool(true)) { "this" } else { "" };
                let [id, from, client] = ["id", "source", "client"].map(|name| text(one, name).to_owned());
                let times = ["lastUsedAt", "expiresAt", "createdAt"].map(|name| time(text(one, name)));
                [id, this.to_owned(), from, client].into_iter().chain(times).collect()
            };
            list(
                console,
                api,
                List { path: LOGINS, limit, columns: PLACES, none: "you are logged in nowhere" },
                row,
            )
            .await
        }
        LoginsVerb::End { login } => {
            api.send(Call::delete(format!("{LOGINS}/{login}"))).await?;
            console.answer(&json!({ "id": login, "ended": true }), || format!("ended the login {login}"))
        }
    }
}

async fn accept(console: &Console, globals: &Globals, args: AcceptArgs) -> Result<(), Failure> {
    let api = Api::anonymous(globals)?;
    let (token, password) = login::slip(console, args.invitation, args.password, "Invitation")?;
    let body = json!({ "token": token.expose(), "password": password.expose(), "name": args.name });
    let reply = api.fetch(Call::post("/auth/invitations/accept", body).public()).await?;
    login::keep(console, &api, &reply, "came in and logged in")
}

/// The text alone on standard output, and what to do with it beside it.
fn hand_on(console: &Console, api: &Api, made: &Value, note: &str) -> Result<(), Failure> {
    if text(made, "token").is_empty() {
        return Err(api.stranger());
    }
    console.answer(made, || line(text(made, "token")))?;
    if !console.json() {
        console.note(note);
    }
    Ok(())
}

/// Which list, and how it is shown.
struct List {
    path: &'static str,
    limit: u32,
    columns: &'static [Column],
    /// What is said when there is nothing.
    none: &'static str,
}

async fn list(
    console: &Console,
    api: &Api,
    list: List,
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<(), Failure> {
    let listed = api.list(list.path, list.limit).await?;
    let found = listed.entries;
    if console.json() {
        console.value(&Value::Array(found))?;
    } else if found.is_empty() {
        console.note(list.none);
    } else {
        console.table(list.columns, &found.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(listed.more, list.limit);
    Ok(())
}
