//! Which command asks which route, and why some routes have none.
//!
//! Invariant: every route of `openapi.json` is in the table, and every command of a client is either here or in the list
//! of those that ask no route of their own. Exists for its tests: a new route without a command fails them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use serde_json::Value;

use crate::cli::Cli;

/// What somebody at a terminal does in place of the request.
#[derive(Clone, Copy, Debug)]
enum By {
    /// Any of these commands makes it.
    Verb(&'static [&'static str]),
    /// No command: it makes no sense on a command line, because.
    None(&'static str),
    /// Another spelling of that route, kept for clients that know it.
    Same(&'static str),
}

use By::{None as Nobody, Same, Verb};

const UNBUILT: &str = "not built yet: it answers 501, with why";

const ROUTES: &[(&str, By)] = &[
    ("GET /docs/api", Nobody("a page for a browser")),
    ("GET /openapi.json", Nobody("for generators of clients, which fetch it themselves")),
    ("GET /metrics", Nobody("for Prometheus, which asks without a login")),
    ("GET /readyz", Nobody("for load balancers; `doctor` checks more")),
    ("GET /healthz", Verb(&["doctor", "onboard"])),
    ("POST /auth/login", Verb(&["login", "onboard"])),
    ("POST /auth/signup", Verb(&["signup"])),
    ("POST /auth/logout", Verb(&["logout"])),
    ("POST /auth/refresh", Nobody("every command does it by itself when a login is over")),
    ("GET /auth/oauth", Verb(&["login", "doctor"])),
    ("POST /auth/oauth/exchange", Verb(&["login"])),
    ("GET /auth/oauth/{provider}/terminal", Nobody("`login --sso` has a browser open it")),
    ("GET /auth/oauth/{provider}/callback", Nobody("issuers send browsers there")),
    ("GET /auth/oauth/{provider}/start", Nobody("the contract's way to begin, for pages")),
    (
        "POST /auth/oauth/{provider}/start",
        Nobody("for pages, whose browser goes on to the issuer; `login --sso` begins in one"),
    ),
    ("POST /auth/session/sso", Nobody("for pages of this server, which are signed in by a cookie")),
    ("POST /v1/sso/check", Verb(&["doctor"])),
    ("GET /auth/identities", Verb(&["identities list"])),
    ("DELETE /auth/identities/{id}", Verb(&["identities unlink"])),
    ("POST /auth/identities", Nobody("for pages: it takes the browser that came back from the issuer")),
    ("POST /auth/session", Nobody("for pages of this server, which are signed in by a cookie")),
    (
        "POST /auth/session/invitation",
        Nobody("for pages of this server; `members accept` takes an invitation"),
    ),
    ("DELETE /auth/session", Nobody("for pages of this server; `logout` ends a login")),
    ("GET /auth/sign-ins", Verb(&["logins list"])),
    ("DELETE /auth/sign-ins/{id}", Verb(&["logins end"])),
    ("GET /auth/totp", Verb(&["totp show"])),
    ("POST /auth/totp", Verb(&["totp enable"])),
    ("POST /auth/totp/confirm", Verb(&["totp enable", "totp confirm"])),
    ("POST /auth/totp/disable", Verb(&["totp disable"])),
    ("DELETE /v1/members/{id}/totp", Verb(&["members remove-totp"])),
    ("POST /auth/password", Verb(&["password change"])),
    ("POST /auth/password-reset", Verb(&["password reset"])),
    ("POST /auth/invitations/accept", Verb(&["members accept"])),
    ("GET /v1/members", Verb(&["members list"])),
    ("PATCH /v1/members/{id}", Verb(&["members role"])),
    ("DELETE /v1/members/{id}", Verb(&["members remove"])),
    ("DELETE /v1/members/{id}/sign-ins", Verb(&["members logout"])),
    ("POST /v1/members/{id}/password-reset", Verb(&["members reset-password"])),
    ("GET /v1/invitations", Verb(&["members invitations"])),
    ("POST /v1/invitations", Verb(&["members invite"])),
    ("DELETE /v1/invitations/{id}", Verb(&["members withdraw"])),
    ("GET /auth/me", Verb(&["whoami", "doctor"])),
    ("POST /v1/auth/sse-ticket", Nobody("for web pages, which cannot send a header with an event stream")),
    ("GET /v1/agents", Verb(&["agents list"])),
    ("POST /v1/agents", Verb(&["agents create"])),
    ("GET /v1/agents/{name}", Verb(&["agents get"])),
    ("PATCH /v1/agents/{name}", Verb(&["agents create", "agents edit"])),
    ("DELETE /v1/agents/{name}", Verb(&["agents archive"])),
    ("POST /v1/agents/{name}/restore", Verb(&["agents restore"])),
    ("GET /v1/agents/{name}/versions", Verb(&["agents versions"])),
    ("GET /v1/agents/{name}/versions/{version}", Verb(&["agents get"])),
    ("GET /v1/agents/{name}/versions/{version}/diff/{other}", Verb(&["agents diff"])),
    ("POST /v1/agents/{name}/versions/{version}/promote", Verb(&["agents promote"])),
    ("GET /v1/agents/{name}/runs", Same("GET /v1/runs")),
    ("POST /v1/agents/{name}/runs", Same("POST /v1/runs")),
    ("POST /v1/agents/{name}/trigger", Same("POST /v1/runs")),
    ("GET /v1/agents/templates", Verb(&["agents templates"])),
    ("POST /v1/agents/from-template", Verb(&["agents from-template"])),
    ("GET /v1/agents/{name}/setup", Nobody("no template needs anything yet that could be missing")),
    ("GET /v1/agents/{name}/feedback", Verb(&["agents feedback"])),
    ("GET /v1/runs/{id}/feedback", Verb(&["runs feedback"])),
    ("POST /v1/runs/{id}/feedback", Verb(&["runs rate"])),
    ("POST /v1/runs/rehearse", Verb(&["runs rehearse"])),
    ("GET /v1/runs/{id}/takeover", Nobody("the contract's words for what `approvals list` shows")),
    (
        "POST /v1/runs/{id}/takeover/{takeoverId}/release",
        Nobody("the contract's words for `approvals grant`"),
    ),
    ("GET /v1/agents/{name}/workflow", Nobody(UNBUILT)),
    ("PUT /v1/agents/{name}/workflow", Nobody(UNBUILT)),
    ("GET /v1/agents/{name}/deploy", Nobody(UNBUILT)),
    ("POST /v1/agents/{name}/deploy", Nobody(UNBUILT)),
    ("POST /v1/agents/{name}/deploy/stop", Nobody(UNBUILT)),
    ("POST /v1/agents/loop", Nobody(UNBUILT)),
    ("POST /v1/audio/transcriptions", Nobody(UNBUILT)),
    ("POST /v1/voice/tts", Nobody(UNBUILT)),
    ("POST /v1/runs/{id}/takeover/request", Nobody(UNBUILT)),
    ("POST /v1/runs/{id}/takeover/{takeoverId}/grant", Nobody(UNBUILT)),
    ("POST /v1/runs/{id}/takeover/{takeoverId}/answer", Nobody(UNBUILT)),
    ("DELETE /v1/tenants/{id}", Nobody(UNBUILT)),
    ("GET /v1/runs", Verb(&["runs list", "runs watch", "export"])),
    ("POST /v1/runs", Verb(&["runs create"])),
    ("POST /v1/runs/batch", Verb(&["runs create"])),
    ("GET /v1/runs/{id}", Verb(&["runs get", "runs watch", "export"])),
    ("DELETE /v1/runs/{id}", Verb(&["runs delete"])),
    ("POST /v1/runs/{id}/redact", Verb(&["runs redact"])),
    ("GET /v1/settings/retention", Verb(&["retention"])),
    ("POST /v1/settings/retention", Verb(&["retention"])),
    ("POST /v1/retention/preview", Verb(&["retention"])),
    ("GET /v1/settings/routing", Verb(&["routing show"])),
    ("POST /v1/settings/routing", Verb(&["routing set", "routing alias"])),
    ("GET /v1/runs/{id}/events", Verb(&["logs", "runs explain", "runs watch", "export"])),
    ("GET /v1/runs/{id}/stream", Same("GET /v1/runs/{id}/events")),
    ("POST /v1/runs/{id}/cancel", Verb(&["runs cancel", "runs watch"])),
    ("POST /v1/runs/{id}/pause", Verb(&["runs pause"])),
    ("POST /v1/runs/{id}/resume", Verb(&["runs resume"])),
    ("POST /v1/runs/{id}/fork", Verb(&["runs fork"])),
    ("POST /v1/runs/{id}/replay", Verb(&["runs replay"])),
    ("GET /v1/runs/{id}/diff/{other}", Verb(&["runs diff"])),
    ("POST /v1/runs/{id}/signals/{name}", Verb(&["runs signal"])),
    ("POST /v1/runs/{id}/approvals/{stepId}", Verb(&["runs approve", "runs deny", "runs watch"])),
    ("POST /v1/runs/{id}/steps/{stepId}/resolve", Verb(&["runs resolve"])),
    ("GET /v1/receipts", Verb(&["receipts list"])),
    ("GET /v1/runs/{id}/receipt", Verb(&["receipts get"])),
    ("POST /v1/runs/{id}/receipt", Same("GET /v1/runs/{id}/receipt")),
    ("GET /v1/runs/{id}/receipt/file", Verb(&["receipts export"])),
    ("GET /v1/runs/{id}/receipt/attestation", Verb(&["receipts export"])),
    ("POST /v1/runs/receipts/verify", Nobody("`verify` checks a file here, and believes no server")),
    ("GET /v1/receipts/log", Verb(&["receipts log"])),
    ("GET /v1/receipts/log/checkpoint", Nobody("for witnesses; `receipts log` shows the newest")),
    (
        "GET /v1/receipts/log/tile/{path}",
        Nobody("for witnesses and monitors, which compute proofs themselves"),
    ),
    ("GET /v1/receipts/log/inclusion", Nobody("for monitors; a receipt has its own proof in it")),
    ("GET /v1/receipts/log/consistency", Nobody("for monitors, which compare signed heads")),
    ("GET /.well-known/lantern-receipts", Verb(&["receipts keys"])),
    ("GET /v1/.well-known/lantern-receipts", Same("GET /.well-known/lantern-receipts")),
    ("GET /.well-known/jwks.json", Nobody("the same keys, for libraries that read this form")),
    ("GET /.well-known/lantern-agent-identity", Nobody("it says that there are none yet")),
    ("GET /v1/sessions", Verb(&["sessions list"])),
    ("POST /v1/sessions", Verb(&["sessions create", "chat"])),
    ("GET /v1/sessions/{id}", Verb(&["sessions get", "chat"])),
    ("DELETE /v1/sessions/{id}", Verb(&["sessions delete"])),
    ("POST /v1/sessions/{id}/messages", Verb(&["sessions send", "chat"])),
    ("POST /v1/sessions/{id}/stop", Verb(&["sessions stop"])),
    ("GET /v1/sessions/{id}/events", Verb(&["sessions events", "sessions send", "chat"])),
    ("GET /v1/approvals", Verb(&["approvals list"])),
    ("GET /v1/approvals/{id}", Verb(&["approvals get"])),
    ("POST /v1/approvals/{id}/grant", Verb(&["approvals grant"])),
    ("POST /v1/approvals/{id}/deny", Verb(&["approvals deny"])),
    ("POST /v1/approvals/{id}/answer", Verb(&["approvals answer"])),
    ("POST /v1/tenants/{tenant}/approvals/{id}/resolve", Same("POST /v1/approvals/{id}/answer")),
    ("GET /v1/api-keys", Verb(&["keys list"])),
    ("POST /v1/api-keys", Verb(&["keys create"])),
    ("DELETE /v1/api-keys/{id}", Verb(&["keys revoke"])),
    ("GET /v1/settings/api-keys", Same("GET /v1/api-keys")),
    ("POST /v1/settings/api-keys", Same("POST /v1/api-keys")),
    ("DELETE /v1/settings/api-keys/{id}", Same("DELETE /v1/api-keys/{id}")),
    ("GET /v1/settings/llm-providers", Verb(&["providers list"])),
    ("POST /v1/settings/llm-providers", Verb(&["providers set", "onboard"])),
    ("DELETE /v1/settings/llm-providers/{provider}", Verb(&["providers delete"])),
    ("POST /v1/settings/llm-providers/{provider}/test", Verb(&["providers test", "onboard"])),
    ("GET /v1/secrets", Verb(&["secrets list"])),
    ("GET /v1/policies", Verb(&["policy list"])),
    ("PUT /v1/policies", Verb(&["policy set"])),
    ("DELETE /v1/policies", Verb(&["policy off"])),
    ("POST /v1/policies/test", Verb(&["policy test"])),
    ("GET /v1/policies/{version}", Verb(&["policy get"])),
    ("GET /v1/secrets/{name}", Nobody("`secrets list` and `secrets versions` show what it answers")),
    ("PUT /v1/secrets/{name}", Verb(&["secrets set"])),
    ("DELETE /v1/secrets/{name}", Verb(&["secrets delete"])),
    ("GET /v1/secrets/{name}/versions", Verb(&["secrets versions"])),
    ("PATCH /v1/secrets/{name}/versions/{version}", Verb(&["secrets enable", "secrets disable"])),
    ("DELETE /v1/secrets/{name}/versions/{version}", Verb(&["secrets delete"])),
    ("GET /v1/secret-keys", Verb(&["secrets keys"])),
    ("POST /v1/secret-keys/rotate", Verb(&["secrets rekey"])),
    ("GET /v1/stops", Verb(&["stops list", "stops history", "doctor"])),
    ("POST /v1/stops", Verb(&["stop"])),
    ("GET /v1/stops/{id}", Verb(&["stops get"])),
    ("DELETE /v1/stops/{id}", Verb(&["stops lift"])),
    ("POST /v1/runs/forecast", Verb(&["forecast"])),
    ("GET /v1/calls", Verb(&["calls"])),
    ("GET /v1/usage", Verb(&["costs"])),
    ("GET /v1/settings/usage", Same("GET /v1/usage")),
    ("GET /v1/budgets", Verb(&["budgets list"])),
    ("GET /v1/agents/{name}/budget", Verb(&["budgets get"])),
    ("PUT /v1/agents/{name}/budget", Verb(&["budgets set"])),
    ("DELETE /v1/agents/{name}/budget", Verb(&["budgets delete"])),
    ("GET /v1/settings/caps", Verb(&["caps"])),
    ("POST /v1/settings/caps", Verb(&["caps"])),
    ("GET /v1/audit", Verb(&["audit list"])),
    ("GET /v1/audit/export", Verb(&["audit export"])),
    ("GET /v1/audit/verify", Verb(&["audit verify"])),
    ("GET /v1/tools", Verb(&["tools"])),
    (
        "POST /v1/chat/completions",
        Nobody("for programs with a client of that wire; `ask` asks in no vendor's words"),
    ),
    (
        "POST /v1/responses",
        Nobody("for programs with a client of that wire; `ask` asks in no vendor's words"),
    ),
    ("POST /v1/messages", Nobody("for programs with a client of that wire; `ask` asks in no vendor's words")),
    ("POST /v1/messages/count_tokens", Nobody("for programs with a client of that wire")),
    ("POST /v1/embeddings", Nobody("for programs, which have a use for vectors")),
    ("GET /v1/models", Verb(&["models"])),
    ("POST /v1/completions", Verb(&["ask"])),
    ("POST /v1/vision/ocr", Verb(&["ask"])),
    (
        "POST /v1/jarvis/stream-completion",
        Nobody("for programs that show words as they come; `ask` shows the answer"),
    ),
    ("POST /v1/agents/generate-spec", Verb(&["agents generate"])),
    ("POST /v1/agents/generate-code", Verb(&["agents generate"])),
    ("POST /v1/runtime/schedule", Verb(&["run"])),
    ("GET /v1/runtime/vms", Verb(&["vm list"])),
    ("GET /v1/runtime/vms/{id}", Verb(&["vm get"])),
    ("GET /v1/runtime/vms/{id}/logs", Verb(&["vm logs", "run"])),
    ("DELETE /v1/runtime/vms/{id}", Verb(&["vm stop"])),
    ("POST /v1/runtime/vms/{id}/exec", Verb(&["vm exec"])),
    ("GET /v1/runtime/audit", Verb(&["vm audit"])),
    ("GET /v1/runtime/metrics", Verb(&["vm metrics"])),
    ("GET /v1/runtime/cluster", Verb(&["vm cluster", "doctor"])),
    ("GET /v1/runtime/quota", Verb(&["vm quota get", "vm quota set"])),
    ("PUT /v1/runtime/quota", Verb(&["vm quota set"])),
    ("GET /v1/limits", Verb(&["limits", "doctor"])),
    ("GET /v1/settings/limits", Same("GET /v1/limits")),
];

/// Commands that are a server, look after one, or only write files here.
const LOCAL: &[&str] = &[
    "dev",
    "serve",
    "migrate",
    "backup",
    "restore",
    "config explain",
    "admin reset-password",
    "admin remove-totp",
    "init",
    "build",
    "completions",
    "man",
    "help",
    "verify",
    "receipts rotate-key",
    "policy check",
    "policy schema",
];

/// Method and path of every route that is described.
fn described() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    let api: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let methods = ["get", "post", "put", "patch", "delete"];
    let mut routes = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        let item = item.as_object().unwrap();
        let found = methods.iter().filter(|method| item.contains_key(**method));
        routes.extend(found.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    routes
}

/// Every command that does something, by its words.
fn leaves(command: &Command, words: &str, found: &mut BTreeSet<String>) {
    for sub in command.get_subcommands() {
        let words = format!("{words} {}", sub.get_name()).trim().to_owned();
        if sub.has_subcommands() {
            leaves(sub, &words, found);
        } else {
            found.insert(words);
        }
    }
}

fn commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    leaves(&Cli::command(), "", &mut found);
    found
}

#[test]
fn every_route_has_a_command_or_a_reason() {
    let described = described();
    assert!(described.len() > 50, "the description was read");
    let table: BTreeMap<&str, By> = ROUTES.iter().copied().collect();
    assert_eq!(table.len(), ROUTES.len(), "a route is listed twice");
    let missing: Vec<&String> =
        described.iter().filter(|route| !table.contains_key(route.as_str())).collect();
    assert!(missing.is_empty(), "give these routes a command, or say here why they have none: {missing:#?}");
    let gone: Vec<&&str> = table.keys().filter(|route| !described.contains(**route)).collect();
    assert!(gone.is_empty(), "no such routes any more: {gone:#?}");
    for (route, by) in &table {
        match by {
            Nobody(why) => assert!(why.len() > 10, "{route}: say why"),
            Same(other) => {
                let real = matches!(table.get(other), Some(Verb(_)));
                assert!(real, "{route}: {other} has no command either");
            }
            Verb(_) => {}
        }
    }
}

#[test]
fn every_command_of_the_table_is_there_and_asks_for_something() {
    let commands = commands();
    let verbs = ROUTES.iter().filter_map(|(_, by)| if let Verb(verbs) = by { Some(*verbs) } else { None });
    let used: BTreeSet<&str> = verbs.flatten().copied().collect();
    let unknown: Vec<&&str> = used.iter().filter(|verb| !commands.contains(**verb)).collect();
    assert!(unknown.is_empty(), "no such commands: {unknown:?}");
    let idle: Vec<&String> = commands
        .iter()
        .filter(|verb| !used.contains(verb.as_str()) && !LOCAL.contains(&verb.as_str()))
        .collect();
    assert!(idle.is_empty(), "commands that no route is asked by: {idle:?}");
}
