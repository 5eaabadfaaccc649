//! What is asked of a model, in the form that every family is read into and written from.
//!
//! Invariant: what a family says and this form has no word for is kept aside with the family's name ([`Request::from`],
//! `extra`, [`Content::Other`]). It goes back out when the same family is written; another family's writer leaves it
//! out and names it in [`Written::ignored`](crate::wire::Written). Nothing here is stored: what journals hold is
//! `lantern_types::llm`, and `bridge.rs` is the way between the two.

mod assembly;
mod bridge;
mod json;
mod reply;

use serde_json::{Map, Number, Value};

use crate::Family;

pub use assembly::Assembly;
pub use json::Json;
pub use reply::{Delta, Finish, Opening, Reply, Usage};

/// Fields of a wire that this form has no word for.
pub type Extra = Map<String, Value>;

/// One request to a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The model's name. Empty where the family names it in the path: the caller fills it in.
    pub model: String,
    /// The conversation, instructions included, in its order.
    pub messages: Vec<Message>,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// Which of them the model may or must use.
    pub choice: Option<ToolChoice>,
    /// Whether it may ask for several at once.
    pub parallel: Option<bool>,
    /// The form that the reply must have.
    pub output: Option<Output>,
    /// The most tokens that the reply may have.
    pub max_tokens: Option<u64>,
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// Texts at which the reply ends.
    pub stop: Vec<String>,
    /// How much the model may think first.
    pub thinking: Option<Thinking>,
    /// The end user, as the caller names them to the provider.
    pub user: Option<String>,
    /// The caller's own labels.
    pub metadata: Extra,
    /// Whether the reply is to come as a stream.
    pub stream: bool,
    /// Whether the stream is to tell what was used, where that must be asked for.
    pub stream_usage: bool,
    /// The family it was read from; `None` for one that was made here.
    pub from: Option<Family>,
    /// What else that family said.
    pub extra: Extra,
}

/// How the next token is drawn. Numbers as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Sampling temperature.
    pub temperature: Option<Number>,
    /// Nucleus sampling.
    pub top_p: Option<Number>,
    /// The most likely tokens only.
    pub top_k: Option<Number>,
    /// Against repeating often.
    pub frequency_penalty: Option<Number>,
    /// Against repeating at all.
    pub presence_penalty: Option<Number>,
    /// For the same reply again, as far as the model can.
    pub seed: Option<Number>,
}

/// How much a model may think before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// Whether it thinks at all; `None` leaves that to the model.
    pub on: Option<bool>,
    /// `low`, `medium`, `high` and whatever else a family knows.
    pub effort: Option<String>,
    /// Tokens it may think.
    pub budget: Option<u64>,
    /// Whether and how the thoughts are shown: `auto`, `summarized`, `omitted`, …
    pub shown: Option<String>,
}

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions of the application's author, where a family tells them apart.
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// Results of tools.
    Tool,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub parts: Vec<Part>,
    /// The name of who said it, where several share a role.
    pub name: Option<String>,
    /// What else its family said.
    pub extra: Extra,
}

impl Message {
    /// A message of these parts.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None, extra: Extra::new() }
    }
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, vec![Part::text(text)])
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// The prefix that ends here is worth keeping.
    pub cache: Option<Cache>,
    /// Proof of where it comes from, opaque to everybody but who made it.
    pub signature: Option<Signature>,
    /// What else its family said.
    pub extra: Extra,
}

impl Part {
    /// A part that is this and nothing more.
    pub fn new(content: Content) -> Self {
        Self { content, cache: None, signature: None, extra: Extra::new() }
    }
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Content::Text(text.into()))
    }
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Words.
    Text(String),
    /// The model's words for not answering.
    Refusal(String),
    /// A picture.
    Image(Media),
    /// A document.
    File(Media),
    /// Sound.
    Audio(Media),
    /// The model asks for a tool.
    Call(Call),
    /// What a tool answered.
    Outcome(Outcome),
    /// What the model thought. Without words when they are withheld and only their proof is there.
    Thought(Thought),
    /// Something that this form has no word for, as its family wrote it.
    Other(Json),
}

/// A picture, a document or a sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Where it is.
    pub source: Source,
    /// Its file name.
    pub name: Option<String>,
    /// How closely a picture is to be looked at.
    pub detail: Option<String>,
}

/// Where media are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the request, in base64.
    Base64 {
        /// `image/png` and its like.
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// At an address.
    Url {
        /// The address.
        url: String,
        /// `image/png` and its like, when told.
        media_type: Option<String>,
    },
    /// In the request, as plain text.
    Text(String),
    /// With the provider, under this id.
    Id(String),
}

/// A tool call, as the model wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The model's id for it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text, possibly malformed.
    pub arguments: String,
}

/// What a tool answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Which call it answers.
    pub call: String,
    /// The tool's name, where a family says it again.
    pub name: Option<String>,
    /// What it answered.
    pub parts: Vec<Part>,
    /// Whether it failed.
    pub failed: bool,
}

/// What a model thought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thought {
    /// The words, or a summary of them; empty when withheld.
    pub text: String,
    /// The id of the item that it was.
    pub id: Option<String>,
    /// Whether the words are withheld, so that the signature is all there is.
    pub withheld: bool,
}

/// An opaque proof. Only the family that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Who made it.
    pub family: Family,
    /// The proof.
    pub data: String,
}

/// In front of a proof that travels in another family's field.
const FOREIGN: &str = "wire:";

impl Signature {
    /// The proof as a field of `family` holds it: its own as it is, another's with its maker's name in front, so that
    /// it comes back through a client that knows neither.
    pub fn shown_to(&self, family: Family) -> String {
        if self.family == family {
            self.data.clone()
        } else {
            format!("{FOREIGN}{}:{}", self.family.name(), self.data)
        }
    }
    /// The proof in a field of `family`.
    pub fn read(family: Family, text: String) -> Self {
        let foreign = text.strip_prefix(FOREIGN).and_then(|rest| rest.split_once(':'));
        match foreign.and_then(|(name, data)| Some((Family::named(name)?, data.to_owned()))) {
            Some((family, data)) => Self { family, data },
            None => Self { family, data: text },
        }
    }
}

/// A cache breakpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// How long to keep it, in the words of its family: `5m`, `1h`.
    pub ttl: Option<String>,
}

/// A tool on offer.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// One that the caller performs.
    Function(Function),
    /// One that the provider performs, as its family wrote it.
    Other(Json),
}

/// A tool that the caller performs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub schema: Option<Json>,
    /// Whether the arguments must keep to the schema exactly.
    pub strict: Option<bool>,
    /// The prefix that ends here is worth keeping.
    pub cache: Option<Cache>,
    /// What else its family said.
    pub extra: Extra,
}

/// Which tools a model may or must use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
    /// Of these only.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// Whether it must use one.
        required: bool,
    },
}

/// The form of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Some JSON object.
    Json,
    /// JSON that keeps to a schema.
    Schema {
        /// What the schema is called.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The JSON Schema.
        schema: Json,
        /// Whether the model must keep to it exactly.
        strict: Option<bool>,
    },
}
