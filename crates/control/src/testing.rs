//! Holds an answer against the description of the API: its status, its media type and the schema of its body.
//!
//! Invariant: a schema keyword that this does not know is a failure, so that nothing passes unread. Knows JSON Schema as far
//! as the description uses it. For tests, here and of the program.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The description as it is committed; another test holds it against the routes.
static COMMITTED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../openapi.json")).unwrap_or_default());

/// An answer that somebody got.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's path, with or without a query.
    pub path: &'a str,
    /// The answer's status.
    pub status: u16,
    /// The answer's `Content-Type`.
    pub media: Option<&'a str>,
    /// The answer's body; `None` when it was not read.
    pub body: Option<&'a [u8]>,
}

/// What the description does not say of this answer, if anything. Paths that it does not have are nobody's concern here.
pub fn undocumented(answer: &Answered<'_>) -> Option<String> {
    let said = format!("{} {} answered {}", answer.method, answer.path, answer.status);
    check(&COMMITTED, answer).err().map(|why| format!("{said}, and the description does not say so: {why}"))
}

fn check(document: &Value, answer: &Answered<'_>) -> Result<(), String> {
    let path = answer.path.split('?').next().unwrap_or_default();
    let Some(item) = item(document, path) else { return Ok(()) };
    let method = match answer.method {
        "OPTIONS" => return Ok(()),
        "HEAD" => "get".to_owned(),
        method => method.to_lowercase(),
    };
    let Some(operation) = item.get(&method).or_else(|| item.get("get").filter(|_| is_any(path))) else {
        return (answer.status == 405).then_some(()).ok_or_else(|| "there is no such method".to_owned());
    };
    let status = answer.status.to_string();
    let said = |status: &str| operation.pointer(&format!("/responses/{status}"));
    let response = said(&status).or_else(|| said("default"));
    let response = resolved(document, response.ok_or("there is no such status")?)?;
    let body = answer.body.filter(|_| answer.method != "HEAD");
    let Some(content) = response.get("content") else {
        return body.is_none_or(<[u8]>::is_empty).then_some(()).ok_or_else(|| "there is no body".to_owned());
    };
    let media = answer.media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let form = content.get(media).ok_or_else(|| format!("there is no media type {media:?}"))?;
    match body {
        Some(body) if media.ends_with("json") && media != "application/x-ndjson" => {
            let value = serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}"))?;
            fits(document, form.get("schema").unwrap_or(&Value::Null), &value, "")
        }
        _ => Ok(()),
    }
}

/// Whether this path takes any method, which the description shows as `get`.
fn is_any(path: &str) -> bool {
    crate::routes().iter().any(|route| route.method() == "ANY" && route.path() == path)
}

/// What is described of a path: of several templates that fit, the router takes the one that is plainer further left.
fn item<'a>(document: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    let asked: Vec<&str> = path.split('/').collect();
    let variable = |part: &str| part.starts_with('{');
    let fitting = document.get("paths")?.as_object()?.iter().filter(|(template, _)| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == asked.len()
            && parts.iter().zip(&asked).all(|(part, text)| part == text || variable(part) && !text.is_empty())
    });
    let plain = |template: &str| template.split('/').map(|part| !variable(part)).collect::<Vec<_>>();
    fitting.max_by_key(|(template, _)| plain(template)).and_then(|(_, item)| item.as_object())
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> Result<&'a Value, String> {
    let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
    let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    found.ok_or_else(|| format!("{reference} leads nowhere"))
}

/// Whether a value is what its schema says; `at` is where in the body it stands.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else { return Err(format!("{at}: its schema is {schema}")) };
    for (keyword, wanted) in keywords {
        holds(document, keywords, (keyword, wanted), value, at)?;
    }
    Ok(())
}

fn holds(
    document: &Value,
    keywords: &Map<String, Value>,
    (keyword, wanted): (&str, &Value),
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let all = || wanted.as_array().into_iter().flatten();
    let fit = |schema: &&Value| fits(document, schema, value, at).is_ok();
    let so = match keyword {
        "description" | "format" | "example" | "examples" | "title" | "default" => true,
        "$ref" => return fits(document, resolved(document, &Value::Object(keywords.clone()))?, value, at),
        "type" => match wanted {
            Value::Array(kinds) => kinds.iter().any(|kind| is(value, kind)),
            kind => is(value, kind),
        },
        "enum" => all().any(|one| one == value),
        "const" => wanted == value,
        "oneOf" => all().filter(fit).count() == 1,
        "anyOf" => all().any(|schema| fit(&schema)),
        "allOf" => return all().try_for_each(|schema| fits(document, schema, value, at)),
        "required" => all().filter_map(Value::as_str).all(|name| value.get(name).is_some()),
        "minimum" => value.as_f64().zip(wanted.as_f64()).is_none_or(|(value, least)| value >= least),
        "items" => {
            let mut items = value.as_array().into_iter().flatten().enumerate();
            return items.try_for_each(|(n, item)| fits(document, wanted, item, &format!("{at}/{n}")));
        }
        "properties" => {
            let mut named = wanted.as_object().into_iter().flatten();
            return named.try_for_each(|(name, schema)| match value.get(name) {
                Some(part) => fits(document, schema, part, &format!("{at}/{name}")),
                None => Ok(()),
            });
        }
        "additionalProperties" => {
            let named = keywords.get("properties");
            let known = |name: &str| named.is_some_and(|named| named.get(name).is_some());
            let mut others = value.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
            return others.try_for_each(|(name, part)| fits(document, wanted, part, &format!("{at}/{name}")));
        }
        "propertyNames" => true,
        _ => return Err(format!("{at}: this check knows no keyword {keyword:?}")),
    };
    so.then_some(()).ok_or_else(|| format!("{at}: {keyword} is {wanted}, and it is {value}"))
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_described_is_found() {
        let document = json!({
            "paths": {
                "/v1/things/{id}": { "get": { "responses": {
                    "200": { "content": { "application/json": { "schema": { "$ref": "#/schema" } } } },
                    "204": {},
                } } },
                "/v1/things/all": { "post": { "responses": { "201": {} } } },
            },
            "schema": {
                "type": "object", "required": ["id"],
                "properties": { "id": { "type": "string" }, "tags": { "type": "array", "items": { "enum": ["a"] } } },
            },
        });
        let json = Some("application/json; charset=utf-8");
        for (method, path, status, media, body, fine) in [
            ("GET", "/v1/things/1?x=y", 200, json, r#"{"id":"1","tags":["a"]}"#, true),
            ("HEAD", "/v1/things/1", 200, json, "", true),
            ("GET", "/v1/things/1", 200, json, r#"{"id":1}"#, false),
            ("GET", "/v1/things/1", 200, json, r#"{"id":"1","tags":["b"]}"#, false),
            ("GET", "/v1/things/1", 200, json, "{}", false),
            ("GET", "/v1/things/1", 200, json, "no", false),
            ("GET", "/v1/things/1", 200, Some("text/plain"), "x", false),
            ("GET", "/v1/things/1", 200, None, "", false),
            ("GET", "/v1/things/1", 204, None, "", true),
            ("GET", "/v1/things/1", 204, None, "x", false),
            ("GET", "/v1/things/1", 404, json, "{}", false),
            ("PUT", "/v1/things/1", 405, json, "{}", true),
            ("PUT", "/v1/things/1", 200, json, "{}", false),
            ("GET", "/v1/things/all", 200, json, r#"{"id":"1"}"#, false),
            ("GET", "/v1/things/all", 405, json, "{}", true),
            ("GET", "/v1/others", 200, json, "", true),
        ] {
            let answer = Answered { method, path, status, media, body: Some(body.as_bytes()) };
            let found = check(&document, &answer);
            assert_eq!(found.is_ok(), fine, "{method} {path} {status} {body}: {found:?}");
        }
    }
}
