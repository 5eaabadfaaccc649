//! `config.example.toml`: every key of the file, with its default and its comment in the code.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Database, File, Retention, Server};
use crate::generated;
use crate::server::bodies::Bodies;
use crate::server::sso::{Provider, Sso};

const HEAD: &str = "\
# Every key of the file that `lantern serve --config FILE` reads, with its default. What is commented out has none and
# shows an example. Flags and environment variables win over the file (docs/environment.md). Written by `make gen`.
";
/// Where the structs of the sections are.
const SOURCES: [&str; 4] = [
    include_str!("../config.rs"),
    include_str!("../bodies.rs"),
    include_str!("../sso.rs"),
    include_str!("../../../../types/src/limits.rs"),
];
const COLUMNS: usize = 120;

/// A value for every key: the default where there is one.
fn sample() -> File {
    let url = |role| Some(format!("postgresql://{role}:PASSWORD@db.internal/lantern?sslmode=verify-full"));
    let said = |text: &str| Some(text.to_owned());
    File {
        server: Server {
            spawn_burst: Some(20),
            signup: Some(false),
            workloads: Some(false),
            ..Server::default()
        },
        database: Database {
            app_url: url("lantern_app"),
            system_url: url("lantern_system"),
            ..Database::default()
        },
        bodies: Bodies {
            bucket: said("lantern-bodies"),
            endpoint: said("https://s3.internal:9000"),
            region: said("us-east-1"),
            path_style: Some(true),
            access_key_id: said("KEY_ID"),
            secret_access_key: said("KEY"),
            ..Bodies::default()
        },
        sso: Sso {
            public_url: said("https://lantern.example"),
            providers: vec![Provider {
                name: "work".to_owned(),
                label: said("Work"),
                issuer: said("https://id.example"),
                client_id: "CLIENT_ID".to_owned(),
                client_secret: "CLIENT_SECRET".to_owned(),
                tenant: said("00000000-0000-0000-0000-000000000001"),
                allowed_domains: vec!["example.com".to_owned()],
                joins: [("example.com".to_owned(), "00000000-0000-0000-0000-000000000001".to_owned())].into(),
                ..Provider::default()
            }],
        },
        retention: Retention { content: said("90d") },
        ..File::default()
    }
}

/// What a key of the file is when nobody says: `server.listen`. Nothing when there is no default.
pub(crate) fn default_of(key: &str) -> String {
    let defaults = serde_json::to_value(File::default()).unwrap();
    let found = defaults.pointer(&format!("/{}", key.replace('.', "/")));
    match found.unwrap_or_else(|| panic!("there is no {key} in the file")) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The comments of a struct's fields, by name, as the source has them.
fn comments(name: &str) -> BTreeMap<String, String> {
    let head = format!("struct {name} {{\n");
    let (_, rest) = SOURCES.iter().find_map(|source| source.split_once(&head)).unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let (mut found, mut text) = (BTreeMap::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("///") {
            text.push_str(more);
        } else if let Some((field, _)) = line.split_once(": ") {
            let field = field.split_whitespace().last().unwrap();
            found.insert(plain(field), std::mem::take(&mut text));
        }
    }
    found
}

/// A key in whichever spelling.
fn plain(key: &str) -> String {
    key.replace('_', "").to_lowercase()
}

fn wrapped(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        if lines.last().unwrap().len() + word.len() >= COLUMNS {
            lines.push("#".to_owned());
        }
        let line = lines.last_mut().unwrap();
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

fn example() -> String {
    let defaults = serde_json::to_value(File::default()).unwrap();
    let sections = comments("File");
    let (mut made, mut section, mut keys) = (vec![HEAD.to_owned()], "", BTreeMap::new());
    let shown = toml::to_string(&sample()).unwrap();
    // Within a list of tables, of which there is none when nobody says so: all of it is an example.
    let mut listed = false;
    for line in shown.lines() {
        if let Some(name) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            let (of, list) = name.split_once('.').unwrap();
            let entry = list.strip_suffix('s').unwrap();
            let about = &comments(&format!("{}{}", of[..1].to_uppercase(), &of[1..]))[&plain(list)];
            made.push(format!("\n{}# {line}\n", wrapped(about)));
            (keys, listed) = (comments(&format!("{}{}", entry[..1].to_uppercase(), &entry[1..])), true);
        } else if listed && line.starts_with('[') && line.matches('.').count() == 2 {
            // A table in it, whose comment belongs to its name.
            let name = line.trim_matches(['[', ']']).rsplit('.').next().unwrap();
            made.push(format!("{}# {line}\n", wrapped(&keys[&plain(name)])));
            keys.clear();
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let initial = name[..1].to_uppercase();
            listed = false;
            (section, keys) = (name, comments(&format!("{initial}{}", &name[1..])));
            made.push(format!("\n{}{line}\n", wrapped(&sections[name])));
        } else if let Some((key, _)) = line.split_once(" = ") {
            let comment = keys.get(&plain(key)).filter(|text| !text.is_empty());
            let comment = comment.map(|text| wrapped(text));
            assert!(comment.is_some() || (listed && keys.is_empty()), "{key} has no comment");
            let mark = if listed || defaults[section][key].is_null() { "# " } else { "" };
            made.push(format!("{}{mark}{line}\n", comment.unwrap_or_default()));
        }
    }
    made.concat()
}

#[test]
fn the_example_has_every_key_with_its_default() {
    generated::keep("config.example.toml", &example());
    for (section, keys) in serde_json::to_value(sample()).unwrap().as_object().unwrap() {
        let unshown: Vec<_> = keys.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).collect();
        assert!(unshown.is_empty(), "[{section}] shows no value for {unshown:?}");
    }
}

#[test]
fn the_example_says_what_no_file_says() {
    let text = |file: &File| serde_json::to_string(file).unwrap();
    let shown: File = toml::from_str(&example()).unwrap();
    assert_eq!(text(&shown), text(&File::default()));
}
