//! Every environment variable that Lantern reads, by name, and the one place where they are read.
//!
//! A variable that is set to nothing counts as not set, so `LANTERN_API_KEY= lantern …` switches it off. The comment of
//! a variable is what `docs/environment.md` says of it; `make gen` writes that page.

mod local;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

pub(crate) use local::FILE as LOCAL_FILE;

/// One variable, as the page shows it.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// Which commands read it.
    readers: &'static str,
    /// The same setting in the file that `serve --config` names, which also knows the default: `server.listen`.
    key: &'static str,
    pub(crate) default: &'static str,
    #[cfg(test)]
    meaning: &'static str,
}

impl Variable {
    /// Whether its value is nobody's business.
    pub(crate) fn secret(&self) -> bool {
        [
            CREDENTIAL_KEY,
            RECEIPT_SEED,
            AWS_SESSION_TOKEN,
            OPENAI_API_KEY,
            ANTHROPIC_API_KEY,
            GEMINI_API_KEY,
            ADMIN_PASSWORD,
            DATABASE_OWNER_URL,
            DATABASE_URL,
            OTEL_HEADERS,
            GOOGLE_CLIENT_SECRET,
            GITHUB_CLIENT_SECRET,
            OIDC_CLIENT_SECRET,
        ]
        .contains(&self.name)
    }
}

/// `NAME = "VARIABLE" in "key.of.the.file" or "default";` under those who read it.
macro_rules! variables {
    ($($readers:literal {
        $($(#[doc = $line:literal])+ $name:ident = $text:literal $(in $key:literal)? $(or $default:expr)?;)+
    })+) => {
        $($($(#[doc = $line])+ pub(crate) const $name: &str = $text;)+)+

        const ALL: &[Variable] = &[$($(Variable {
            name: $text,
            readers: $readers,
            key: concat!($($key)?),
            default: [$($default,)? ""][0],
            #[cfg(test)]
            meaning: concat!($($line),+),
        }),+),+];
    };
}

variables! {
    "client commands" {
        /// Where the server is. `--api-url` wins over it.
        API_URL = "LANTERN_API_URL" or crate::cli::DEFAULT_URL;
        /// An API key (`hlx_live_…`). `--api-key` wins over it.
        API_KEY = "LANTERN_API_KEY";
        /// The tenant in which all that is asked must happen; a login or key of another is refused. `--tenant-id` wins over it.
        TENANT_ID = "LANTERN_TENANT_ID";
        /// A session token, for when there is no API key.
        API_TOKEN = "LANTERN_API_TOKEN";
        /// The key of a model provider, for `lantern providers set`.
        PROVIDER_KEY = "LANTERN_PROVIDER_KEY";
        /// The file that `lantern login` writes.
        CREDENTIALS = "LANTERN_CREDENTIALS" or "~/.lantern/credentials.json";
        /// What `lantern agents edit` opens an agent in; flags may follow the name.
        VISUAL = "VISUAL";
        /// The same, when there is no `VISUAL`.
        EDITOR = "EDITOR" or "vi";
        /// The user's own folder.
        HOME = "HOME";
    }
    "all commands" {
        /// Set to anything: no colour (<https://no-color.org>).
        NO_COLOR = "NO_COLOR";
        /// The kind of terminal; a `dumb` one gets neither colour nor moving lines.
        TERM = "TERM" or "dumb";
    }
    "`dev`, `serve`" {
        /// The address to listen on. `--listen` wins over it.
        LISTEN = "LANTERN_LISTEN" in "server.listen";
        /// Where a server keeps its files. `--data-dir` wins over it.
        DATA_DIR = "LANTERN_DATA_DIR" in "server.data_dir";
        /// The master key that seals everything at rest: 32 bytes as hex or base64. Without it, it is the key file in
        /// the data folder, which the first start on a new database makes.
        CREDENTIAL_KEY = "LANTERN_CREDENTIAL_KEY";
        /// The operator's own key for receipts: the 32 bytes of an Ed25519 seed as hex or base64. Without it the server makes
        /// one, and keeps it sealed.
        RECEIPT_SEED = "LANTERN_RECEIPT_ED25519_SEED";
        /// Seconds that a stop waits for what is under way.
        DRAIN_TIMEOUT = "LANTERN_DRAIN_TIMEOUT" in "server.drain_secs";
        /// Origins of web pages that may call the API, separated by commas.
        CORS_ORIGINS = "LANTERN_CORS_ORIGINS" in "server.cors_origins";
        /// Proxies in front of the server, separated by commas, whose `X-Forwarded-For` says where a request comes from.
        TRUSTED_PROXIES = "LANTERN_TRUSTED_PROXIES" in "server.trusted_proxies";
        /// `true`: anybody who reaches the server may make an account, with a tenant of its own; `false`: nobody may. Without
        /// it: in `serve`, unless the operator's own model providers are there for everybody; in `dev`, always.
        SIGNUP = "LANTERN_SIGNUP" in "server.signup";
        /// `true`: this server runs the programs of workloads in boxes on its machine. Without it: in `dev`, always; in `serve`, never.
        WORKLOADS = "LANTERN_WORKLOADS" in "server.workloads";
        /// `1`: `dev` runs workloads of the class `standard` in a plain container where there is no gVisor, and says so of each.
        ALLOW_RUNC_STANDARD = "LANTERN_ALLOW_RUNC_STANDARD";
        /// PostgreSQL as the role that serves tenants. Together with the system URL it replaces the embedded database.
        DATABASE_APP_URL = "LANTERN_DATABASE_APP_URL" in "database.app_url";
        /// PostgreSQL as the role that claims runs and finds accounts.
        DATABASE_SYSTEM_URL = "LANTERN_DATABASE_SYSTEM_URL" in "database.system_url";
        /// The bucket in which every process finds the bodies over 64 KiB. Without it, they lie in the data folder.
        S3_BUCKET = "S3_BUCKET" in "bodies.bucket";
        /// Where that bucket is: `https://HOST[:PORT]`. Without it, the address that belongs to the region.
        S3_ENDPOINT = "S3_ENDPOINT" in "bodies.endpoint";
        /// What the names of all objects begin with.
        S3_PREFIX = "S3_PREFIX" in "bodies.prefix";
        /// `true`: the bucket's name is in the path, as most stores of one's own want it; `false`: in the host.
        /// Without it: in the path when there is an endpoint.
        S3_PATH_STYLE = "S3_PATH_STYLE" in "bodies.path_style";
        /// The bucket's region. Without it: `us-east-1` when there is an endpoint.
        AWS_REGION = "AWS_REGION" in "bodies.region";
        /// Which key the bucket is asked with.
        AWS_ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID" in "bodies.access_key_id";
        /// The key that the bucket is asked with.
        AWS_SECRET_ACCESS_KEY = "AWS_SECRET_ACCESS_KEY" in "bodies.secret_access_key";
        /// What comes with a temporary key; it is not renewed.
        AWS_SESSION_TOKEN = "AWS_SESSION_TOKEN";
        /// Where browsers reach this server, for issuers that people sign in by: `https://lantern.example`.
        OAUTH_REDIRECT_BASE = "OAUTH_REDIRECT_BASE" in "sso.public_url";
        /// Who this server is to Google. With its secret, people sign in by Google.
        GOOGLE_CLIENT_ID = "GOOGLE_CLIENT_ID";
        /// By what Google knows this server.
        GOOGLE_CLIENT_SECRET = "GOOGLE_CLIENT_SECRET";
        /// Who this server is to GitHub. With its secret, people sign in by GitHub.
        GITHUB_CLIENT_ID = "GITHUB_CLIENT_ID";
        /// By what GitHub knows this server.
        GITHUB_CLIENT_SECRET = "GITHUB_CLIENT_SECRET";
        /// An issuer of OpenID Connect that people sign in by, under the name `sso`: letter by letter as it calls itself.
        OIDC_ISSUER = "LANTERN_OIDC_ISSUER";
        /// What people are shown of it.
        OIDC_LABEL = "LANTERN_OIDC_LABEL";
        /// Who this server is to it.
        OIDC_CLIENT_ID = "LANTERN_OIDC_CLIENT_ID";
        /// By what it knows this server.
        OIDC_CLIENT_SECRET = "LANTERN_OIDC_CLIENT_SECRET";
        /// The id of the one tenant whose people it signs in.
        OIDC_TENANT = "LANTERN_OIDC_TENANT";
        /// `true`: it may be at a private address, and without TLS, as one on one's own machine is.
        OIDC_PRIVATE_ADDRESS = "LANTERN_OIDC_PRIVATE_ADDRESS" or "false";
        /// The domains whose addresses it signs in, separated by commas. It needs these or a tenant.
        OIDC_ALLOWED_DOMAINS = "LANTERN_OIDC_ALLOWED_DOMAINS";
        /// The operator's key for an OpenAI-compatible provider.
        OPENAI_API_KEY = "OPENAI_API_KEY";
        /// The operator's base URL for an OpenAI-compatible provider. Without it, the vendor's own when there is a key.
        OPENAI_BASE_URL = "OPENAI_BASE_URL";
        /// The operator's key for Anthropic.
        ANTHROPIC_API_KEY = "ANTHROPIC_API_KEY";
        /// The operator's base URL for a provider that speaks Anthropic's wire. Without it, the vendor's own when there is a
        /// key.
        ANTHROPIC_BASE_URL = "ANTHROPIC_BASE_URL";
        /// The operator's key for Gemini.
        GEMINI_API_KEY = "GEMINI_API_KEY";
        /// The operator's base URL for a provider that speaks Gemini's wire. Without it, the vendor's own when there is a key.
        GEMINI_BASE_URL = "GEMINI_BASE_URL";
        /// How many tokens a second the built-in offline model speaks; 0 for at once.
        OFFLINE_TOKENS_PER_SEC = "LANTERN_OFFLINE_TOKENS_PER_SEC" or "40";
        /// What counts when several models would do and nobody says: `balanced`, `cheap`, `best` or `fast`.
        ROUTE_STRATEGY = "LANTERN_ROUTE_STRATEGY" or "balanced";
        /// `true`: spans of runs are exported to a collector of OpenTelemetry; `false`: they are not, wherever one is named. Without it:
        /// where one is named.
        OTEL_ENABLED = "LANTERN_OTEL_ENABLED";
        /// Where that collector is; spans go to `/v1/traces` below it. With `LANTERN_OTEL_ENABLED` alone: `http://localhost:4318`.
        OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
        /// Where spans go, if not there: the whole URL.
        OTEL_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        /// Headers for the collector, as `NAME=VALUE,NAME=VALUE`, with values percent-encoded where they must be. It is kept like a key.
        OTEL_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS";
        /// How spans are written: `http/protobuf` or `http/json`.
        OTEL_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL" or "http/protobuf";
        /// What this server is called in traces.
        OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME" or "lantern";
        /// Where the shell looks for programs: the ready line then names this one as it can be called.
        PATH = "PATH";
    }
    "`dev`" {
        /// Where a local model server answers, as Ollama itself reads it: `HOST[:PORT]`, or a URL. It is used when no other
        /// provider is configured and it has a model. Without it: `127.0.0.1:11434`.
        OLLAMA_HOST = "OLLAMA_HOST";
    }
    "`dev`, `login`" {
        /// Where a desktop's windows are. With it, `dev` at a terminal opens the dashboard in a browser, unless `--no-open` is said, and
        /// `login --sso` the issuer.
        DISPLAY = "DISPLAY";
        /// The same, of desktops that speak Wayland.
        WAYLAND_DISPLAY = "WAYLAND_DISPLAY";
    }
    "`serve`" {
        /// No setting of ours. Where it is set and PostgreSQL is not configured by the two URLs above, `serve` refuses to start
        /// rather than to use its embedded database; set to nothing, it is nobody's.
        DATABASE_URL = "DATABASE_URL";
        /// Runs that one tenant may start in a minute, at each process; 0 for no limit. `dev` has none.
        SPAWN_RATE_PER_MIN = "LANTERN_SPAWN_RATE_PER_MIN" in "server.spawn_rate_per_min";
        /// Runs that one tenant may start at once before the rate counts. Without it: as many as in a whole minute.
        SPAWN_BURST = "LANTERN_SPAWN_BURST" in "server.spawn_burst";
        /// The address of the first account, which is made when it is not there.
        ADMIN_EMAIL = "LANTERN_ADMIN_EMAIL";
        /// The password of that account, wanted beside its address: at least 12 characters. An account that is there
        /// keeps its own.
        ADMIN_PASSWORD = "LANTERN_ADMIN_PASSWORD";
    }
    "`serve`, `migrate`" {
        /// PostgreSQL as the owner of the tables. `serve` uses it once, to bring the schema up to date when it starts; without
        /// it, `migrate` is to be run first.
        DATABASE_OWNER_URL = "LANTERN_DATABASE_OWNER_URL";
    }
    "`migrate`" {
        /// The password that `--create-roles` gives the role that serves tenants.
        DATABASE_APP_PASSWORD = "LANTERN_DATABASE_APP_PASSWORD";
        /// The password that `--create-roles` gives the system role.
        DATABASE_SYSTEM_PASSWORD = "LANTERN_DATABASE_SYSTEM_PASSWORD";
    }
    "`dev`, `serve`, `migrate`" {
        /// What is logged: `error`, `warn`, `info`, `debug`, or filter directives. Without it: `info` in `serve`, `warn`
        /// in the others.
        LOG_LEVEL = "LOG_LEVEL" in "server.log_level";
    }
}

/// Where a variable's value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The environment of this process.
    Environment,
    /// [`LOCAL_FILE`] in the working directory.
    Local,
}

/// What stands in the local file, once it was read.
static LOCAL: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// Lets the local file of the working directory count from now on, behind the environment, and answers whether there is
/// one; else says why it cannot be used and what to do.
pub(crate) fn read_local() -> Result<bool, (String, String)> {
    let found = local::read(Path::new(LOCAL_FILE))?;
    Ok(found.is_some_and(|found| LOCAL.set(found).is_ok()))
}

/// Names like ours that other programs read, in whose surroundings a server may be started.
const OTHERS: &[&str] = &[
    "LANTERN_BRIDGE_TOKEN",
    "LANTERN_BUILD_COMMIT",
    "LANTERN_BUILD_VERSION",
    "LANTERN_GRPC_ENDPOINT",
    "LANTERN_IMESSAGE_BRIDGE_TOKEN",
    "LANTERN_JOURNAL_PATH",
    "LANTERN_MANAGER_ADDR",
    "LANTERN_RUNTIME",
    "LANTERN_RUN_ID",
    "LANTERN_SIDECAR_ADDR",
    "LANTERN_USE_REST",
];

/// Refuses a variable of the environment that looks like ours and that nobody reads: what it says, and what to do.
pub(crate) fn refuse_strays() -> Result<(), (String, String)> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut strays: Vec<String> = names.filter(|name| strays(name)).collect();
    strays.sort();
    strays.first().map_or(Ok(()), |name| Err(stray(name, "the environment")))
}

fn strays(name: &str) -> bool {
    name.starts_with("LANTERN_") && !ours(name) && !OTHERS.contains(&name) && !is_told_by_kubernetes(name)
}

/// Whether a cluster sets this by itself, for a service that is called like us: `LANTERN_SERVICE_HOST`,
/// `LANTERN_API_PORT_8080_TCP_ADDR`, …
fn is_told_by_kubernetes(name: &str) -> bool {
    let numbered = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(numbered)
}

/// What is said of such a name, and what to do.
fn stray(name: &str, place: &str) -> (String, String) {
    let every = "docs/environment.md has every variable";
    let next = nearest(name)
        .map_or_else(|| format!("take it out; {every}"), |meant| format!("did you mean {meant}? {every}"));
    (format!("nothing reads {name}, which {place} sets"), next)
}

/// The value of a variable, or `None` when it is not set or empty. Bytes that are not UTF-8 are replaced.
pub(crate) fn get(name: &'static str) -> Option<String> {
    find(name).map(|(value, _)| value)
}

/// Where the value of a variable stands that is set.
pub(crate) fn origin(name: &'static str) -> Option<Origin> {
    find(name).map(|(_, origin)| origin)
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn find(name: &'static str) -> Option<(String, Origin)> {
    if let Some(value) = std::env::var_os(name) {
        // Set to nothing, it switches off what the file says too.
        let value = value.to_string_lossy().into_owned();
        return Some((value, Origin::Environment)).filter(|(value, _)| !value.is_empty());
    }
    let value = LOCAL.get()?.get(name).filter(|value| !value.is_empty())?;
    Some((value.clone(), Origin::Local))
}

/// The variable that is the same setting as a key of the file.
pub(crate) fn of_key(key: &str) -> Option<&'static str> {
    ALL.iter().find(|variable| variable.key == key).map(|variable| variable.name)
}

/// The settings of a command that have no key in the file.
pub(crate) fn without_key(command: &'static str) -> impl Iterator<Item = &'static Variable> {
    // Where the shell looks for programs is no setting of ours.
    let read = move |variable: &&Variable| variable.readers.contains(&format!("`{command}`"));
    ALL.iter().filter(|variable| variable.key.is_empty() && variable.name != PATH).filter(read)
}

fn ours(name: &str) -> bool {
    ALL.iter().any(|variable| variable.name == name)
}

/// The variable that was probably meant.
fn nearest(name: &str) -> Option<&'static str> {
    lantern_types::nearest(name, ALL.iter().map(|variable| variable.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generated, server};

    const HEAD: &str = "\
# Environment variables

Every variable that `lantern` reads. One that is set to nothing counts as not set. A variable wins over the same setting in
the file of `serve --config`, all of which is in [config.example.toml](../config.example.toml); a flag wins over both.
Written by `make gen` from [env.rs](../crates/lantern/src/env.rs).

| variable | read by | in the file | default | meaning |
|---|---|---|---|---|
";

    #[test]
    fn a_name_that_nobody_reads_is_a_stray() {
        for (name, want) in [
            ("LANTERN_DATABSE_APP_URL", true),
            ("LANTERN_LISTN", true),
            ("LANTERN_", true),
            ("LANTERN_RLS_ENFORCE", true),
            ("LANTERN_PORT_", true),
            ("LANTERN_LISTEN", false),
            ("LANTERN_TENANT_ID", false),
            ("LANTERN_USE_REST", false),
            ("LANTERN_SERVICE_HOST", false),
            ("LANTERN_API_SERVICE_PORT_HTTP", false),
            ("LANTERN_PORT", false),
            ("LANTERN_PORT_8080_TCP_ADDR", false),
            ("LANTERNS", false),
            ("PATH", false),
        ] {
            assert_eq!(strays(name), want, "{name}");
        }
        let (what, next) = stray("LANTERN_DATABSE_APP_URL", "the environment");
        assert_eq!(what, "nothing reads LANTERN_DATABSE_APP_URL, which the environment sets");
        assert!(next.starts_with("did you mean LANTERN_DATABASE_APP_URL?"), "{next}");
    }

    #[test]
    fn the_page_has_every_variable() {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let row = |variable: &Variable| {
            let Variable { name, readers, key, default, meaning } = variable;
            let default = if key.is_empty() { (*default).to_owned() } else { server::default_of(key) };
            let cells =
                [code(name), (*readers).to_owned(), code(key), code(&default), meaning.trim().to_owned()];
            format!("| {} |\n", cells.join(" | "))
        };
        generated::keep("docs/environment.md", &(HEAD.to_owned() + &ALL.iter().map(row).collect::<String>()));
    }
}
