//! A streamed reply put together.
//!
//! Invariant: a reply comes out only when the model said why it stopped, and each tool call in it has a name, an id
//! and the arguments exactly as the model wrote them.

use lantern_types::Failure;

use super::{Call, Content, Delta, Finish, Opening, Part, Reply, Thought, Usage};
use crate::Family;
use crate::failure::{interrupted, invalid};

/// More parts in one reply than any model makes.
const PARTS_MAX: usize = 1_024;

/// A reply in the making.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    id: Option<String>,
    model: Option<String>,
    parts: Vec<Part>,
    usage: Option<Usage>,
    finish: Option<(Finish, Option<String>)>,
}

impl Assembly {
    /// Adds a step.
    pub fn take(&mut self, delta: &Delta) -> Result<(), Failure> {
        match delta {
            Delta::Start { id, model } => {
                self.id = id.clone().or_else(|| self.id.take());
                self.model = model.clone().or_else(|| self.model.take());
            }
            Delta::Open { part, what } => {
                if *part != self.parts.len() || *part >= PARTS_MAX {
                    return Err(invalid(format!("the reply has more than {PARTS_MAX} parts")));
                }
                self.parts.push(Part::new(opened(what)));
            }
            Delta::Add { part, text } => self.add(*part, text)?,
            Delta::Sign { part, signature } => self.part(*part)?.signature = Some(signature.clone()),
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Finish { finish, stop } => self.finish = Some((*finish, stop.clone())),
            Delta::Close { .. } | Delta::End => {}
        }
        Ok(())
    }

    fn part(&mut self, part: usize) -> Result<&mut Part, Failure> {
        self.parts.get_mut(part).ok_or_else(|| invalid("the reply goes on with a part that it has not begun"))
    }

    fn add(&mut self, part: usize, text: &str) -> Result<(), Failure> {
        match &mut self.part(part)?.content {
            Content::Text(said) | Content::Refusal(said) | Content::Thought(Thought { text: said, .. }) => {
                said.push_str(text);
            }
            Content::Call(Call { arguments, .. }) => arguments.push_str(text),
            _ => return Err(invalid("the reply adds words to a part that has none")),
        }
        Ok(())
    }

    /// Whether the model said why it stopped.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The whole reply; a failure when it is not whole.
    pub fn finish(self, from: Family, asked: &str) -> Result<Reply, Failure> {
        let Some((finish, stop)) = self.finish else {
            return Err(interrupted("the reply broke off before its end"));
        };
        Ok(Reply {
            id: self.id,
            model: self.model.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.to_owned()),
            parts: self.parts,
            finish,
            stop,
            usage: self.usage,
            from: Some(from),
            extra: super::Extra::new(),
        })
    }
}

fn opened(what: &Opening) -> Content {
    match what {
        Opening::Text => Content::Text(String::new()),
        Opening::Refusal => Content::Refusal(String::new()),
        Opening::Thought { id, withheld } => {
            Content::Thought(Thought { text: String::new(), id: id.clone(), withheld: *withheld })
        }
        Opening::Call { id, name } => {
            Content::Call(Call { id: id.clone(), name: name.clone(), arguments: String::new() })
        }
        Opening::Other(json) => Content::Other(json.clone()),
    }
}
