//! Every environment variable that Lantern reads, by name, and the one function that reads them.
//!
//! A variable that is set to nothing counts as not set, so `LANTERN_API_KEY= lantern …` switches it off.

/// Where the server is: `http://127.0.0.1:8080`. `--api-url` wins over it.
pub(crate) const API_URL: &str = "LANTERN_API_URL";
/// An API key (`hlx_live_…`) that the client commands send. `--api-key` wins over it.
pub(crate) const API_KEY: &str = "LANTERN_API_KEY";
/// A session token that the client commands send when there is no API key.
pub(crate) const API_TOKEN: &str = "LANTERN_API_TOKEN";
/// Another place for the file that `lantern login` writes; the default is `~/.lantern/credentials.json`.
pub(crate) const CREDENTIALS: &str = "LANTERN_CREDENTIALS";
/// Set to anything: no colour (<https://no-color.org>).
pub(crate) const NO_COLOR: &str = "NO_COLOR";
/// The kind of terminal; a `dumb` one gets neither colour nor moving lines.
pub(crate) const TERM: &str = "TERM";
/// Where the shell looks for programs.
pub(crate) const PATH: &str = "PATH";
/// The user's own folder.
pub(crate) const HOME: &str = "HOME";

/// The address a server listens on; `--listen` wins over it.
pub(crate) const LISTEN: &str = "LANTERN_LISTEN";
/// Where a server keeps its files; `--data-dir` wins over it.
pub(crate) const DATA_DIR: &str = "LANTERN_DATA_DIR";
/// The master key that seals everything at rest: 32 bytes as hex or base64. Without it a key file is made in the data
/// folder.
pub(crate) const CREDENTIAL_KEY: &str = "LANTERN_CREDENTIAL_KEY";
/// Runs that one tenant may start in a minute; 0 for no limit. Without it: 120 in `serve`, none in `dev`.
pub(crate) const SPAWN_RATE_PER_MIN: &str = "LANTERN_SPAWN_RATE_PER_MIN";
/// Runs that one tenant may start at once before the rate counts. Without it: as many as in a whole minute.
pub(crate) const SPAWN_BURST: &str = "LANTERN_SPAWN_BURST";
/// Seconds that a stop waits for what is under way: 30.
pub(crate) const DRAIN_TIMEOUT: &str = "LANTERN_DRAIN_TIMEOUT";
/// Origins of web pages that may call the API, separated by commas: `http://localhost:3001`.
pub(crate) const CORS_ORIGINS: &str = "LANTERN_CORS_ORIGINS";
/// PostgreSQL as the role that serves tenants; together with the system URL it replaces the embedded database.
pub(crate) const DATABASE_APP_URL: &str = "LANTERN_DATABASE_APP_URL";
/// PostgreSQL as the role that claims runs and finds accounts.
pub(crate) const DATABASE_SYSTEM_URL: &str = "LANTERN_DATABASE_SYSTEM_URL";
/// PostgreSQL as the owner of the tables; read by `lantern migrate` alone.
pub(crate) const DATABASE_OWNER_URL: &str = "LANTERN_DATABASE_OWNER_URL";
/// The password that `lantern migrate --create-roles` gives the role that serves tenants.
pub(crate) const DATABASE_APP_PASSWORD: &str = "LANTERN_DATABASE_APP_PASSWORD";
/// The password that `lantern migrate --create-roles` gives the system role.
pub(crate) const DATABASE_SYSTEM_PASSWORD: &str = "LANTERN_DATABASE_SYSTEM_PASSWORD";
/// The bucket in which every process finds the bodies over 64 KiB; without it they lie in the data folder.
pub(crate) const S3_BUCKET: &str = "S3_BUCKET";
/// Where that bucket is: `https://HOST[:PORT]`. Without it, the address that belongs to the region.
pub(crate) const S3_ENDPOINT: &str = "S3_ENDPOINT";
/// What the names of all objects begin with.
pub(crate) const S3_PREFIX: &str = "S3_PREFIX";
/// `true`: the bucket's name is in the path, as most stores of one's own want it; `false`: in the host. Without it:
/// in the path when there is an endpoint.
pub(crate) const S3_PATH_STYLE: &str = "S3_PATH_STYLE";
/// The bucket's region: `us-east-1` when there is an endpoint.
pub(crate) const AWS_REGION: &str = "AWS_REGION";
/// Which key the bucket is asked with.
pub(crate) const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The key that the bucket is asked with.
pub(crate) const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// What comes with a temporary key.
pub(crate) const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
/// The address of the first account of a `serve` process, made when it is not there.
pub(crate) const ADMIN_EMAIL: &str = "LANTERN_ADMIN_EMAIL";
/// The password of that account: at least 12 characters.
pub(crate) const ADMIN_PASSWORD: &str = "LANTERN_ADMIN_PASSWORD";
/// The operator's key for an OpenAI-compatible provider.
pub(crate) const OPENAI_API_KEY: &str = "OPENAI_API_KEY";
/// The operator's base URL for an OpenAI-compatible provider; the vendor's own when it is not set.
pub(crate) const OPENAI_BASE_URL: &str = "OPENAI_BASE_URL";
/// How quickly the built-in offline model speaks; 0 for at once.
pub(crate) const OFFLINE_TOKENS_PER_SEC: &str = "LANTERN_OFFLINE_TOKENS_PER_SEC";
/// What a server logs: `warn`, `info`, `debug`, or filter directives.
pub(crate) const LOG_LEVEL: &str = "LOG_LEVEL";

/// The value of a variable, or `None` when it is not set or empty. Bytes that are not UTF-8 are replaced.
#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
pub(crate) fn get(name: &'static str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    Some(value.to_string_lossy().into_owned())
}
