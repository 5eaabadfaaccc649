//! What a run of a session is told of the exchanges before it, and what an exchange leaves for the next one.
//!
//! Invariant: what is recalled is a conversation that every vendor takes, however its exchanges ended: each begins with what
//! the person said and ends with words of the assistant, and no tool call is without a result. It is bounded, and what was
//! left out is counted. Turns, calls and deadlines are none of its business: they begin anew with every message.
//!
//! User content: it lies sealed beside the first event.

use std::fmt::Write as _;

use lantern_types::Limits;
use lantern_types::llm::{Image, Message, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::ProgramKind;
use crate::program;
use crate::run::{Phase, Run};
use crate::template::as_text;

/// A tool's result is recalled up to here, in bytes.
const RESULT_BYTES_MAX: usize = 16 << 10;

/// The exchanges before a run, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recall {
    /// What was said in each.
    pub exchanges: Vec<Vec<Message>>,
    /// Exchanges that are not here.
    #[serde(default)]
    pub dropped: u32,
    /// Pictures that are not here.
    #[serde(default)]
    pub images_dropped: u32,
}

/// How much is recalled, in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recalled {
    /// Exchanges.
    pub exchanges: u32,
    /// Exchanges that were left out.
    #[serde(default)]
    pub dropped: u32,
    /// Pictures that were left out.
    #[serde(default)]
    pub images_dropped: u32,
}

impl Recall {
    /// Everything that is recalled, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.exchanges.iter().flatten()
    }

    /// What the exchange after the next message recalls: this and one more. The oldest give way.
    pub fn and(&self, exchange: Vec<Message>, limits: &Limits) -> Self {
        let most = usize::try_from(limits.recall_bytes_max).unwrap_or(usize::MAX);
        let mut next = self.clone();
        next.exchanges.push(shortened(exchange, most));
        let mut bytes: usize = next.exchanges.iter().map(|exchange| text_bytes(exchange)).sum();
        let mut gone = 0;
        for exchange in &next.exchanges {
            if bytes <= most {
                break;
            }
            bytes -= text_bytes(exchange);
            gone += 1;
        }
        for exchange in next.exchanges.drain(..gone) {
            next.dropped = next.dropped.saturating_add(1);
            next.images_dropped = next.images_dropped.saturating_add(images(&exchange));
        }
        next.shown_up_to(usize::try_from(limits.recall_image_bytes_max).unwrap_or(usize::MAX));
        next
    }

    /// The same, when so many exchanges before it are lost.
    #[must_use]
    pub fn without(mut self, lost: u32) -> Self {
        self.dropped = self.dropped.saturating_add(lost);
        self
    }

    /// The newest pictures of so many bytes stay.
    fn shown_up_to(&mut self, most: usize) {
        let mut bytes: usize = 0;
        for message in self.exchanges.iter_mut().flatten().rev() {
            bytes = bytes.saturating_add(message.images.iter().map(|image| image.data.len()).sum());
            if bytes > most {
                bytes = most;
                let count = u32::try_from(message.images.len()).unwrap_or(u32::MAX);
                self.images_dropped = self.images_dropped.saturating_add(count);
                message.images.clear();
            }
        }
    }

    /// How much it is.
    pub(crate) fn counted(&self) -> Recalled {
        Recalled {
            exchanges: u32::try_from(self.exchanges.len()).unwrap_or(u32::MAX),
            dropped: self.dropped,
            images_dropped: self.images_dropped,
        }
    }
}

/// What was said in a run that is over, but for the `before` messages that were said before it.
pub fn exchange(run: &Run, before: usize) -> Vec<Message> {
    let mut said: Vec<Message> = match run.program {
        ProgramKind::Agent => program::conversation(run).into_iter().skip(before).collect(),
        ProgramKind::Steps => vec![asked(&run.input)],
    };
    if let (ProgramKind::Steps, Some(output)) = (run.program, &run.output) {
        said.push(Message::text(Role::Assistant, as_text(output)));
    }
    if run.error.is_some() {
        // They may be why it failed, and the next message is not to fail with them.
        for message in &mut said {
            message.images.clear();
        }
    }
    for message in said.iter_mut().filter(|message| message.role == Role::Tool) {
        cut(&mut message.content);
    }
    said.retain(|message| {
        message.role != Role::Assistant || !message.content.is_empty() || !message.tool_calls.is_empty()
    });
    let answered = said.last().is_some_and(|last| last.role == Role::Assistant && last.tool_calls.is_empty());
    if !answered {
        said.push(Message::text(Role::Assistant, no_answer(run)));
    }
    said
}

/// What stands where a reply would: some vendors take nothing but words of both sides in turn.
fn no_answer(run: &Run) -> String {
    match (&run.error, run.phase) {
        (Some((code, ..)), _) => format!("[no reply: {code}]"),
        (None, Phase::Over(_)) => "[an empty reply]".to_owned(),
        (None, _) => "[no reply]".to_owned(),
    }
}

fn cut(text: &mut String) {
    if text.len() > RESULT_BYTES_MAX {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(RESULT_BYTES_MAX));
        // Writing to a string cannot fail.
        let _ = write!(text, "… [{whole} bytes, cut]");
    }
}

/// An exchange that is too long by itself: what was asked and what was answered last, if that is shorter.
fn shortened(exchange: Vec<Message>, most: usize) -> Vec<Message> {
    if text_bytes(&exchange) <= most {
        return exchange;
    }
    let mut ends = exchange.into_iter();
    let (first, last) = (ends.next(), ends.next_back());
    first.into_iter().chain(last).collect()
}

fn text_bytes(exchange: &[Message]) -> usize {
    exchange.iter().map(Message::text_bytes).sum()
}

fn images(exchange: &[Message]) -> u32 {
    u32::try_from(exchange.iter().map(|message| message.images.len()).sum::<usize>()).unwrap_or(u32::MAX)
}

/// What a person says in a session: the message, the attachments that are text, each under its name, and the pictures.
pub(crate) fn asked(input: &Value) -> Message {
    let said = input.get("message").and_then(Value::as_str);
    let (Some(text), Some(attachments)) = (said, input.get("attachments").and_then(Value::as_array)) else {
        return Message::text(Role::User, program::user_text(input));
    };
    let mut message = Message::text(Role::User, text);
    for attachment in attachments {
        let field = |name| attachment.get(name).and_then(Value::as_str);
        let (name, media) = (field("name").unwrap_or("attachment"), field("mediaType").unwrap_or_default());
        if let Some(data) = field("data") {
            let _ = write!(message.content, "\n\n[picture: {name}]");
            message.images.push(Image { media_type: media.to_owned(), data: data.to_owned() });
        } else {
            let text = field("text").unwrap_or_default();
            let _ = write!(message.content, "\n\n[attachment: {name}]\n{text}\n[end of {name}]");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(words: &[&str]) -> Vec<Message> {
        let role = |n| if n % 2 == 0 { Role::User } else { Role::Assistant };
        words.iter().enumerate().map(|(n, text)| Message::text(role(n), *text)).collect()
    }

    fn picture(bytes: usize) -> Message {
        let image = Image { media_type: "image/png".to_owned(), data: "x".repeat(bytes) };
        Message { images: vec![image], ..Message::text(Role::User, "look") }
    }

    #[test]
    fn the_oldest_exchanges_give_way_whole_and_are_counted() {
        // Two messages of 32 bytes and their text.
        let limits = Limits { recall_bytes_max: 210, ..Limits::default() };
        let mut recall = Recall::default();
        for (n, want, dropped) in [(1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 3, 1), (5, 3, 2)] {
            recall = recall.and(said(&[&format!("q{n}"), &format!("a{n}")]), &limits);
            assert_eq!((recall.exchanges.len(), recall.dropped), (want, dropped), "{n}");
            assert_eq!(recall.exchanges.last().unwrap()[1].content, format!("a{n}"));
        }
        assert_eq!(recall.messages().next().unwrap().content, "q3");
        assert_eq!(recall.counted(), Recalled { exchanges: 3, dropped: 2, images_dropped: 0 });
        assert_eq!(recall.clone().without(2).dropped, 4);
        // One that is too long alone leaves its ends, or nothing.
        let long = "x".repeat(200);
        let ends = recall.and(said(&["q", &long, "and?", "a"]), &limits);
        assert_eq!(
            ends.exchanges.last().unwrap().iter().map(|m| &*m.content).collect::<Vec<_>>(),
            ["q", "a"]
        );
        let nothing = recall.and(said(&[&long, "a"]), &limits);
        assert_eq!((nothing.exchanges.len(), nothing.dropped), (0, 6));
    }

    #[test]
    fn the_newest_pictures_stay() {
        let limits = Limits { recall_image_bytes_max: 100, ..Limits::default() };
        let mut recall = Recall::default();
        for (bytes, shown, dropped) in [(40, 1, 0), (60, 2, 0), (50, 1, 2), (101, 0, 4), (100, 1, 4)] {
            recall = recall.and(vec![picture(bytes), Message::text(Role::Assistant, "a")], &limits);
            let images: usize = recall.messages().map(|message| message.images.len()).sum();
            assert_eq!((images, recall.images_dropped), (shown, dropped), "{bytes}");
        }
    }

    #[test]
    fn a_message_is_its_words_its_texts_and_its_pictures() {
        let note = json!({"name": "n.txt", "mediaType": "text/plain", "text": "hi"});
        let photo = json!({"name": "p.png", "mediaType": "image/png", "data": "AA=="});
        for (input, want, images) in [
            (json!({"message": "m"}), "m", 0),
            (json!({"message": "m", "attachments": []}), "m", 0),
            (
                json!({"message": "m", "attachments": [note, photo]}),
                "m\n\n[attachment: n.txt]\nhi\n[end of n.txt]\n\n[picture: p.png]",
                1,
            ),
            (json!({"message": 5, "attachments": []}), r#"{"attachments":[],"message":5}"#, 0),
            (json!({"prompt": "another"}), "another", 0),
        ] {
            let message = asked(&input);
            assert_eq!((message.content.as_str(), message.images.len()), (want, images));
        }
    }
}
