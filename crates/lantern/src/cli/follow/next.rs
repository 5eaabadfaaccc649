//! What to do about a run that failed, as one line. Pure: knows the codes that runs fail with, and no server.

use serde_json::Value;

use crate::cli::follow::summary::Status;
use crate::cli::format::{line, text};

/// The next step after a run that failed; nothing for one that did not.
pub(crate) fn next(run: &Value) -> Option<String> {
    if Status::read(text(run, "status")) != Status::Failed {
        return None;
    }
    let error = run.get("error").filter(|error| error.is_object())?;
    let code = line(text(error, "code"));
    let help = help(&code).map(|help| format!("; {help}"));
    let help = help.unwrap_or_else(|| match code.as_str() {
        "" => String::new(),
        code => format!(", and docs/errors/{code}.md"),
    });
    Some(format!("see what it did with `lantern logs {}`{help}", line(text(run, "id"))))
}

/// What helps against the failures that most people meet.
fn help(code: &str) -> Option<&'static str> {
    Some(match code {
        "run_budget_exceeded" => {
            "raise --max-cost-usd or maxCostUsd of the agent, lower its maxTokens, or choose a cheaper model"
        }
        "max_turns" => "raise maxTurns of the agent, or ask for less in one run",
        "loop_detected" => "it repeated itself: say in the instructions when it is done",
        "prompt_too_large" => "give it less input, or choose a model that takes more",
        "output_schema_violated" => "make outputSchema simpler, or choose a model that keeps to it",
        "content_filtered" => "the provider withheld the reply: word the input differently",
        "model_not_configured" | "no_llm" | "provider_not_found" => {
            "see which providers there are with `lantern providers list`"
        }
        "model_not_found" => "name a model that a provider has: `lantern providers test NAME`",
        "price_unknown" => "name a model whose price is known, or one on a server of your own",
        "secret_not_found" => "see which secrets there are with `lantern secrets list`",
        "provider_auth" => "give the provider a key that it accepts: `lantern providers set NAME`",
        "provider_unreachable" | "provider_timeout" | "provider_interrupted" | "provider_unavailable" => {
            "see whether the provider answers: `lantern providers test NAME`"
        }
        "provider_rate_limited" => "the provider wants fewer calls: start it again later",
        "approval_denied" => "somebody decided against it; the log says who",
        "approval_expired" | "signal_timeout" => "nobody answered in time: start it again, or give it longer",
        "egress_denied" => "use a public address, or let the operator open the network",
        "tool_not_allowed" | "tool_unknown" => "name the tool under tools of the agent",
        "child_failed" => "the log names the run that failed below it",
        "attempts_exhausted" => "what went wrong each time is in the log",
        "run_unreadable" => "the server's log says why its journal cannot be read",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_code_with_help_has_a_page_as_well() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let mut helped = 0;
        for page in std::fs::read_dir(pages).unwrap() {
            let name = page.unwrap().file_name().into_string().unwrap();
            helped += usize::from(help(name.trim_end_matches(".md")).is_some());
        }
        let arms =
            include_str!("next.rs").split("fn help").nth(1).unwrap().split("_ => return").next().unwrap();
        let quoted = arms.split('"').skip(1).step_by(2).filter(|text| !text.contains(' '));
        assert_eq!(helped, quoted.count(), "a code is misspelt, or its page is gone");
    }

    #[test]
    fn what_failed_has_a_next_step() {
        let run = |status: &str, error: Value| json!({ "id": "r", "status": status, "error": error });
        for (run, want) in [
            (run("succeeded", Value::Null), None),
            (run("cancelled", json!({ "code": "x" })), None),
            (run("failed", Value::Null), None),
            (run("failed", json!({ "code": "" })), Some("see what it did with `lantern logs r`")),
            (
                run("failed", json!({ "code": "of_tomorrow" })),
                Some("see what it did with `lantern logs r`, and docs/errors/of_tomorrow.md"),
            ),
            (
                run("failed", json!({ "code": "approval_denied" })),
                Some("see what it did with `lantern logs r`; somebody decided against it; the log says who"),
            ),
        ] {
            assert_eq!(next(&run).as_deref(), want, "{run}");
        }
    }
}
