//! How long 100 policies take to be asked about one effect: `cargo run --release -p lantern-cedar --example latency`.
//!
//! A third of them look at everything that an effect has, so that none is passed over by its head alone.

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lantern_cedar::{Asked, Effect, Otherwise, Policies, Who};
use lantern_types::At;

const POLICIES: usize = 100;
const ROUNDS: usize = 100_000;

fn text() -> String {
    (0..POLICIES).fold(String::new(), |mut text, n| {
        let _ = match n % 3 {
            0 => write!(
                text,
                "forbid(principal, action == Action::\"call_model\", resource)
                 when {{ context.model like \"*-{n}-*\" || context.hold + context.spent > {n}000000000 }}
                 unless {{ resource in [Provider::\"a{n}\", Provider::\"b{n}\", Provider::\"lab\"] && context.hour < 25 }};"
            ),
            1 => write!(text, "forbid(principal == Agent::\"agent-{n}\", action, resource in Provider::\"lab\");"),
            _ => write!(
                text,
                "forbid(principal is Agent, action in [Action::\"call_model\", Action::\"spend\"], resource)
                 when {{ [\"x{n}\", \"y{n}\"].contains(context.agent) && context.weekday == 7 }};"
            ),
        };
        text
    })
}

#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn took(policies: &Policies, asked: &Asked<'_>) -> Duration {
    let start = Instant::now();
    assert!(!policies.answer(asked).forbidden, "none of them applies");
    start.elapsed()
}

fn main() {
    let policies = Policies::read(&text(), Otherwise::Allow).unwrap_or_else(|faults| {
        println!("{faults:?}");
        std::process::abort()
    });
    let effect =
        Effect::CallModel { name: "lab/llama-3", hold: 1_000, request_bytes: 4_000, max_tokens: 500 };
    let asked =
        Asked { who: Who::Agent("scout"), effect, spent: 10, at: At::from_micros(1_790_000_000_000_000) };
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| took(&policies, &asked)).collect();
    times.sort();
    for (name, n) in [("p50", ROUNDS / 2), ("p99", ROUNDS / 100 * 99), ("p99.9", ROUNDS / 1_000 * 999)] {
        println!("{name}: {:?}", times.get(n).copied().unwrap_or_default());
    }
}
