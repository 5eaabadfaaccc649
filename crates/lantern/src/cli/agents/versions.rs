//! Versions of an agent: listed, shown, compared, and made current.

use serde_json::{Map, Value, json};

use super::path;
use crate::cli::api::{Api, Call, Listed, encode};
use crate::cli::console::{Console, fields};
use crate::cli::failure::Failure;
use crate::cli::format::{block, number, text, time};
use crate::cli::table::Column;

/// What a list says of a version.
const COLUMNS: &[Column] = &[
    Column::whole("VERSION"),
    Column::spare("CURRENT"),
    Column::whole("ID"),
    Column::text("DIGEST"),
    Column::spare("CREATED"),
];

pub(super) async fn list(console: &Console, api: &Api, name: &str, limit: u32) -> Result<(), Failure> {
    let Listed { entries: versions, more, .. } = api.list(&format!("{}/versions", path(name)), limit).await?;
    if console.json() {
        console.value(&Value::Array(versions))?;
    } else {
        console.table(COLUMNS, &versions.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(more, limit);
    Ok(())
}

pub(super) async fn show(console: &Console, api: &Api, name: &str, version: &str) -> Result<(), Failure> {
    let version = api.fetch(Call::get(place(name, version))).await?;
    console.answer(&version, || describe(&version))
}

pub(super) async fn diff(
    console: &Console,
    api: &Api,
    name: &str,
    (from, to): (&str, &str),
) -> Result<(), Failure> {
    let diff = api.fetch(Call::get(format!("{}/diff/{}", place(name, from), encode(to)))).await?;
    console.answer(&diff, || differences(name, &diff))
}

pub(super) async fn promote(console: &Console, api: &Api, name: &str, version: &str) -> Result<(), Failure> {
    let agent = api.fetch(Call::post(format!("{}/promote", place(name, version)), json!({}))).await?;
    console.answer(&agent, || format!("new runs of {name} run version {}", number(&agent, "version")))
}

fn place(name: &str, version: &str) -> String {
    format!("{}/versions/{}", path(name), encode(version))
}

fn row(version: &Value) -> Vec<String> {
    let column = |name: &str| text(version, name).to_owned();
    let current = if version.get("current") == Some(&Value::Bool(true)) { "yes" } else { "" };
    vec![
        number(version, "number").to_string(),
        current.to_owned(),
        column("id"),
        column("digest"),
        time(text(version, "createdAt")),
    ]
}

fn describe(version: &Value) -> String {
    let cells = row(version).into_iter();
    let head: Vec<(&str, String)> =
        ["version", "current", "id", "digest", "created"].into_iter().zip(cells).collect();
    let said = version.get("manifest").and_then(Value::as_object).into_iter().flatten();
    let said: Map<String, Value> = said
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    format!("{}\n\n{}", fields(&head), block(&format!("{:#}", Value::Object(said))))
}

/// As `diff -u` shows it.
fn differences(name: &str, diff: &Value) -> String {
    let version = |side: &str| diff.get(side).map(|version| number(version, "number")).unwrap_or_default();
    let (from, to) = (version("from"), version("to"));
    let lines = block(text(diff, "text"));
    if lines.is_empty() {
        return format!("versions {from} and {to} of {name} say the same");
    }
    format!("--- {name} version {from}\n+++ {name} version {to}\n{}", lines.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_described() {
        let version = json!({ "number": 2, "id": "v", "digest": "abc", "current": true,
            "createdAt": "2026-09-21T14:13:20Z", "manifest": { "model": "auto", "tools": null } });
        let want = "version  2\ncurrent  yes\nid       v\ndigest   abc\ncreated  2026-09-21 14:13:20Z\n\n\
                    {\n  \"model\": \"auto\"\n}";
        assert_eq!(describe(&version), want);
    }

    #[test]
    fn differences_are_shown_as_diff_does() {
        let text = "@@ -1,3 +1,3 @@\n {\n-  \"a\": 1\n+  \"a\": 2\n }\n";
        let diff = json!({ "from": { "number": 1 }, "to": { "number": 2 }, "text": text });
        let want = format!("--- a version 1\n+++ a version 2\n{}", text.trim_end());
        assert_eq!(differences("a", &diff), want);
        let same = json!({ "from": { "number": 1 }, "to": { "number": 3 }, "text": "" });
        assert_eq!(differences("a", &same), "versions 1 and 3 of a say the same");
    }
}
