//! `lantern runs create --wait`: starts a run and shows it when it is over.
//!
//! Invariant: the server waits, and is asked again for as long as there is time; one that does not wait is asked once a second.

use lantern_net::RealClock;
use lantern_net::http::{HeaderName, HeaderValue};
use lantern_types::edge::Clock;
use lantern_types::{Dur, RunId};
use serde_json::Value;

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::waits::Waits;
use crate::cli::format::text;

/// What one request asks the server to wait, in seconds: less than the answer may take.
const ASKED_MAX: i64 = 50;
/// How long an answer takes at least that was waited for.
const QUICK: Dur = Dur::from_secs(1);

/// Makes the call that starts a run, and waits for at most so many seconds.
pub(super) async fn wait(console: &Console, api: &Api, call: Call, seconds: u32) -> Result<Exit, Failure> {
    let clock = RealClock::new();
    let end = clock.now() + Dur::from_secs(u64::from(seconds));
    let mut call = call;
    loop {
        let asked = clock.now();
        let run = api.fetch(call.header(prefer(end.since(asked)))).await?;
        let id: RunId = text(&run, "id").parse().map_err(|_| api.stranger())?;
        if let Some(exit) = exit(&run) {
            console.answer(&run, || {
                super::describe(&run, (id, &Waits::default()), console.paint, console.terminal)
            })?;
            return Ok(exit);
        }
        if clock.now() >= end {
            // What it waits for, which may be a person.
            let open = super::open(console, api, id).await.unwrap_or_default();
            console.answer(&run, || super::describe(&run, (id, &open), console.paint, console.terminal))?;
            if !console.json() {
                console.note(&format!("it is not over after {seconds} s; follow it: lantern logs {id} -f"));
            }
            return Ok(Exit::Ok);
        }
        let rest = QUICK.micros() - clock.now().since(asked).micros();
        if rest > 0 {
            clock.sleep(Dur::from_micros(rest).min(end.since(clock.now()))).await;
        }
        call = Call::get(super::path(id));
    }
}

fn prefer(left: Dur) -> (HeaderName, HeaderValue) {
    // Rounded up: the last part of a second is waited for as well.
    let seconds =
        left.micros().max(0).div_euclid(1_000_000) + i64::from(left.micros().rem_euclid(1_000_000) > 0);
    let value = HeaderValue::from_str(&format!("wait={}", seconds.min(ASKED_MAX)));
    (HeaderName::from_static("prefer"), value.unwrap_or(HeaderValue::from_static("wait=0")))
}

/// The exit code of a run that is over.
fn exit(run: &Value) -> Option<Exit> {
    match text(run, "status") {
        "succeeded" => Some(Exit::Ok),
        "failed" => Some(Exit::Failed),
        "cancelled" => Some(Exit::Cancelled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_is_asked_for_and_no_more_than_an_answer_may_take() {
        for (millis, want) in
            [(0, "wait=0"), (1, "wait=1"), (2_000, "wait=2"), (2_001, "wait=3"), (90_000, "wait=50")]
        {
            assert_eq!(prefer(Dur::from_millis(millis)).1, want, "{millis}");
        }
        assert_eq!(prefer(Dur::from_micros(-5)).1, "wait=0");
    }

    #[test]
    fn a_run_that_is_over_has_an_exit_code() {
        let exit = |status: &str| exit(&json!({ "status": status }));
        assert_eq!(
            ["succeeded", "failed", "cancelled", "paused"].map(exit),
            [Some(Exit::Ok), Some(Exit::Failed), Some(Exit::Cancelled), None]
        );
    }
}
