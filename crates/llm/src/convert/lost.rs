//! What a writer had no place for.
//!
//! Invariant: what a family said and another cannot say is left out and named, never passed on as it is.

use std::collections::BTreeSet;

use crate::Family;
use crate::neutral::{Extra, Json};

/// More names than this say nothing to anybody.
const NAMES_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;

/// The list of what was left out, and the rule for it.
#[derive(Debug)]
pub(crate) struct Lost {
    same: bool,
    names: BTreeSet<String>,
}

impl Lost {
    /// For writing to `to` what was read from `from`.
    pub(crate) fn new(to: Family, from: Option<Family>) -> Self {
        Self { same: from == Some(to), names: BTreeSet::new() }
    }
    /// Names something that is left out.
    pub(crate) fn note(&mut self, name: &str) {
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.chars().take(NAME_CHARS_MAX).collect());
        }
    }
    /// The same when it is there.
    pub(crate) fn note_if(&mut self, there: bool, name: &str) {
        if there {
            self.note(name);
        }
    }
    /// What else was said at `at`: all of it within a family, nothing between two.
    pub(crate) fn rest(&mut self, at: &str, extra: &Extra) -> Extra {
        if self.same {
            return extra.clone();
        }
        for name in extra.keys() {
            self.note(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") });
        }
        Extra::new()
    }
    /// A thing of another family's own kind, if this is that family.
    pub(crate) fn other<T: serde::de::DeserializeOwned>(&mut self, at: &str, json: &Json) -> Option<T> {
        let own = self.same.then(|| serde_json::from_str(json.text()).ok()).flatten();
        if own.is_none() {
            let kind = json.value().get("type").and_then(|kind| kind.as_str().map(str::to_owned));
            self.note(&kind.map_or_else(|| at.to_owned(), |kind| format!("{at}.{kind}")));
        }
        own
    }
    /// Whether both sides are of one family.
    pub(crate) const fn same(&self) -> bool {
        self.same
    }
    /// The names, in order.
    pub(crate) fn names(self) -> Vec<String> {
        self.names.into_iter().collect()
    }
}
