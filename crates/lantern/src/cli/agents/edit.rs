//! `lantern agents edit`: an agent in an editor, and back.
//!
//! Invariant: what was written in the editor is lost only when it is saved, or was not changed. Until then it is in a file
//! that only its owner can read, and every failure names it. An agent that somebody else changed meanwhile is not
//! overwritten: each save says which state it is about.

mod draft;
mod form;

use lantern_net::http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use super::{path, warnings};
use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{block, line, number};
use crate::cli::input;

use draft::Draft;

/// An agent as it is on the server.
struct Base {
    /// Its fields that can be changed.
    form: Map<String, Value>,
    /// Names the state that they are of.
    tag: Option<HeaderValue>,
}

/// What came of one try to save.
enum Saved {
    /// The text says what the server has.
    Same,
    Changed,
}

/// Opens the agent in an editor until it is saved or nobody wants to any more. `from` is a text to begin with.
pub(super) async fn edit(
    console: &Console,
    api: &Api,
    name: &str,
    from: Option<&str>,
) -> Result<(), Failure> {
    let mut base = base(api, name).await?;
    let text = match from {
        Some(file) => input::read(&format!("@{file}"), std::io::empty())?.text,
        None => form::text(&base.form),
    };
    let draft = Draft::new(name, &text)?;
    loop {
        draft.open()?;
        let failure = match save(console, api, name, &base, &draft).await {
            Ok(Saved::Same) => {
                draft.remove();
                let answer = json!({ "name": name, "changed": false });
                return console.answer(&answer, || format!("nothing changed in the agent {name}"));
            }
            Ok(Saved::Changed) => {
                draft.remove();
                let agent = api.fetch(Call::get(path(name))).await?;
                let version = number(&agent, "version");
                return console.answer(&agent, || format!("saved the agent {name}, version {version}"));
            }
            Err(failure) => failure,
        };
        if !again(console, &failure, &draft) {
            return Err(draft.kept(failure, name));
        }
        if conflict(&failure) {
            base = self::base(api, name).await.map_err(|failure| draft.kept(failure, name))?;
            if let Ok(mine) = form::read(&draft.text()?, name) {
                console.aside("yours against what is there now:");
                console.aside(&block(&form::difference(&base.form, &mine)));
            }
        }
    }
}

async fn base(api: &Api, name: &str) -> Result<Base, Failure> {
    let reply = api.send(Call::get(path(name))).await?;
    let Value::Object(agent) = reply.body else { return Err(api.stranger()) };
    Ok(Base { form: form::of(agent), tag: reply.tag })
}

async fn save(
    console: &Console,
    api: &Api,
    name: &str,
    base: &Base,
    draft: &Draft,
) -> Result<Saved, Failure> {
    let mine = form::read(&draft.text()?, name)?;
    let changes = form::changes(&base.form, &mine);
    if changes.is_empty() {
        return Ok(Saved::Same);
    }
    if !console.json() {
        console.aside(block(&form::difference(&base.form, &mine)).trim_end());
    }
    let mut call = Call::patch(path(name), changes.into());
    if let Some(tag) = &base.tag {
        call = call.header((header::IF_MATCH, tag.clone()));
    }
    let reply = api.send(call).await?;
    if !reply.ignored.is_empty() {
        console.warn(&format!("the server does not know these fields: {}", reply.ignored.join(", ")));
    }
    for warning in warnings(&reply.body) {
        console.warn(&line(warning));
    }
    Ok(Saved::Changed)
}

/// Whether to open the editor again. Nobody is asked about what another text would not help.
fn again(console: &Console, failure: &Failure, draft: &Draft) -> bool {
    let mendable = conflict(failure) || failure.exit == Exit::Usage;
    if !mendable || !console.interactive() {
        return false;
    }
    console.fail(failure);
    console.note(&format!("your text is in {}", draft.path().display()));
    console.ask("Edit it again? [Y/n] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    matches!(read, Ok(bytes) if bytes > 0) && !answer.trim().to_lowercase().starts_with('n')
}

/// Whether somebody else changed the agent meanwhile.
fn conflict(failure: &Failure) -> bool {
    failure.code.as_deref() == Some("version_mismatch")
}
