//! The route table, the public routes and the matrix of who may do what, as files. `UPDATE=1` rewrites them.

use std::collections::BTreeSet;
use std::path::Path;

use lantern_control::routes;
use lantern_edge::route;
use lantern_policy::action::{ACTIONS, allows_to};
use lantern_policy::{Principal, Role};
use lantern_types::{ApiKeyId, DEV_USER, SignInId};

fn golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name);
    #[expect(clippy::disallowed_methods, reason = "a test's own switch, not configuration")]
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{name} differs; UPDATE=1 rewrites it, and the difference wants a review");
}

#[test]
fn routes_are_as_listed() {
    golden("routes.txt", &format!("# method, path, codes of success, action\n{}", route::table(&routes())));
}

#[test]
fn public_routes_are_as_listed() {
    let public: Vec<_> = routes().into_iter().filter(|route| route.action().is_none()).collect();
    golden("public-routes.txt", &format!("# Open to everybody.\n{}", route::table(&public)));
}

#[test]
fn the_matrix_of_roles_and_actions_is_as_listed() {
    let sign_in = SignInId::from_uuid(DEV_USER.uuid());
    let user =
        |role| Principal::User { id: DEV_USER, email: String::new(), name: String::new(), role, sign_in };
    let key = |scope: &str| Principal::Key {
        id: ApiKeyId::from_uuid(DEV_USER.uuid()),
        scopes: vec![scope.to_owned()],
    };
    let columns = [
        ("owner", user(Role::Owner)),
        ("admin", user(Role::Admin)),
        ("member", user(Role::Member)),
        ("viewer", user(Role::Viewer)),
        ("key:admin", key("admin")),
        ("key:write", key("write")),
        ("key:read", key("read")),
    ];
    let row = |first: &str, cells: Vec<&str>| {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:<9}")).collect();
        format!("{first:<20} {}\n", cells.join(" ").trim_end())
    };
    let mut text = row("# action", columns.iter().map(|(name, _)| *name).collect());
    for (action, access) in ACTIONS {
        let may = |principal| if allows_to(principal, action, *access) { "yes" } else { "-" };
        text += &row(action, columns.iter().map(|(_, principal)| may(principal)).collect());
    }
    golden("authz-matrix.txt", &text);
}

#[test]
fn every_route_names_an_action_of_the_table_and_stands_once() {
    let known: BTreeSet<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    let mut seen = BTreeSet::new();
    for route in routes() {
        assert!(route.action().is_none_or(|(name, _)| known.contains(name)), "{}", route.path());
        assert!(seen.insert((route.method(), route.path())), "{} {} twice", route.method(), route.path());
    }
}
