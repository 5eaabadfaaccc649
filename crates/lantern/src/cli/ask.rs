//! `lantern ask`: one question to a model, outside of any agent.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{block, count, dollars, number, text, usd};
use crate::cli::input;

/// The server takes no larger request.
const PICTURE_BYTES_MAX: u64 = 24 << 20;

/// Flags of `lantern ask`.
#[derive(Debug, Args)]
#[command(
    after_help = "What it costs counts in the caps of the tenant, and the call is in `lantern calls`.\n\n\
                        With --picture the words in the picture are read; the prompt may say otherwise."
)]
pub(crate) struct AskArgs {
    /// What is asked: text, @file, or @- for standard input
    #[arg(value_name = "TEXT|@FILE", required_unless_present = "picture")]
    prompt: Option<String>,
    /// What the model is told beforehand
    #[arg(long, value_name = "TEXT|@FILE", conflicts_with = "picture")]
    system: Option<String>,
    /// The model or capability that is asked
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The most tokens of the answer
    #[arg(long, value_name = "N", conflicts_with = "picture", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Read this picture: PNG, JPEG, GIF or WebP
    #[arg(long, value_name = "FILE")]
    picture: Option<String>,
}

/// Asks, and shows the answer.
pub(crate) async fn run(console: &Console, api: &Api, args: &AskArgs) -> Result<(), Failure> {
    let prompt = args.prompt.as_deref().map(|prompt| words(console, prompt)).transpose()?;
    let mut body = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("model", args.model.as_deref().map(Value::from));
    let path = if let Some(picture) = &args.picture {
        add("imageDataUrl", Some(data_url(picture)?.into()));
        add("prompt", prompt.map(Value::from));
        "/v1/vision/ocr"
    } else {
        let system = args.system.as_deref().map(|system| words(console, system)).transpose()?;
        let message = |(role, content): (&str, String)| json!({"role": role, "content": content});
        let said = system.map(|system| ("system", system)).into_iter();
        let said = said.chain(prompt.map(|prompt| ("user", prompt)));
        add("messages", Some(said.map(message).collect()));
        add("maxTokens", args.max_tokens.map(Value::from));
        "/v1/completions"
    };
    let answer = api.fetch(Call::post(path, body.into())).await?;
    let said = if args.picture.is_some() { "text" } else { "content" };
    console.answer(&answer, || block(text(&answer, said)))?;
    console.note(&cost(&answer));
    Ok(())
}

/// Who answered, and what it took.
pub(crate) fn cost(answer: &Value) -> String {
    let who = format!("{}/{}", text(answer, "provider"), text(answer, "model"));
    let cost = usd(answer.get("costUsd").map(dollars).unwrap_or_default());
    match answer.get("tokensIn") {
        Some(_) => {
            let of = |name: &str| count(number(answer, name));
            format!("{who} · {} in, {} out · {cost}", of("tokensIn"), of("tokensOut"))
        }
        None => format!("{who} · {cost}"),
    }
}

fn words(console: &Console, argument: &str) -> Result<String, Failure> {
    let read = input::read(argument, std::io::stdin())?;
    read.note.iter().for_each(|note| console.warn(note));
    Ok(read.text)
}

/// A picture as a URL that holds it.
fn data_url(path: &str) -> Result<String, Failure> {
    let unread = |error: std::io::Error| Failure::usage(format!("cannot read {path}: {error}"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unread)?;
    file.take(PICTURE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > PICTURE_BYTES_MAX {
        return Err(Failure::usage(format!("{path} is larger than 24 MiB")));
    }
    let kind = kind(&bytes).ok_or_else(|| Failure::usage(format!("{path} is no PNG, JPEG, GIF or WebP")))?;
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(&bytes)))
}

/// What a file is by how it begins, whatever it is called.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}
