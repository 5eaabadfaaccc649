//! `lantern agents generate`: an agent's specification made of a description, and code of a specification.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::ask::cost;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{block, text};
use crate::cli::input;

/// Flags of `lantern agents generate`.
#[derive(Debug, Args)]
#[command(after_help = "A model writes it: read it before you use it. It costs what the model costs.")]
pub(crate) struct GenerateArgs {
    /// What the agent is to do: text, @file, or @- for standard input; with --code its specification, as JSON
    #[arg(value_name = "TEXT|@FILE")]
    about: String,
    /// Make a program and its agent.yaml of a specification
    #[arg(long)]
    code: bool,
    /// The model or capability that is asked
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

/// Has it made, and shows it.
pub(super) async fn run(console: &Console, api: &Api, args: &GenerateArgs) -> Result<(), Failure> {
    let read = input::read(&args.about, std::io::stdin())?;
    read.note.iter().for_each(|note| console.warn(note));
    let (path, mut body) = if args.code {
        ("/v1/agents/generate-code", json!({"spec": input::as_value(read)?}))
    } else {
        ("/v1/agents/generate-spec", json!({"description": read.text}))
    };
    if let (Some(model), Some(body)) = (&args.model, body.as_object_mut()) {
        body.insert("model".to_owned(), model.as_str().into());
    }
    let answer = api.fetch(Call::post(path, body)).await?;
    // What was made is what a script wants, not the frame around it.
    let made: Value = serde_json::from_str(text(&answer, "content")).unwrap_or(Value::Null);
    console.answer(&made, || shown(&made))?;
    console.note(&cost(&answer));
    Ok(())
}

fn shown(made: &Value) -> String {
    match (made.get("code").and_then(Value::as_str), made.get("yaml").and_then(Value::as_str)) {
        (Some(code), Some(yaml)) => {
            let disclaimer = text(made, "disclaimer");
            block(&format!("# {disclaimer}\n\n{}\n\n# agent.yaml\n\n{}", code.trim_end(), yaml.trim_end()))
        }
        _ => block(&serde_json::to_string_pretty(made).unwrap_or_default()),
    }
}
