//! The dashboard: files that were built before this program and are a part of it.
//!
//! Invariant: open to everybody, because nothing in these files is anybody's; what a page shows it asks of the API, as whoever is
//! signed in. A page runs the scripts of this server and no others, and is framed by nobody. Which addresses are pages stands in
//! `dashboard/pages.txt`, which the app's own routes are tested against. A program that was built without the app says so.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lantern_control::App;
use lantern_edge::route::public_get;
use lantern_edge::{Code, Error, Path, Route};

const PAGES: &str = include_str!("../../../../dashboard/pages.txt");
const INDEX: &str = "/index.html";

/// One file of the app, as it is and packed.
struct File {
    path: &'static str,
    bytes: &'static [u8],
    gzip: Option<&'static [u8]>,
}

/// The files of the app; none when it was not built.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// What stands where the app would.
const ABSENT: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"color-scheme\" content=\"light dark\">\n",
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Lantern</title>\n<h1>Lantern ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<p>This program was built without its dashboard. With Node.js 20 or later, <code>make dev</code> builds both; ",
    "by hand: <code>npm ci &amp;&amp; npm run build</code> in <code>dashboard</code>, then <code>cargo build</code>.</p>\n",
    "<p>The API is at <code>/v1</code>; sign in with <code>lantern login</code>. ",
    "<a href=\"/docs/api\">API</a> · <a href=\"/healthz\">health</a> · <a href=\"/metrics\">metrics</a></p>\n</html>\n",
);

/// Every page, and what pages load.
pub(super) fn routes() -> Vec<Route<App>> {
    let pages = PAGES.lines().map(|path| public_get(path, "A page of the dashboard", page));
    pages
        .chain([
            public_get("/assets/{file}", "What pages of the dashboard load", asset),
            public_get("/favicon.svg", "The icon of the dashboard", icon),
        ])
        .collect()
}

async fn page(headers: HeaderMap) -> Response {
    let mut response = match find(INDEX) {
        Some(file) => shown(file, &headers),
        None => typed(ABSENT.as_bytes(), "text/html; charset=utf-8"),
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(file) = find(&format!("/assets/{name}")) else {
        return Error::new(Code::RouteNotFound, "the dashboard of this program has no such file")
            .into_response();
    };
    let mut response = shown(file, &headers);
    // Its name changes with its content.
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, forever);
    response
}

async fn icon(headers: HeaderMap) -> Response {
    find("/favicon.svg").map_or_else(|| StatusCode::NO_CONTENT.into_response(), |file| shown(file, &headers))
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

fn shown(file: &'static File, asked: &HeaderMap) -> Response {
    let packed = file.gzip.filter(|_| takes_gzip(asked));
    let mut response = typed(packed.unwrap_or(file.bytes), kind(file.path));
    if packed.is_some() {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn typed(bytes: &'static [u8], kind: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip")
            && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        for (line, want) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
        ] {
            let mut asked = HeaderMap::new();
            asked.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
            assert_eq!(takes_gzip(&asked), want, "{line}");
        }
    }

    #[test]
    fn every_address_of_a_page_is_a_route_and_open() {
        let routes = routes();
        assert!(routes.iter().all(|route| route.action().is_none() && route.method() == "GET"));
        for page in ["/", "/sign-in", "/runs/{id}"] {
            assert!(routes.iter().any(|route| route.path() == page), "{page}");
        }
    }

    #[tokio::test]
    async fn a_page_runs_no_script_but_its_own() {
        let response = page(HeaderMap::new()).await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
        let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        for script in text.split("<script").skip(1) {
            let (tag, rest) = script.split_once('>').unwrap();
            assert!(tag.contains("src=\"/assets/") && rest.starts_with("</script>"), "{script}");
        }
        assert!(!text.contains("<style") && !text.contains(" style="), "{text}");
        assert!(text.contains("<title>Lantern</title>"));
    }
}
