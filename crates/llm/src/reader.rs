//! Bytes of a streamed reply in, text as it comes and finally the reply out. No IO: the transport feeds it.
//!
//! Invariant: a reply comes out only when the model said why it stopped. Whatever else ends a stream (an error inside
//! it, nonsense, too much, or just the end) is a failure.

use lantern_types::Failure;
use lantern_types::llm::LlmReply;

use crate::failure::final_but_unknown;
use crate::neutral::{Assembly, Delta, Opening};
use crate::wire::{Decoder, read_reply};
use crate::{Deltas, Family};

/// Reads one streamed reply.
pub(crate) struct Reader {
    family: Family,
    decoder: Decoder,
    assembly: Assembly,
    /// The parts that are words for whoever listens.
    words: Vec<usize>,
    /// Bytes of words, thoughts and arguments so far.
    said: usize,
}

/// The most that one reply may say, thoughts included. A step takes no larger output; many are read at once.
const REPLY_BYTES_MAX: usize = 4 << 20;

impl Reader {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            decoder: Decoder::new(family),
            assembly: Assembly::default(),
            words: Vec::new(),
            said: 0,
        }
    }

    /// Takes the next bytes and hands on the text in them. `true` once the stream has said that it is over.
    pub(crate) fn push(&mut self, bytes: &[u8], deltas: Deltas<'_>) -> Result<bool, Failure> {
        let mut steps = Vec::new();
        let pushed = self.decoder.push_into(bytes, &mut steps);
        for step in &steps {
            self.take(step, deltas)?;
        }
        pushed?;
        Ok(self.decoder.is_done())
    }

    fn take(&mut self, step: &Delta, deltas: Deltas<'_>) -> Result<(), Failure> {
        if let Delta::Add { text, .. } = step {
            self.said += text.len();
            if self.said > REPLY_BYTES_MAX {
                let message = format!("the reply has more than {REPLY_BYTES_MAX} bytes");
                return Err(final_but_unknown("output_too_large", message));
            }
        }
        self.assembly.take(step)?;
        match step {
            Delta::Open { part, what: Opening::Text } => self.words.push(*part),
            Delta::Add { part, text } if self.words.contains(part) => deltas(text),
            _ => {}
        }
        Ok(())
    }

    /// The reply, once no more bytes come.
    pub(crate) fn finish(self, asked: &str) -> Result<LlmReply, Failure> {
        let Self { family, decoder, mut assembly, .. } = self;
        for step in decoder.finish()? {
            assembly.take(&step)?;
        }
        assembly.finish(family, asked).map(LlmReply::from)
    }
}

/// A reply that came whole, as JSON.
pub(crate) fn whole(family: Family, body: &[u8], asked: &str) -> Result<LlmReply, Failure> {
    read_reply(family, body, asked).map(LlmReply::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    use lantern_net::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use lantern_policy::egress::Reach;
    use lantern_types::Secret;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::Endpoint;
    use crate::failure::presentable;
    use crate::vendor::errors;

    /// Parts of chunks: right, nearly right, and nothing that anybody would send.
    fn part() -> impl Strategy<Value = Value> {
        let text = "[a-z é🐢\u{0}\u{202e}]{0,6}";
        let odd = prop_oneof![
            Just(Value::Null),
            Just(json!([])),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        let call = (proptest::option::of(0_u64..3), "(call_[a-c])?", "(calc)?", "[{}\":1a]{0,6}").prop_map(
            |(index, id, name, arguments)| {
                json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
            },
        );
        let delta = prop_oneof![
            4 => text.prop_map(|text| json!({"content": text})),
            2 => proptest::collection::vec(call, 0..3).prop_map(|calls| json!({"tool_calls": calls})),
            1 => text.prop_map(|text| json!({"refusal": text})),
            1 => (proptest::sample::select(&["content", "tool_calls", "role"][..]), odd.clone())
                .prop_map(|(name, odd)| json!({name: odd})),
        ];
        let finish = proptest::sample::select(
            &["", "", "", "stop", "length", "tool_calls", "error", "content_filter"][..],
        );
        let choice = (0_u64..2, delta, finish).prop_map(
            |(index, delta, finish)| json!({"index": index, "delta": delta, "finish_reason": finish}),
        );
        let usage = (odd.clone(), any::<u64>()).prop_map(
            |(odd, n)| json!({"choices": [], "usage": {"prompt_tokens": n, "completion_tokens": odd}}),
        );
        let error =
            prop_oneof![odd.clone(), odd.clone().prop_map(|odd| json!({"message": odd, "code": "429"}))];
        prop_oneof![
            8 => choice.prop_map(|choice| json!({"model": "m", "choices": [choice]})),
            2 => usage,
            1 => error.prop_map(|error| json!({"error": error})),
            1 => odd,
        ]
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let event = prop_oneof![
            12 => part().prop_map(|part| format!("data: {part}\n\n")),
            1 => Just("data: [DONE]\n\n".to_owned()),
            1 => "(:|data:|id: |event: )?[a-z{\"]{0,5}\r?\n?".prop_map(|line| line),
        ];
        let text = proptest::collection::vec(event, 0..8).prop_map(|events| events.concat().into_bytes());
        (text, any::<proptest::sample::Index>(), proptest::option::weighted(0.2, any::<u8>())).prop_map(
            |(mut bytes, at, spoilt)| {
                if let Some((byte, with)) = (!bytes.is_empty()).then(|| at.index(bytes.len())).zip(spoilt) {
                    bytes[byte] = with;
                }
                bytes
            },
        )
    }

    /// What a stream comes to, and the text that was handed on, when its bytes come in these pieces.
    fn read(pieces: &[&[u8]]) -> (Result<LlmReply, Failure>, String) {
        let (mut reader, mut heard) = (Reader::new(Family::Chat), String::new());
        let mut deltas = |text: &str| heard.push_str(text);
        for piece in pieces {
            match reader.push(piece, &mut deltas) {
                Ok(false) => {}
                Ok(true) => break,
                Err(failure) => return (Err(failure), heard),
            }
        }
        (reader.finish("asked"), heard)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// A reply is whole or a failure, however its bytes were cut on the way.
        #[test]
        fn any_stream_is_a_reply_or_a_failure(bytes in stream(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6)) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            let (whole, heard) = read(&[&bytes]);
            let (cut, _) = read(&pieces);
            prop_assert_eq!(&whole, &cut);
            if let Ok(reply) = whole {
                prop_assert!(reply.content == heard || heard.is_empty(), "{:?} was heard of {:?}", heard, reply.content);
                prop_assert!(reply.tool_calls.iter().all(|call| !call.name.is_empty() && !call.id.is_empty()));
            }
        }

        #[test]
        fn any_body_is_a_reply_or_a_failure(part in part(), at in any::<proptest::sample::Index>(), with in any::<u8>()) {
            let mut bytes = part.to_string().into_bytes();
            drop(whole(Family::Chat, &bytes, "asked"));
            let place = at.index(bytes.len());
            bytes[place] = with;
            drop(whole(Family::Chat, &bytes, "asked"));
        }

        /// A refusal is told in one short line of visible characters, without the key; how long it asks to wait is read or not.
        #[test]
        fn any_refusal_can_be_told(
            status in 300_u16..600,
            part in part(),
            words in "\\PC{0,20}|(sk-secret|[\u{0}-\u{1f}\u{202e}]|[a-z ]){0,60}",
            wrapped in 0_u8..4,
            wait in "[0-9]{0,25}|-1|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|[ -~]{0,12}",
        ) {
            let body = match wrapped {
                0 => words,
                1 => json!({"error": {"message": words, "code": part}}).to_string(),
                2 => json!({"message": words, "type": "t"}).to_string(),
                _ => json!({"error": part}).to_string(),
            };
            let mut headers = HeaderMap::new();
            for name in ["retry-after", "retry-after-ms", "date"] {
                headers.extend(HeaderValue::from_str(&wait).ok().map(|wait| (HeaderName::from_static(name), wait)));
            }
            let failure = errors::refusal(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes());
            let endpoint = Endpoint {
                provider: "lab".to_owned(),
                base_url: String::new(),
                api_key: Some(Secret::new("sk-secret".to_owned())),
                reach: Reach::Public,
            };
            let told = presentable(failure, &endpoint).message;
            prop_assert!(told.chars().count() <= 300 && !told.contains("sk-secret"), "{}", told);
            prop_assert!(!told.chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", told);
        }
    }
}
