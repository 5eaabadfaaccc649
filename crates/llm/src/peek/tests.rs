//! Reading along: what is seen does not depend on the cuts, and what passes is what came.

use proptest::prelude::*;

use super::*;

/// Everything that passes, and what was seen, when the bytes come in these pieces.
fn pass(door: Door, pieces: &[&[u8]]) -> (Vec<u8>, Seen, bool) {
    let mut peek = Peek::new(door, false);
    let mut passed = Vec::new();
    for piece in pieces {
        for piece in peek.push(piece) {
            passed.extend_from_slice(&piece.raw);
        }
    }
    passed.extend_from_slice(&peek.rest());
    (passed, peek.seen(), peek.is_over())
}

const CHAT: &str = "data: {\"id\":\"c\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
    data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"żółw\"}}],\"usage\":null}\n\n\
    : keep-alive\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"calc\",\"arguments\":\"{}\"}}]}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16}}\n\ndata: [DONE]\n\n";

const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":9,\"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":30,\"cache_creation\":{\"ephemeral_5m_input_tokens\":20,\"ephemeral_1h_input_tokens\":10},\"output_tokens\":1}}}\n\n\
    event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
    event: ping\ndata: {\"type\":\"ping\"}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n\
    event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"model\":\"m\",\"created_at\":7,\"usage\":null}}\n\n\
    event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hello\"}\n\n\
    event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"r\",\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}}\n\n";

fn used(input: u64, output: u64) -> Used {
    Used { input, output, ..Used::default() }
}

#[test]
fn every_family_is_read_and_passes_untouched_wherever_it_is_cut() {
    let cached = Used { input: 9, cache_read: 100, cache_write: 20, cache_write_long: 10, output: 4 };
    for (door, stream, want, bytes) in [
        (Door::Chat, CHAT, used(11, 5), "żółwcalc{}".len()),
        (Door::Messages, MESSAGES, cached, 5),
        (Door::Responses, RESPONSES, used(3, 2), 5),
    ] {
        let stream = stream.as_bytes();
        let whole = pass(door, &[stream]);
        assert_eq!(whole.0, stream);
        let seen = Seen { reported: Some(want), last_word: true, bytes: bytes as u64, ..whole.1 };
        assert_eq!((whole.1, whole.2), (seen, true), "{door:?}");
        for at in 0..=stream.len() {
            let (left, right) = stream.split_at(at);
            assert_eq!(pass(door, &[left, right]), whole, "{door:?} cut at {at}");
        }
        assert_eq!(pass(door, &stream.chunks(1).collect::<Vec<_>>()), whole, "{door:?}");
    }
}

#[test]
fn only_what_says_nothing_but_usage_can_be_left_out() {
    let mut peek = Peek::new(Door::Chat, false);
    let pieces = peek.push(CHAT.as_bytes());
    let left_out: Vec<_> = pieces.iter().filter(|piece| piece.only_usage).collect();
    assert_eq!(left_out.len(), 1);
    assert!(left_out[0].raw.starts_with(b"data: {\"choices\":[],\"usage\":"));
}

#[test]
fn whole_answers_are_read_and_others_count_as_text() {
    let chat = r#"{"choices":[{"message":{"content":"Hello","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}],
        "usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let messages = r#"{"content":[{"type":"text","text":"Hello"},{"type":"tool_use","input":{"a":1}}],"usage":{"input_tokens":3,"output_tokens":2}}"#;
    let responses = r#"{"output":[{"content":[{"text":"Hello"}]},{"arguments":"{}"}],"usage":{"input_tokens":3,"output_tokens":2}}"#;
    for (door, body, want, bytes) in [
        (Door::Chat, chat, Some(used(3, 2)), 8),
        (Door::Messages, messages, Some(used(3, 2)), 12),
        (Door::Responses, responses, Some(used(3, 2)), 7),
        (Door::Embeddings, r#"{"usage":{"prompt_tokens":3,"total_tokens":3}}"#, Some(used(3, 0)), 0),
        (Door::Chat, "<html>", None, 6),
        (Door::Chat, r#"{"choices":7,"usage":"lots"}"#, None, 0),
    ] {
        let seen = whole(door, body.as_bytes(), false);
        assert_eq!((seen.reported, seen.last_word, seen.bytes), (want, want.is_some(), bytes), "{body}");
    }
}

#[test]
fn a_stream_that_is_stopped_anywhere_ends_as_its_family_ends() {
    for (door, stream, last) in [
        (Door::Chat, CHAT, "data: [DONE]\n\n"),
        (Door::Messages, MESSAGES, "data: {\"type\":\"message_stop\"}\n\n"),
        (Door::Responses, RESPONSES, "\n\n"),
    ] {
        let events = Peek::new(door, false).push(stream.as_bytes());
        for n in 0..events.len() {
            let mut peek = Peek::new(door, false);
            let before: Vec<u8> = events.iter().take(n).flat_map(|piece| piece.raw.to_vec()).collect();
            peek.push(&before);
            let ending = peek.ending(true);
            assert!(ending.ends_with(last.as_bytes()), "{ending:?}");
            let mut whole = Peek::new(door, false);
            whole.push(&before);
            whole.push(&ending);
            assert!(
                whole.is_over() && whole.rest().is_empty() && whole.so_far.open.is_empty(),
                "{door:?} after {n}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a provider sends, cut anywhere, passes untouched; and what was seen of it does not depend on the cuts.
    #[test]
    fn any_bytes_pass_untouched(
        lines in proptest::collection::vec("(data: |data:|: |event: |)(\\{\"type\":\"message_delta\",\"usage\":\\{\"output_tokens\":[0-9]{1,3}\\}\\}|\\{\"choices\":\\[\\],\"usage\":\\{\\}\\}|[a-zé\\{\"]{0,6})(\r\n|\n|\n\n|\r\r|\r)", 0..12),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        door in proptest::sample::select(&[Door::Chat, Door::Messages, Door::Responses, Door::Embeddings][..]),
    ) {
        let bytes = lines.concat().into_bytes();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let whole = pass(door, &[&bytes]);
        prop_assert_eq!(&whole.0, &bytes);
        prop_assert_eq!(pass(door, &pieces), whole);
    }
}
