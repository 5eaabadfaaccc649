//! Policies: how long 100 of them take to be asked about one model call.

use anyhow::{Result, ensure};
use lantern_bench::{Amount, Bar, Line, percentile};
use lantern_cedar::{Asked, Effect, Otherwise, Policies, Who};
use lantern_types::At;

use crate::Bench;

const POLICIES: usize = 100;
/// Calls that are asked about at once: the clock counts microseconds.
const AT_ONCE: u32 = 100;
const ROUNDS: usize = 1_000;

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let read = Policies::read(&text(), Otherwise::Allow);
    let policies = read.map_err(|faults| anyhow::anyhow!("the policies make no sense: {faults:?}"))?;
    let effect =
        Effect::CallModel { name: "lab/llama-3", hold: 1_000, request_bytes: 4_000, max_tokens: 500 };
    let at = At::from_micros(1_790_000_000_000_000);
    let asked = Asked { who: Who::Agent("scout"), effect, spent: 10, at };
    let mut micros = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let work = async {
            for _ in 0..AT_ONCE {
                ensure!(!policies.answer(&asked).forbidden, "none of them applies");
            }
            Ok(())
        };
        let (millis, ()) = bench.millis(work).await?;
        micros.push(millis * 1_000.0 / f64::from(AT_ONCE));
    }
    let line =
        Line::figure("asking 100 policies about a call (p50)", Amount::new(percentile(&micros, 0.5), "µs"));
    let slowest = percentile(&micros, 0.99);
    Ok(vec![
        line.against("allowed", Amount::new(200.0, "µs"), Some(Bar::AtMost(1.0))).note(format!(
            "a third of them look at everything; p99 of {AT_ONCE} at once {slowest:.1} µs each"
        )),
    ])
}

/// None of them applies, and a third cannot be passed over by its head alone.
fn text() -> String {
    let policy = |n: usize| {
        match n % 3 {
        0 => format!(
            "forbid(principal, action == Action::\"call_model\", resource)
             when {{ context.model like \"*-{n}-*\" || context.hold + context.spent > {n}000000000 }}
             unless {{ resource in [Provider::\"a{n}\", Provider::\"b{n}\", Provider::\"lab\"] && context.hour < 25 }};"
        ),
        1 => format!("forbid(principal == Agent::\"agent-{n}\", action, resource in Provider::\"lab\");"),
        _ => format!(
            "forbid(principal is Agent, action in [Action::\"call_model\", Action::\"spend\"], resource)
             when {{ [\"x{n}\", \"y{n}\"].contains(context.agent) && context.weekday == 8 }};"
        ),
    }
    };
    (0..POLICIES).map(policy).collect()
}
