//! `lantern vm exec`: another program in the box of a workload.

use serde_json::{Value, json};

use super::{line, path, text};
use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};

/// Runs a program, says what it wrote, and answers with its exit code.
pub(super) async fn exec(
    console: &Console,
    api: &Api,
    (id, command): (&str, &[String]),
    seconds: u32,
) -> Result<Exit, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::usage("no program: name one after --, as in `lantern vm exec ID -- /bin/ls`"));
    };
    let body = json!({ "command": program, "argv": arguments, "timeoutSeconds": seconds });
    let ran = api.fetch(Call::post(format!("{}/exec", path(id)), body)).await.map_err(advised)?;
    if console.json() {
        console.value(&ran)?;
    } else {
        for words in text(&ran, "stdout").lines() {
            console.say(&if console.terminal { line(words) } else { words.to_owned() })?;
        }
        for words in text(&ran, "stderr").lines() {
            console.aside(&line(words));
        }
        if ran.get("truncated") == Some(&Value::Bool(true)) {
            console.warn("it wrote more than a MiB, of which this is the beginning");
        }
    }
    ended(&ran)
}

fn advised(failure: Failure) -> Failure {
    match failure.code.as_deref() {
        Some("workload_not_running") => failure.hint("see where it stands: `lantern vm list`"),
        _ => failure,
    }
}

fn ended(ran: &Value) -> Result<Exit, Failure> {
    let code = ran.get("exitCode").and_then(Value::as_i64).unwrap_or(-1);
    if ran.get("timedOut") == Some(&Value::Bool(true)) {
        return Err(Failure::new(Exit::Failed, "the program took longer than --timeout, and was ended"));
    }
    if code == 0 {
        return Ok(Exit::Ok);
    }
    let status = u8::try_from(code).ok();
    let failure = Failure::new(Exit::Failed, format!("the program ended with exit code {code}"));
    Err(Failure { status, ..failure.code("workload_failed") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_exit_code_is_the_commands() {
        for (ran, status) in [
            (json!({"exitCode": 3}), Some(3)),
            (json!({"exitCode": 137}), Some(137)),
            (json!({"exitCode": -1, "timedOut": true}), None),
            (json!({"exitCode": 300}), None),
            (json!({}), None),
        ] {
            let failure = ended(&ran).unwrap_err();
            assert_eq!((failure.status, failure.exit), (status, Exit::Failed), "{ran}");
        }
        assert_eq!(ended(&json!({"exitCode": 0})), Ok(Exit::Ok));
    }
}
