//! Spans of recorded journals: those that the engine's own tests keep, and a few of what they do not have.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lantern_engine::{Event, event};
use lantern_trace::{About, Attribute, Span, Spans};
use lantern_types::{At, DEV_TENANT, RunId, SpanId, TraceId};
use serde_json::Value;

const RUN: &str = "00000000-0000-0000-0000-000000000009";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run() -> RunId {
    RUN.parse().unwrap()
}

pub(crate) fn about() -> About {
    About { tenant: DEV_TENANT, run: run(), agent: "ada".to_owned(), session: None }
}

fn spans(events: &[Event]) -> Vec<Span> {
    let mut fold = Spans::of(about());
    events.iter().flat_map(|event| fold.event(event)).collect()
}

pub(crate) fn read(lines: &str) -> Vec<Event> {
    event::decode(lines.as_bytes(), None).unwrap()
}

/// The engine's recorded journals by name, without anything that was said in them.
fn recorded() -> Vec<(String, Vec<Event>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder("../engine/tests/golden")).unwrap() {
        let path = entry.unwrap().path();
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let Some(lines) = record["envelopes"].as_array() else { continue };
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str().unwrap()).collect();
        all.push((path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&lines.join("\n"))));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// One span a paragraph, times as microseconds since the run began.
fn told(spans: &[Span], from: At) -> String {
    let mut text = String::new();
    for span in spans {
        let (start, end) = (span.start.micros() - from.micros(), span.end.micros() - from.micros());
        let parent = span.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
        let error = span.error.as_deref().map(|code| format!(" ERROR {code}")).unwrap_or_default();
        writeln!(text, "{} {:?} {start}..{end}{error}", span.name, span.kind).unwrap();
        writeln!(text, "  {} {} under {parent}", span.trace, span.id).unwrap();
        if let Some((trace, id)) = span.link {
            writeln!(text, "  after {trace} {id}").unwrap();
        }
        for (key, value) in &span.attributes {
            let value = match value {
                Attribute::Text(text) => text.clone(),
                Attribute::Int(number) => number.to_string(),
                Attribute::Bool(yes) => yes.to_string(),
            };
            writeln!(text, "    {key} = {value}").unwrap();
        }
    }
    text
}

#[test]
fn the_spans_of_recorded_journals_are_those_that_are_kept() {
    let update = std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1");
    for (name, events) in recorded() {
        let golden = folder("tests/golden").join(format!("{name}.txt"));
        let made = told(&spans(&events), events[0].at);
        if update {
            std::fs::write(&golden, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(made, kept, "{name}: UPDATE=1 writes it anew");
    }
}

#[test]
fn every_journal_is_one_trace_whose_spans_have_their_places() {
    let all = recorded();
    assert!(all.len() > 5, "{}", all.len());
    for (name, events) in all {
        let made = spans(&events);
        let ids: BTreeSet<SpanId> = made.iter().map(|span| span.id).collect();
        assert_eq!(ids.len(), made.len(), "{name}: an id for each");
        assert_eq!(made.iter().map(|span| span.trace).collect::<BTreeSet<_>>().len(), 1, "{name}");
        let ended = made.iter().any(|span| span.id == SpanId::of_run(run()));
        for span in &made {
            assert!(span.start <= span.end, "{name}: {span:?}");
            let above =
                span.parent.is_none_or(|parent| ids.contains(&parent) || parent == SpanId::of_run(run()));
            assert!(above || span.id == SpanId::of_run(run()), "{name}: {span:?}");
        }
        let roots = made.iter().filter(|span| span.name.starts_with("invoke_agent")).count();
        assert_eq!(roots, usize::from(ended), "{name}: the run itself is one span, the last");
        // Whoever makes them again makes the same.
        assert_eq!(spans(&events), made, "{name}");
    }
}

const BEGUN: &str = concat!(
    r#"{"seq":1,"at":10,"type":"RunStarted","agent":"00000000-0000-0000-0000-00000000000a","#,
    r#""version":"00000000-0000-0000-0000-00000000000b","manifest":"DIGEST","program":"agent","cap":5,"#,
    r#""policy":"DIGEST","catalogue":"DIGEST","limits":"DIGEST"}"#
);
const ASKED: &str = concat!(
    r#"{"seq":2,"at":20,"type":"StepRequested","step":"llm-1","kind":"llm","effect":"keyed","request":"DIGEST"}"#,
    "\n",
    r#"{"seq":3,"at":30,"type":"StepAdmitted","step":"llm-1","generation":1,"attempt":1,"grant":{"hold":9,"#,
    r#""route":{"provider":"openai","model":"gpt-4o","price":{"input":1,"output":1},"priceSource":"catalogue"},"#,
    r#""facts":{"cap":5,"spent":0,"held":0,"maxTokens":64},"policy":"DIGEST","catalogue":"DIGEST","limits":"DIGEST"}}"#
);

fn events(lines: &[&str]) -> Vec<Event> {
    read(&lines.join("\n").replace("DIGEST", &"0".repeat(64)))
}

#[test]
fn an_attempt_that_died_with_its_process_is_a_span_of_its_own() {
    let made = spans(&events(&[
        BEGUN,
        ASKED,
        r#"{"seq":4,"at":40,"type":"StepReissued","step":"llm-1","generation":1,"attempt":2}"#,
        r#"{"seq":5,"at":55,"type":"StepSettled","step":"llm-1","kind":"llm","generation":1,"attempt":2,"cost":7,"tokensIn":3,"tokensOut":4,"output":"DIGEST","provider":"openai","model":"gpt-4o-2024"}"#,
        r#"{"seq":6,"at":60,"type":"Finished","outcome":"succeeded"}"#,
    ]));
    let shape: Vec<_> = made
        .iter()
        .map(|span| (span.name.as_str(), span.start.micros(), span.end.micros(), span.error.as_deref()))
        .collect();
    assert_eq!(
        shape,
        [
            ("chat gpt-4o", 30, 40, Some("crashed")),
            ("chat gpt-4o", 40, 55, None),
            ("invoke_agent ada", 10, 60, None),
        ]
    );
    assert_eq!(made[0].id, SpanId::of_attempt(run(), "llm-1", 1));
    assert_eq!(made[1].id, SpanId::of_attempt(run(), "llm-1", 2));
    let said = |span: &Span, key: &str| {
        span.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
    };
    assert_eq!(said(&made[1], "gen_ai.response.model"), Some("gpt-4o-2024".into()));
    assert_eq!(said(&made[1], "lantern.cost_micro_usd"), Some(7_i64.into()));
    assert_eq!(said(&made[2], "gen_ai.usage.output_tokens"), Some(4_i64.into()));
    assert_eq!((made[2].trace, made[2].parent), (TraceId::of_run(run()), None));
}

#[test]
fn a_run_is_in_the_trace_that_its_start_names_and_sampled_as_it_says() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for (flags, sampled) in [("01", true), ("00", false)] {
        let under = format!(r#","trace":"00-{trace}-b7ad6b7169203331-{flags}"}}"#);
        let begun = BEGUN.strip_suffix('}').unwrap().to_owned() + &under;
        let journal = events(&[&begun, ASKED]);
        let mut fold = Spans::of(about());
        let none: Vec<Span> = journal.iter().flat_map(|event| fold.event(event)).collect();
        assert!(none.is_empty() && fold.sampled() == sampled, "{none:?}");
        // Ended in its row, because nobody could read it.
        let made = fold.given_up(At::from_micros(90), Some("run_unreadable"));
        assert_eq!(made.len(), 2, "the attempt that was under way, and the run");
        assert!(made.iter().all(|span| span.trace.to_string() == trace));
        assert_eq!(made[1].parent.map(|parent| parent.to_string()).as_deref(), Some("b7ad6b7169203331"));
        assert_eq!(made[1].error.as_deref(), Some("run_unreadable"));
        assert!(fold.given_up(At::from_micros(91), None).is_empty(), "a run ends once");
    }
}

#[test]
fn what_a_program_in_a_box_calls_is_below_its_step() {
    let made = spans(&events(&[
        BEGUN,
        r#"{"seq":2,"at":20,"type":"StepRequested","step":"box","kind":"tool","name":"workload.run","effect":"keyed","request":"DIGEST"}"#,
        &ASKED.lines().nth(1).unwrap().replace("llm-1", "box"),
        r#"{"seq":4,"at":40,"type":"CallMetered","call":"DIGEST","provider":"openai","model":"gpt-4o","hold":9,"cost":2,"tokensIn":1}"#,
    ]));
    assert_eq!((made.len(), made[0].name.as_str()), (1, "chat gpt-4o"));
    assert_eq!(made[0].parent, Some(SpanId::of_attempt(run(), "box", 1)));
}
