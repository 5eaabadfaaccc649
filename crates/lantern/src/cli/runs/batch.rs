//! `lantern runs create --batch`: several runs from a file with one JSON object a line, all of them or none.
//!
//! Invariant: what the lines say is sent as it is, and the server decides; a line that is no object is refused here, by its
//! number.

use lantern_edge::json;
use lantern_net::http::{HeaderName, HeaderValue};
use lantern_types::Priority;
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::input;

/// What holds for the runs that do not say it themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unsaid<'a> {
    pub(super) agent: Option<&'a str>,
    pub(super) priority: Option<Priority>,
}

/// Starts the runs of a file.
pub(super) async fn create(
    console: &Console,
    api: &Api,
    (file, unsaid): (&str, Unsaid<'_>),
    key: (HeaderName, HeaderValue),
) -> Result<Exit, Failure> {
    // Runs stand in a file: there is nothing else that the name could be.
    let named = if file.starts_with('@') { file.to_owned() } else { format!("@{file}") };
    let read = input::read(&named, std::io::stdin())?;
    read.note.iter().for_each(|note| console.warn(note));
    let runs = lines(&read.text, unsaid)?;
    let reply = api.send(Call::post("/v1/runs/batch", json!({ "runs": runs })).header(key)).await?;
    if !reply.ignored.is_empty() {
        console.warn(&format!("the server does not know {}", reply.ignored.join(", ")));
    }
    let Value::Array(made) = &reply.body else { return Err(api.stranger()) };
    if console.json() {
        console.value(&reply.body)?;
    } else {
        console.table(super::list::COLUMNS, &made.iter().map(super::list::row).collect::<Vec<_>>())?;
        console.note(&format!("started {} runs", made.len()));
    }
    Ok(Exit::Ok)
}

/// The objects of a text with one a line; empty lines are none.
fn lines(text: &str, unsaid: Unsaid<'_>) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut runs = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| {
            Failure::usage(format!("line {}: {what}", n + 1))
                .hint("write one object a line: {\"agentName\": \"...\", \"input\": {...}}")
        };
        let mut run = match json::read(line) {
            Ok(Value::Object(run)) => run,
            Ok(_) => return Err(wrong("not a JSON object".to_owned())),
            Err(fault) if fault.place().is_some() => return Err(wrong(format!("would be altered: {fault}"))),
            Err(fault) => return Err(wrong(format!("not a JSON object: {fault}"))),
        };
        let named = ["agentName", "agent_name"].iter().any(|name| run.contains_key(*name));
        match unsaid.agent {
            _ if named => {}
            Some(agent) => {
                run.insert("agentName".to_owned(), agent.into());
            }
            None => return Err(wrong("names no agent".to_owned())),
        }
        if let Some(priority) = unsaid.priority {
            run.entry("priority").or_insert_with(|| priority.get().into());
        }
        runs.push(run);
    }
    if runs.is_empty() {
        return Err(Failure::usage("there is no run in it")
            .hint("write one object a line: {\"agentName\": \"...\", \"input\": {...}}"));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_run() {
        let of = |agent| Unsaid { agent, priority: None };
        let text = "{\"input\": 1}\n\n  {\"agentName\": \"b\", \"labels\": {\"k\": \"v\"}}\r\n";
        let want = json!([{"agentName": "a", "input": 1}, {"agentName": "b", "labels": {"k": "v"}}]);
        assert_eq!(json!(lines(text, of(Some("a"))).unwrap()), want);
        let text = "{}\n{\"priority\": 0}";
        let unsaid = Unsaid { agent: Some("a"), priority: Priority::of(-1) };
        let want = json!([{"agentName": "a", "priority": -1}, {"agentName": "a", "priority": 0}]);
        assert_eq!(json!(lines(text, unsaid).unwrap()), want, "what a line says stands");
        for (text, agent, said) in [
            ("{}\n\nno", Some("a"), "line 3: not a JSON object"),
            ("[1]", Some("a"), "line 1: not a JSON object"),
            ("{}\n{\"input\": [1, 1e999]}", Some("a"), "line 2: would be altered: input[1]: "),
            ("{\"input\": 1, \"input\": 1}", Some("a"), "line 1: would be altered: input: "),
            ("{\"input\": 1}", None, "line 1: names no agent"),
            (" \n", Some("a"), "no run"),
        ] {
            let message = lines(text, of(agent)).unwrap_err().message;
            assert!(message.contains(said), "{text}: {message}");
        }
    }
}
