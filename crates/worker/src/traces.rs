//! Export of traces: spans of runs are made of their journals and sent to a collector, a group of runs at a time.
//!
//! Invariant: nothing waits for it. What is to be sent lies in the database as runs and how far they were exported, so the
//! queue here is one group; a collector that is away is asked again, later and later, and what it refuses for good is counted and
//! logged. A group that was sent and not noted is sent again, as the same spans.

mod collector;
mod group;

use std::sync::Arc;

use lantern_net::Shutdown;
use lantern_store::Result;
use lantern_store::traces::{self, Done, Due};
use lantern_types::Dur;

use crate::Deps;

pub use collector::Collector;
use collector::Unsent;
use group::{Group, Known};

/// How often to look for news.
const EVERY: Dur = Dur::from_secs(1);
/// Runs of one group.
const RUNS: u32 = 64;
/// How long a process may have runs in hand: longer than a group takes to be sent or refused.
const IN_HAND: Dur = Dur::from_secs(120);
/// How long to wait after the first failure; each one after it doubles the wait.
const AGAIN: Dur = Dur::from_secs(1);
const AGAIN_MAX: Dur = Dur::from_secs(60);
/// However long a collector asks to be left alone.
const ASKED_MAX: Dur = Dur::from_secs(10 * 60);

const EXPORTED: &str = "trace_spans_exported_total";
const DROPPED: &str = "trace_spans_dropped_total";
const FAILED: &str = "trace_exports_failed_total";

/// Exports until the process stops. What is left then, whoever comes next exports.
pub(crate) async fn export(deps: Arc<Deps>, stopping: Shutdown) {
    let Some(collector) = deps.traces.clone() else { return };
    describe();
    let (mut known, mut failures, mut wait) = (Known::default(), 0_u32, EVERY);
    loop {
        let round = async {
            deps.clock.sleep(wait).await;
            round(&deps, &collector, &mut known).await
        };
        let done = tokio::select! {
            biased;
            () = stopping.requested() => return,
            done = round => done,
        };
        wait = match done {
            Ok(Round::Sent { more }) => {
                failures = 0;
                if more { Dur::ZERO } else { EVERY }
            }
            Ok(Round::Away { after, why }) => {
                metrics::counter!(FAILED).increment(1);
                failures += 1;
                let wait = after.map_or_else(|| backoff(failures), |asked| asked.min(ASKED_MAX).max(AGAIN));
                let to = collector.shown();
                tracing::warn!(
                    collector = to,
                    why,
                    again_in_ms = wait.millis(),
                    "traces could not be exported"
                );
                wait
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "traces could not be read; trying again");
                failures += 1;
                backoff(failures)
            }
        };
    }
}

fn describe() {
    metrics::describe_counter!(EXPORTED, "Spans of runs that the collector took.");
    metrics::describe_counter!(DROPPED, "Spans of runs that the collector refused for good.");
    metrics::describe_counter!(FAILED, "Exports of spans that failed and are made again.");
    for name in [EXPORTED, DROPPED, FAILED] {
        metrics::counter!(name).increment(0);
    }
}

fn backoff(failures: u32) -> Dur {
    let doubled = 2_i64.saturating_pow(failures.saturating_sub(1));
    Dur::from_micros(AGAIN.micros().saturating_mul(doubled)).min(AGAIN_MAX)
}

/// What a round came to.
enum Round {
    Sent {
        /// Whether there may be more.
        more: bool,
    },
    /// The collector takes nothing now.
    Away { after: Option<Dur>, why: String },
}

async fn round(deps: &Deps, collector: &Collector, known: &mut Known) -> Result<Round> {
    let now = deps.clock.now();
    let taken = traces::take(&deps.db, now, now + IN_HAND, RUNS).await?;
    if taken.is_empty() {
        return Ok(Round::Sent { more: false });
    }
    let made = group::read(deps, known, &taken).await;
    let group = match made {
        Ok(group) => group,
        Err(error) => {
            give_back(deps, known, &taken).await?;
            return Err(error);
        }
    };
    let more = group.more || taken.len() >= RUNS as usize;
    match send(collector, &group).await {
        Ok(()) => {
            note(deps, &group).await?;
            known.keep(group);
            Ok(Round::Sent { more })
        }
        Err((after, why)) => {
            give_back(deps, known, &taken).await?;
            Ok(Round::Away { after, why })
        }
    }
}

/// Sends a group. Where the collector does not take it as it is, each run is sent by itself, so that one of them holds up no other.
async fn send(collector: &Collector, group: &Group) -> std::result::Result<(), (Option<Dur>, String)> {
    let all: Vec<_> = group.runs.iter().flat_map(|run| run.spans.iter().cloned()).collect();
    if all.is_empty() {
        return Ok(());
    }
    match sent(collector, &all).await {
        Ok(()) => return Ok(()),
        Err(Unsent::Away { after, why }) => return Err((after, why)),
        Err(Unsent::Refused { .. }) => {}
    }
    for run in group.runs.iter().filter(|run| !run.spans.is_empty()) {
        match sent(collector, &run.spans).await {
            Ok(()) => {}
            Err(Unsent::Away { after, why }) => return Err((after, why)),
            Err(Unsent::Refused { why }) => {
                let spans = run.spans.len();
                metrics::counter!(DROPPED).increment(spans as u64);
                tracing::warn!(run = %run.due.run, spans, why, "the collector refuses spans of this run: they are dropped");
            }
        }
    }
    Ok(())
}

async fn sent(collector: &Collector, spans: &[lantern_trace::Span]) -> std::result::Result<(), Unsent> {
    let rejected = collector.send(spans).await?;
    if let Some((count, why)) = &rejected {
        metrics::counter!(DROPPED).increment(*count);
        tracing::warn!(spans = count, why, "the collector rejected spans: they are dropped");
    }
    let taken = (spans.len() as u64).saturating_sub(rejected.map_or(0, |(count, _)| count));
    metrics::counter!(EXPORTED).increment(taken);
    Ok(())
}

/// Notes how far the runs of a group are exported, tenant by tenant.
async fn note(deps: &Deps, group: &Group) -> Result<()> {
    let mut done: Vec<Done> =
        group.runs.iter().map(|run| Done { due: run.due, seq: run.left_at() }).collect();
    done.sort_by_key(|done| done.due.scope.tenant());
    for of_tenant in done.chunk_by(|a, b| a.due.scope == b.due.scope) {
        let Some(first) = of_tenant.first() else { continue };
        traces::done(&deps.db, first.due.scope, of_tenant, deps.clock.now()).await?;
    }
    Ok(())
}

/// Leaves runs as they were taken, for whoever is first to take them again.
async fn give_back(deps: &Deps, known: &mut Known, taken: &[Due]) -> Result<()> {
    known.forget();
    let mut back: Vec<Done> = taken.iter().map(|due| Done { due: *due, seq: Some(due.seq) }).collect();
    back.sort_by_key(|done| done.due.scope.tenant());
    for of_tenant in back.chunk_by(|a, b| a.due.scope == b.due.scope) {
        let Some(first) = of_tenant.first() else { continue };
        traces::done(&deps.db, first.due.scope, of_tenant, deps.clock.now()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end_somewhere() {
        let waits = [1, 2, 3, 6, 7, 40, u32::MAX].map(|n| backoff(n).millis() / 1_000);
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
    }
}
