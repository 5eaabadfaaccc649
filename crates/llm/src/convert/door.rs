//! Replies as a front door gives them: whole, or as a stream in the family's own frames.

use serde_json::Value;

use super::lost::Lost;
use super::problem::{self, Problem};
use super::{Stamp, Written, chat, converse, generate, messages, responses, shared, sse};
use crate::Family;
use crate::neutral::{Delta, Reply};

/// Writes a whole reply.
pub fn write_reply(family: Family, reply: &Reply, stamp: &Stamp) -> Written {
    let mut lost = Lost::new(family, reply.from);
    let body: Value = match family {
        Family::Chat => chat::reply::write(reply, stamp, &mut lost),
        Family::Responses => responses::reply::write(reply, stamp, &mut lost),
        Family::Messages => messages::reply::write(reply, stamp, &mut lost),
        Family::Generate => generate::reply::write(reply, stamp, &mut lost),
        Family::Converse => converse::reply::write(reply, &mut lost),
    };
    Written { body: shared::bytes(&body), ignored: lost.names() }
}

/// Writes one streamed reply, step by step.
///
/// A stream that is stopped on the way ends cleanly when it is given `Close` for the open parts, `Finish` and `End`;
/// one that failed ends with [`Encoder::fail`].
#[derive(Debug)]
pub struct Encoder(Wire);

#[derive(Debug)]
enum Wire {
    Chat(Box<chat::stream_out::Encoder>),
    Responses(Box<responses::stream_out::Encoder>),
    Messages(Box<messages::stream_out::Encoder>),
    Generate(Box<generate::stream_out::Encoder>),
    Converse(Box<converse::stream_out::Encoder>),
}

impl Encoder {
    /// For a stream to a client of `family`, from a provider of `from`.
    pub fn new(family: Family, from: Family, stamp: Stamp) -> Self {
        let same = family == from;
        Self(match family {
            Family::Chat => Wire::Chat(Box::new(chat::stream_out::Encoder::new(stamp))),
            Family::Responses => Wire::Responses(Box::new(responses::stream_out::Encoder::new(stamp, same))),
            Family::Messages => Wire::Messages(Box::new(messages::stream_out::Encoder::new(stamp, same))),
            Family::Generate => Wire::Generate(Box::new(generate::stream_out::Encoder::new(stamp))),
            Family::Converse => Wire::Converse(Box::default()),
        })
    }

    /// The media type of the stream.
    pub const fn content_type(family: Family) -> &'static str {
        match family {
            Family::Converse => "application/vnd.amazon.eventstream",
            _ => "text/event-stream",
        }
    }

    /// The bytes of a step; there may be none.
    pub fn push(&mut self, delta: &Delta) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.0 {
            Wire::Chat(encoder) => encoder.push(delta, &mut out),
            Wire::Responses(encoder) => encoder.push(delta, &mut out),
            Wire::Messages(encoder) => encoder.push(delta, &mut out),
            Wire::Generate(encoder) => encoder.push(delta, &mut out),
            Wire::Converse(encoder) => encoder.push(delta, &mut out),
        }
        out
    }

    /// The bytes that end the stream with an error, in a form that the family's clients raise.
    pub fn fail(&mut self, problem: &Problem) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.0 {
            Wire::Chat(_) => sse(None, &problem::body(Family::Chat, problem), &mut out),
            Wire::Responses(encoder) => encoder.fail(problem, &mut out),
            Wire::Messages(_) => sse(Some("error"), &problem::body(Family::Messages, problem), &mut out),
            Wire::Generate(_) => sse(None, &problem::body(Family::Generate, problem), &mut out),
            Wire::Converse(_) => converse::stream_out::fail(problem, &mut out),
        }
        out
    }
}
