//! The words in a picture.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use lantern_edge::route::fresh_post_route;
use lantern_edge::{Body, Fields, Json, Model, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::CallModel;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Chat, Outcome, REFUSED, REFUSES, ask};
use crate::Doors;
use crate::ask::MODEL_BYTES_MAX;
use crate::open::Bill;

const IMAGE_BYTES_MAX: usize = 32 << 20;
const PROMPT_BYTES_MAX: usize = 64 << 10;
/// The model of whoever names none: a small one that sees.
const SEEING: &str = "vision-small";
const READ: &str = "Write out all text in this picture, in its order and language, and nothing else. \
                    If there is none, write nothing.";

pub(super) fn routes() -> Vec<Route<Doors>> {
    vec![
        fresh_post_route("/v1/vision/ocr", "Read the text in a picture", ocr)
            .answers::<Json<Read>>()
            .refuses(REFUSES)
            .passes_on(REFUSED),
    ]
}

struct Picture {
    url: String,
    prompt: String,
    model: String,
}

impl Model for Picture {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let url = fields.required_text("imageDataUrl", IMAGE_BYTES_MAX);
        if url.as_deref().is_some_and(|url| !is_picture(url)) {
            fields.issue("imageDataUrl", "expected a picture as data:image/…;base64,…");
        }
        let prompt = fields.text("prompt", PROMPT_BYTES_MAX);
        let model = fields.text("model", MODEL_BYTES_MAX);
        let (prompt, model) =
            (prompt.unwrap_or_else(|| READ.to_owned()), model.unwrap_or_else(|| SEEING.to_owned()));
        Some(Self { url: url?, prompt, model })
    }
}

/// Nothing is fetched, here or at the provider.
fn is_picture(url: &str) -> bool {
    let data = url.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    data.is_some_and(|(kind, data)| {
        !kind.is_empty()
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !data.is_empty()
            && data.bytes().all(is_base64)
    })
}

/// What a picture says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PictureText)]
struct Read {
    text: String,
    model: String,
    provider: String,
    /// In US dollars.
    cost_usd: f64,
}

async fn ocr(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Body(picture): Body<Picture>,
) -> Result<Response> {
    let content = json!([
        {"type": "text", "text": picture.prompt},
        {"type": "image_url", "image_url": {"url": picture.url}},
    ]);
    let chat = Chat::new(&picture.model, json!([{"role": "user", "content": content}]), &headers);
    match ask(&doors, &permit, chat, &Bill::default()).await? {
        Outcome::Answer(said, told) => {
            let (text, model, provider) = (said.content, said.model, said.provider);
            Ok((told, Json(Read { text, model, provider, cost_usd: said.cost_usd })).into_response())
        }
        Outcome::Refusal(refusal) => Ok(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_stands_in_the_request() {
        for (url, is) in [
            ("data:image/png;base64,iVBORw0KGgo=", true),
            ("data:image/svg+xml;base64,PHN2Zz4=", true),
            ("data:image/png;base64,", false),
            ("data:text/html;base64,aGk=", false),
            ("data:image/;base64,aGk=", false),
            ("data:image/png,raw", false),
            ("https://example.com/a.png", false),
            ("data:image/png;base64,a b", false),
        ] {
            assert_eq!(is_picture(url), is, "{url}");
        }
    }
}
