//! What a server offers and allows, as the command line lists it.

use serde_json::Value;

use super::process::{Folder, Server};
use crate::cli_fake::User;

#[test]
fn the_tools_and_the_limits_of_a_server_are_listed() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    assert_eq!(user.run(&["tools"]).code, 3, "they are for those who are logged in");
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    let tools = user.run(&["tools"]).ok();
    assert!(tools.starts_with("NAME"), "{tools}");
    assert!(tools.lines().any(|line| line.starts_with("calc") && line.contains("pure")), "{tools}");
    let limits = user.run(&["limits"]).ok();
    let inputs = limits.lines().find(|line| line.starts_with("inputBytesMax")).unwrap();
    assert!(inputs.ends_with("4.0 MiB"), "{limits}");
    for command in ["tools", "limits"] {
        let answer = user.run(&[command, "-o", "json"]).ok();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(
            answer[0]["inputSchema"].is_object() || answer["limits"]["inputBytesMax"] == 4 << 20,
            "{answer}"
        );
    }
}
