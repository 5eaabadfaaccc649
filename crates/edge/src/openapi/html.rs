//! The description as one page for people: no script, no style from elsewhere, every operation with an anchor.

use serde_json::Value;

const STYLE: &str = "body{font:15px/1.55 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1c1c1e;background:#fff}h1{font-size:1.7rem}h2{margin-top:2.5rem;border-bottom:1px solid #ddd}\
h3{margin:1.6rem 0 .3rem;font-size:1rem}code,pre{font:13px/1.5 ui-monospace,monospace}\
pre{background:#f5f5f7;padding:.7rem;overflow-x:auto;border-radius:6px}.m{display:inline-block;min-width:4.2rem;\
font-weight:700}.a{color:#6e6e73;font-weight:400}table{border-collapse:collapse;margin:.4rem 0}\
td{padding:.15rem .9rem .15rem 0;vertical-align:top}nav a{margin-right:.9rem}a{color:#0b57d0}\
@media(prefers-color-scheme:dark){body{color:#e8e8ea;background:#161618}pre{background:#232326}\
h2{border-color:#333}a{color:#8ab4f8}.a{color:#a1a1a6}}";

/// The page of a document made by [`document`](super::document).
pub fn page(document: &Value) -> String {
    let mut page = Page(String::with_capacity(64 * 1024));
    page.head(at(document, "info"));
    let groups = groups(document);
    page.add("<nav>");
    for (tag, _) in &groups {
        page.add("<a href=\"#").text(tag).add("\">").text(tag).add("</a>");
    }
    page.add("</nav>");
    for (tag, operations) in &groups {
        page.heading("h2", tag, tag);
        for (method, path, operation) in operations {
            page.operation(method, path, operation);
        }
    }
    page.heading("h2", "schemas", "schemas");
    for (name, schema) in members(at(at(document, "components"), "schemas")) {
        page.heading("h3", &format!("schema-{name}"), name).block(schema);
    }
    page.add("</html>");
    page.0
}

type Group<'a> = (&'a str, Vec<(&'a str, &'a str, &'a Value)>);

/// Operations by what they are about, both in the order of their paths.
fn groups(document: &Value) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (path, item) in members(at(document, "paths")) {
        for (method, operation) in members(item) {
            let tag = at(operation, "tags").get(0).and_then(Value::as_str).unwrap_or_default();
            let one = (method, path, operation);
            match groups.iter_mut().find(|(known, _)| *known == tag) {
                Some((_, operations)) => operations.push(one),
                None => groups.push((tag, vec![one])),
            }
        }
    }
    groups
}

/// HTML as it grows. Only [`Page::add`] adds markup; whatever comes out of the document goes through [`Page::text`].
struct Page(String);

impl Page {
    fn add(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                c => self.0.push(c),
            }
        }
        self
    }

    fn head(&mut self, info: &Value) {
        let (title, version) = (words(info, "title"), words(info, "version"));
        self.add("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
        self.add("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
        self.text(title).add("</title><style>").add(STYLE).add("</style><h1>").text(title).add(" ");
        self.text(version).add("</h1><p>").text(words(info, "description"));
        self.add("</p><p>For programs: <a href=\"/openapi.json\">openapi.json</a>.</p>");
    }

    fn heading(&mut self, level: &'static str, id: &str, text: &str) -> &mut Self {
        self.add("<").add(level).add(" id=\"").text(id).add("\">").text(text).add("</").add(level).add(">")
    }

    fn block(&mut self, schema: &Value) -> &mut Self {
        let pretty = serde_json::to_string_pretty(schema).unwrap_or_default();
        self.add("<pre>").text(&pretty).add("</pre>")
    }

    fn operation(&mut self, method: &str, path: &str, operation: &Value) {
        self.add("<h3 id=\"").text(words(operation, "operationId")).add("\"><span class=\"m\">");
        self.text(&method.to_uppercase()).add("</span> <code>").text(path).add("</code> <span class=\"a\">");
        match operation.get("x-access").and_then(Value::as_str) {
            Some(access) => self.add("needs ").text(access).add("; ").text(words(operation, "x-action")),
            None => self.add("open to everybody"),
        };
        self.add("</span></h3><p>").text(words(operation, "summary")).add(".</p>");
        self.parameters(at(operation, "parameters"));
        let body = operation.pointer("/requestBody/content/application~1json/schema");
        if let Some(schema) = body {
            self.add("<p class=\"a\">body</p>").block(schema);
        }
        self.add("<table>");
        for (status, response) in members(at(operation, "responses")) {
            self.add("<tr><td><code>").text(status).add("</code><td>");
            self.response(response);
            self.add("</tr>");
        }
        self.add("</table>");
    }

    fn parameters(&mut self, parameters: &Value) {
        let Some(list) = parameters.as_array().filter(|list| !list.is_empty()) else { return };
        self.add("<table>");
        for parameter in list {
            self.add("<tr><td><code>").text(words(parameter, "name")).add("</code><td class=\"a\">");
            self.text(words(parameter, "in")).add("<td>").text(words(parameter, "description")).add("</tr>");
        }
        self.add("</table>");
    }

    fn response(&mut self, response: &Value) {
        if response.get("$ref").is_some() {
            self.add("<a href=\"#schema-Problem\">Problem</a>");
            return;
        }
        self.text(words(response, "description"));
        for (media, content) in members(at(response, "content")) {
            let schema = at(content, "schema");
            let named = schema.get("$ref").or_else(|| at(schema, "items").get("$ref"));
            let name = named.and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
            match name {
                Some(name) => self.add(" <a href=\"#schema-").text(name).add("\">").text(name).add("</a>"),
                None => self.add(" <span class=\"a\">").text(media).add("</span>"),
            };
        }
    }
}

/// A member, or nothing.
fn at<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn words<'a>(value: &'a Value, name: &str) -> &'a str {
    at(value, name).as_str().unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_stands_in_the_document_is_text_on_the_page() {
        let document = json!({
            "info": { "title": "<b>", "version": "1", "description": "\"&" },
            "paths": { "/x": { "get": { "operationId": "get_x", "summary": "<script>", "tags": ["x"],
                "responses": { "200": { "description": "<i>" } } } } },
            "components": { "schemas": { "A": { "type": "<u>" } } },
        });
        let page = page(&document);
        for raw in ["<b>", "<script>", "<i>", "<u>"] {
            assert!(!page.contains(raw), "{raw}");
        }
        assert!(page.contains("id=\"get_x\"") && page.contains("&lt;script&gt;"));
    }
}
