//! `lantern vm audit` and `lantern vm metrics`: what happened to all workloads, and what they come to.

use serde_json::Value;

use super::{happened, text, time};
use crate::cli::api::{Api, Call, encode};
use crate::cli::console::{Console, fields};
use crate::cli::failure::Failure;
use crate::cli::format::{dollars, line, number, usd};
use crate::cli::table::Column;

/// Events that are asked for at once.
const PAGE: u32 = 200;

const EVENTS: &[Column] = &[
    Column::whole("AT"),
    Column::whole("WORKLOAD"),
    Column::whole("WHAT"),
    Column::text("OF WHICH"),
    Column::spare("ID"),
];
const MEASURED: &[Column] = &[
    Column::whole("ID"),
    Column::whole("STATE"),
    Column::whole("SECONDS"),
    Column::whole("COST"),
    Column::whole("CALLS"),
    Column::spare("TOKENS IN"),
    Column::spare("OUT"),
    Column::spare("LINES"),
    Column::text("LAST"),
];

/// Lists events, page by page.
pub(super) async fn audit(
    console: &Console,
    api: &Api,
    mut before: Option<u64>,
    limit: u32,
) -> Result<(), Failure> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(events.len()).unwrap_or(limit)).min(PAGE);
        let from = before.map(|before| format!("&before={before}")).unwrap_or_default();
        let page = api.fetch(Call::get(format!("/v1/runtime/audit?limit={left}{from}"))).await?;
        let found = page.get("events").and_then(Value::as_array).ok_or_else(|| api.stranger())?;
        events.extend(found.iter().cloned());
        let next = page.get("nextBefore").and_then(Value::as_u64);
        // A page that names itself as the next has none.
        before = next.filter(|_| next != before);
        if before.is_none() || events.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            break;
        }
    }
    if console.json() {
        console.value(&Value::Array(events))?;
    } else if events.is_empty() {
        console.note("nothing happened; start a workload with `lantern run FILE`");
    } else {
        console.table(EVENTS, &events.iter().map(event).collect::<Vec<_>>())?;
    }
    if let Some(before) = before {
        console.note(&format!("there is more: --before {before}"));
    }
    Ok(())
}

fn event(event: &Value) -> Vec<String> {
    let action = text(event, "action");
    vec![
        time(text(event, "at")),
        line(text(event, "vmId")),
        line(action),
        happened(action, event.get("attrs").unwrap_or(&Value::Null)),
        number(event, "id").to_string(),
    ]
}

/// Shows the sums, and the newest workloads in numbers.
pub(super) async fn metrics(
    console: &Console,
    api: &Api,
    state: Option<&str>,
    limit: u32,
) -> Result<(), Failure> {
    let state = state.map(|state| format!("&state={}", encode(state))).unwrap_or_default();
    let reply = api.send(Call::get(format!("/v1/runtime/metrics?limit={limit}{state}"))).await?;
    let (shown, more) = (reply.body, reply.cursor.is_some());
    if console.json() {
        return console.value(&shown);
    }
    let totals = shown.get("totals").cloned().unwrap_or_default();
    let hours = totals.get("computeHoursToday").and_then(Value::as_f64).unwrap_or_default();
    let cost = |name: &str| usd(dollars(totals.get(name).unwrap_or(&Value::Null)));
    let count = |name: &str| number(&totals, name).to_string();
    console.say(&fields(&[
        ("workloads", format!("{}, of which {} are not over", count("vms"), count("openVms"))),
        ("boxes today", format!("{hours:.2} hours")),
        ("model calls", count("modelCalls")),
        ("tokens", format!("{} in, {} out", count("tokensIn"), count("tokensOut"))),
        ("cost", format!("{}, and {} held", cost("costUsd"), cost("heldUsd"))),
    ]))?;
    let vms = shown.get("vms").and_then(Value::as_array).cloned().unwrap_or_default();
    if !vms.is_empty() {
        console.table(MEASURED, &vms.iter().map(measured).collect::<Vec<_>>())?;
    }
    console.more(more, limit);
    Ok(())
}

fn measured(vm: &Value) -> Vec<String> {
    let seconds = vm.get("computeSeconds").and_then(Value::as_f64).unwrap_or_default();
    let count = |name: &str| number(vm, name).to_string();
    vec![
        line(text(vm, "vmId")),
        line(text(vm, "state")),
        format!("{seconds:.1}"),
        usd(dollars(vm.get("costUsd").unwrap_or(&Value::Null))),
        count("modelCalls"),
        count("tokensIn"),
        count("tokensOut"),
        count("logLines"),
        line(text(vm, "lastAuditAction")),
    ]
}
