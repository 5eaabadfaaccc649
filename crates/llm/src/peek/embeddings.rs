//! Embeddings: what they used. They come whole, and say nothing.

use lantern_types::call::Used;
use serde_json::Value;

use super::{Said, tokens};

pub(super) fn whole(answer: &Value) -> Said {
    let used = |usage: &Value| Used { input: tokens(usage, "prompt_tokens"), ..Used::default() };
    Said { used: answer.get("usage").filter(|usage| usage.is_object()).map(used), ..Said::default() }
}
