//! The vendors: where each answers, how it is asked, and in which dialect. tidy: table
//!
//! Each entry names the page that it was written from. A server that is not here is asked in the plain chat dialect.

use super::dialect::{CHAT, Dialect, EffortField, LimitField, Schemas, ThoughtField, only};
use crate::Family;

/// How a vendor is shown who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`, when there is a key.
    Bearer,
    /// The key in a header of its own.
    Header(&'static str),
    /// A signature of the request (AWS Signature Version 4), or a bearer token.
    Signed,
}

/// How the URL of a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// The family's own path below the base URL.
    Plain,
    /// `openai/deployments/{model}/…?api-version=…`, unless the base URL is of the newer kind that ends in `/v1`.
    Deployments,
}

/// A vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vendor {
    /// Its name, as a provider is named in the configuration.
    pub name: &'static str,
    /// Its own base URL; `None` where every customer has another.
    pub base_url: Option<&'static str>,
    /// How it is shown who asks.
    pub auth: Auth,
    /// How its URLs are made.
    pub paths: Paths,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where this is documented.
    pub source: &'static str,
}

/// The vendor of that name.
pub fn vendor(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

/// Who answers for a provider of that name: the vendor that is called so, or the one whose name it begins with, as in
/// `anthropic-eu`; else somebody who imitates the chat wire. An address that ends in `/openai` is a vendor's imitation
/// of that wire.
pub fn of_provider(name: &str, base_url: &str) -> Vendor {
    let begins = |vendor: &&Vendor| {
        name.strip_prefix(vendor.name).is_some_and(|rest| rest.starts_with(['-', '_', '.']))
    };
    let longest = || VENDORS.iter().filter(begins).max_by_key(|vendor| vendor.name.len());
    let known = vendor(name).or_else(longest).copied();
    let known =
        known.unwrap_or(compatible("", None, CHAT, "https://platform.openai.com/docs/api-reference/chat"));
    if known.dialect.family == Family::Generate && base_url.trim_end_matches('/').ends_with("/openai") {
        let dialect =
            Dialect { limit: LimitField::Plain, google_proofs: true, user: false, files: false, ..CHAT };
        return Vendor {
            auth: Auth::Bearer,
            dialect,
            source: "https://ai.google.dev/gemini-api/docs/openai",
            ..known
        };
    }
    known
}

const fn compatible(
    name: &'static str,
    base_url: Option<&'static str>,
    dialect: Dialect,
    source: &'static str,
) -> Vendor {
    Vendor { name, base_url, auth: Auth::Bearer, paths: Paths::Plain, dialect, source }
}

const OPENAI: Dialect =
    Dialect { allowed_tools: true, developer: true, metadata: true, breakpoints: true, ..CHAT };

/// All of them.
pub const VENDORS: &[Vendor] = &[
    compatible(
        "openai",
        Some("https://api.openai.com/v1"),
        OPENAI,
        "https://platform.openai.com/docs/api-reference/chat/create",
    ),
    compatible(
        "openai-responses",
        Some("https://api.openai.com/v1"),
        Dialect { family: Family::Responses, ..OPENAI },
        "https://platform.openai.com/docs/api-reference/responses/create",
    ),
    Vendor {
        name: "anthropic",
        base_url: Some("https://api.anthropic.com/v1"),
        auth: Auth::Header("x-api-key"),
        paths: Paths::Plain,
        dialect: only(Family::Messages),
        source: "https://docs.anthropic.com/en/api/messages",
    },
    Vendor {
        name: "gemini",
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        auth: Auth::Header("x-goog-api-key"),
        paths: Paths::Plain,
        dialect: only(Family::Generate),
        source: "https://ai.google.dev/api/generate-content",
    },
    Vendor {
        name: "bedrock",
        base_url: None,
        auth: Auth::Signed,
        paths: Paths::Plain,
        dialect: only(Family::Converse),
        source: "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
    },
    // The model's name is the deployment's. Labels are kept with stored completions only.
    Vendor {
        name: "azure-openai",
        base_url: None,
        auth: Auth::Header("api-key"),
        paths: Paths::Deployments,
        dialect: Dialect { metadata: false, breakpoints: false, ..OPENAI },
        source: "https://learn.microsoft.com/azure/ai-services/openai/reference",
    },
    // `tool_choice`, `user` and `logit_bias` are not in its list of supported fields; thoughts are in `reasoning`.
    compatible(
        "ollama",
        Some("http://127.0.0.1:11434/v1"),
        Dialect {
            limit: LimitField::Plain,
            named_choice: false,
            parallel: false,
            schemas: Schemas::Loose,
            thoughts: Some(ThoughtField::Reasoning),
            user: false,
            files: false,
            ..CHAT
        },
        "https://docs.ollama.com/api/openai-compatibility",
    ),
    // Sampling fields beyond the documented wire are taken beside the others; thoughts go back in `reasoning`.
    compatible(
        "vllm",
        Some("http://127.0.0.1:8000/v1"),
        Dialect {
            limit: LimitField::Plain,
            thoughts: Some(ThoughtField::Reasoning),
            top_k: true,
            files: false,
            ..CHAT
        },
        "https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
    ),
    // A named tool choice is not read; `required` is.
    compatible(
        "llamacpp",
        Some("http://127.0.0.1:8080/v1"),
        Dialect {
            limit: LimitField::Plain,
            named_choice: false,
            schemas: Schemas::Loose,
            thoughts: Some(ThoughtField::ReasoningContent),
            effort: EffortField::None,
            top_k: true,
            files: false,
            ..CHAT
        },
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    ),
    // Passes fields on to whoever serves the model; thoughts have proofs, and prefixes breakpoints.
    compatible(
        "openrouter",
        Some("https://openrouter.ai/api/v1"),
        Dialect {
            limit: LimitField::Plain,
            thoughts: Some(ThoughtField::Details),
            effort: EffortField::Nested,
            top_k: true,
            cache_control: true,
            ..CHAT
        },
        "https://openrouter.ai/docs/api-reference/overview",
    ),
    // `max_tokens` is deprecated; `messages[].name` is refused; a stream's usage is in `x_groq` of its last chunk.
    compatible(
        "groq",
        Some("https://api.groq.com/openai/v1"),
        Dialect {
            limit: LimitField::Completion,
            thoughts: Some(ThoughtField::Reasoning),
            files: false,
            ..CHAT
        },
        "https://console.groq.com/docs/openai",
    ),
    // JSON, but no schemas, for replies; cached tokens are in `prompt_cache_hit_tokens`.
    compatible(
        "deepseek",
        Some("https://api.deepseek.com/v1"),
        Dialect {
            limit: LimitField::Plain,
            schemas: Schemas::None,
            thoughts: Some(ThoughtField::ReasoningContent),
            effort: EffortField::None,
            parallel: false,
            seed: None,
            user: false,
            files: false,
            ..CHAT
        },
        "https://api-docs.deepseek.com/api/create-chat-completion",
    ),
    // Fields that it does not know are refused. A stream's usage comes unasked; `any` stands for `required`.
    compatible(
        "mistral",
        Some("https://api.mistral.ai/v1"),
        Dialect {
            limit: LimitField::Plain,
            stream_options: false,
            required: "any",
            effort: EffortField::None,
            seed: Some("random_seed"),
            user: false,
            files: false,
            ..CHAT
        },
        "https://docs.mistral.ai/api/#tag/chat",
    ),
    // `max_tokens` is deprecated; thoughts are counted beside the completion.
    compatible(
        "xai",
        Some("https://api.x.ai/v1"),
        Dialect {
            limit: LimitField::Completion,
            thoughts: Some(ThoughtField::ReasoningContent),
            files: false,
            ..CHAT
        },
        "https://docs.x.ai/docs/api-reference#chat-completions",
    ),
    compatible(
        "together",
        Some("https://api.together.xyz/v1"),
        Dialect {
            limit: LimitField::Plain,
            schemas: Schemas::Loose,
            thoughts: Some(ThoughtField::Reasoning),
            parallel: false,
            top_k: true,
            user: false,
            files: false,
            ..CHAT
        },
        "https://docs.together.ai/reference/chat-completions-1",
    ),
    compatible(
        "fireworks",
        Some("https://api.fireworks.ai/inference/v1"),
        Dialect {
            limit: LimitField::Plain,
            thoughts: Some(ThoughtField::ReasoningContent),
            top_k: true,
            files: false,
            ..CHAT
        },
        "https://docs.fireworks.ai/api-reference/post-chatcompletions",
    ),
    // A tool cannot be named in a choice, and calls cannot be asked for one at a time.
    compatible(
        "cohere",
        Some("https://api.cohere.ai/compatibility/v1"),
        Dialect {
            limit: LimitField::Plain,
            named_choice: false,
            parallel: false,
            developer: true,
            user: false,
            files: false,
            ..CHAT
        },
        "https://docs.cohere.com/docs/compatibility-api",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_is_there_once_with_its_source() {
        let mut names: Vec<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VENDORS.len());
        for entry in VENDORS {
            assert_eq!(vendor(entry.name), Some(entry));
            assert!(entry.source.starts_with("https://"), "{}", entry.name);
            assert!(entry.base_url.is_none_or(|url| !url.ends_with('/')), "{}", entry.name);
        }
        assert_eq!(vendor("somebody"), None);
    }

    #[test]
    fn a_provider_is_known_by_its_name() {
        for (name, url, want, family) in [
            ("anthropic", "https://a/v1", "anthropic", Family::Messages),
            ("anthropic-eu", "https://a/v1", "anthropic", Family::Messages),
            ("anthropics", "https://a/v1", "", Family::Chat),
            ("openai-responses", "https://a/v1", "openai-responses", Family::Responses),
            ("openai-responses.eu", "https://a/v1", "openai-responses", Family::Responses),
            ("openai_lab", "https://a/v1", "openai", Family::Chat),
            ("gemini", "https://a/v1beta", "gemini", Family::Generate),
            ("gemini", "https://a/v1beta/openai/", "gemini", Family::Chat),
            ("lab", "https://a/v1", "", Family::Chat),
        ] {
            let found = of_provider(name, url);
            assert_eq!((found.name, found.dialect.family), (want, family), "{name} {url}");
        }
    }
}
