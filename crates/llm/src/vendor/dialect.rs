//! How a server differs from the wire that it speaks. Data: what each field makes of a request is in `convert`.

use crate::Family;

/// The differences of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The wire.
    pub family: Family,
    /// What the most tokens of a reply are called.
    pub limit: LimitField,
    /// Whether a stream tells its usage only when asked with `stream_options`, and whether it may be asked.
    pub stream_options: bool,
    /// The word for a tool choice that must use some tool.
    pub required: &'static str,
    /// Whether a tool choice may name one tool.
    pub named_choice: bool,
    /// Whether a tool choice may name several.
    pub allowed_tools: bool,
    /// Whether it may be asked for one tool call at a time.
    pub parallel: bool,
    /// What it knows of schemas for replies and tools.
    pub schemas: Schemas,
    /// Where past thoughts are sent back, if at all.
    pub thoughts: Option<ThoughtField>,
    /// How it is told how much to think.
    pub effort: EffortField,
    /// Whether it tells developers from systems.
    pub developer: bool,
    /// Whether it takes `top_k`.
    pub top_k: bool,
    /// What the seed is called, if it takes one.
    pub seed: Option<&'static str>,
    /// Whether it takes the name of the end user.
    pub user: bool,
    /// Whether it takes labels.
    pub metadata: bool,
    /// Whether it takes documents.
    pub files: bool,
    /// Whether results of tools repeat the tool's name.
    pub named_outcomes: bool,
    /// Whether it takes `cache_control` on parts.
    pub cache_control: bool,
    /// Whether it takes `prompt_cache_breakpoint` on parts.
    pub breakpoints: bool,
    /// Whether proofs go back in `extra_content.google`.
    pub google_proofs: bool,
    /// Whether a repeat of a request is recognised by an `Idempotency-Key`.
    pub idempotency_key: bool,
}

impl Dialect {
    /// Whether there is a way to say where a cached prefix ends.
    pub(crate) const fn caches(&self) -> bool {
        self.cache_control || self.breakpoints
    }
}

/// What the most tokens of a reply are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`.
    Plain,
    /// `max_completion_tokens`.
    Completion,
    /// The second for models that think first, the first for others.
    ByModel,
}

/// What a server knows of schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemas {
    /// It can be held to them.
    Strict,
    /// It takes them, and not the word `strict`.
    Loose,
    /// It takes none: a reply can be asked to be JSON, and no more.
    None,
}

/// The field of a message that holds thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThoughtField {
    /// `reasoning_content`.
    ReasoningContent,
    /// `reasoning`.
    Reasoning,
    /// `reasoning_details`, with proofs.
    Details,
}

/// How a server is told how much to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffortField {
    /// `reasoning_effort`.
    Plain,
    /// `reasoning`, an object.
    Nested,
    /// Not at all.
    None,
}

/// A server that imitates the chat wire and of which nothing more is known: what nearly all of them take.
pub const CHAT: Dialect = Dialect {
    family: Family::Chat,
    limit: LimitField::ByModel,
    stream_options: true,
    required: "required",
    named_choice: true,
    allowed_tools: false,
    parallel: true,
    schemas: Schemas::Strict,
    thoughts: None,
    effort: EffortField::Plain,
    developer: false,
    top_k: false,
    seed: Some("seed"),
    user: true,
    metadata: false,
    files: true,
    named_outcomes: false,
    cache_control: false,
    breakpoints: false,
    google_proofs: false,
    idempotency_key: true,
};

/// The other families have one speaker each; of these fields they use the first and the last.
pub(super) const fn only(family: Family) -> Dialect {
    Dialect { family, idempotency_key: false, ..CHAT }
}

/// Models of the vendor itself that think first take `max_completion_tokens` instead of `max_tokens` and refuse a
/// temperature: `o1`, `o3-mini`, `o4-mini`, `gpt-5…`, with or without a `vendor/` in front.
pub(crate) fn thinks(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let o_series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    o_series || name.starts_with("gpt-5")
}
