//! What a tenant may run: how many boxes at once, and for how long in a day. A day is one of UTC.
//!
//! Invariant: it is decided in the transaction that makes the workload, after the row was locked. Traffic and money are kept for
//! when boxes have a network: without one they use neither.

use lantern_edge::{Code, Error, Fields, Model, Result};
use lantern_policy::Scope;
use lantern_store::workloads::{self, Used};
use lantern_types::{At, Dur, MicroUsd};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// The contract's defaults.
const CONCURRENT: i64 = 20;
const COMPUTE: Dur = Dur::from_secs(10 * 3_600);
const EGRESS_GB: i64 = 5;
const COST: MicroUsd = MicroUsd::from_micros(5_000_000);
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// The most that any of them may be.
const MOST: u64 = 1_000_000;

/// What was set by whoever set nothing.
const UNSET: workloads::Quota = workloads::Quota {
    concurrent: None,
    compute: None,
    egress_gb: None,
    cost: None,
    hard: true,
    updated_at: None,
};

/// What a tenant may run, as clients see it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quota {
    max_concurrent_vms: i64,
    max_compute_hours_per_day: f64,
    max_egress_gb_per_day: i64,
    max_cost_usd_per_day: f64,
    /// Whether who has used it up is refused.
    hard_fail: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
}

/// What is to hold. What is not said stays, and 0 or less sets the default.
#[derive(Debug)]
pub(super) struct NewQuota {
    concurrent: Option<i64>,
    compute_hours: Option<f64>,
    egress_gb: Option<i64>,
    cost: Option<f64>,
    hard: Option<bool>,
}

impl Model for NewQuota {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        let concurrent = fields.signed("maxConcurrentVms", i64::MIN..=most);
        let egress_gb = fields.signed("maxEgressGbPerDay", i64::MIN..=most);
        let compute_hours = amount(fields, "maxComputeHoursPerDay");
        let cost = amount(fields, "maxCostUsdPerDay");
        let hard = fields.boolean("hardFail");
        Some(Self { concurrent, compute_hours, egress_gb, cost, hard })
    }
}

fn amount(fields: &mut Fields<'_>, name: &str) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let most = MOST as f64;
    fields.describe(name, || serde_json::json!({ "type": ["number", "null"], "maximum": MOST }));
    let value = fields.value(name)?;
    let read = value.as_f64().filter(|amount| *amount <= most);
    if read.is_none() {
        fields.issue(name, format!("expected a number up to {MOST}"));
    }
    read
}

/// What saving answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Saved {
    status: &'static str,
}

/// What holds for the tenant.
pub(super) async fn show(app: &App, scope: Scope) -> Result<Quota> {
    let set = workloads::quota(&app.db, scope).await?;
    Ok(shown(&set.unwrap_or(UNSET)))
}

#[expect(clippy::cast_precision_loss, reason = "hours of a day, in microseconds")]
fn shown(quota: &workloads::Quota) -> Quota {
    Quota {
        max_concurrent_vms: quota.concurrent.unwrap_or(CONCURRENT),
        max_compute_hours_per_day: quota.compute.unwrap_or(COMPUTE).micros() as f64 / HOUR as f64,
        max_egress_gb_per_day: quota.egress_gb.unwrap_or(EGRESS_GB),
        max_cost_usd_per_day: quota.cost.unwrap_or(COST).to_wire(),
        hard_fail: quota.hard,
        updated_at: quota.updated_at.map(|at| at.to_string()),
    }
}

/// Sets what the tenant may run.
pub(super) async fn save(app: &App, scope: Scope, new: &NewQuota) -> Result<Saved> {
    let was = workloads::quota(&app.db, scope).await?;
    let was = was.unwrap_or(UNSET);
    let set = workloads::Quota { updated_at: Some(app.clock.now()), ..changed(was, new) };
    workloads::set_quota(&app.db, scope, set).await?;
    tracing::info!(tenant = %scope.tenant(), "the quota of workloads was set");
    Ok(Saved { status: "saved" })
}

fn changed(was: workloads::Quota, new: &NewQuota) -> workloads::Quota {
    let whole = |said: Option<i64>, was: Option<i64>| match said {
        None => was,
        Some(said) => Some(said).filter(|said| *said > 0),
    };
    #[expect(clippy::cast_possible_truncation, reason = "at most a million times a unit")]
    let part = |said: Option<f64>, unit: f64, was: Option<i64>| match said {
        None => was,
        Some(said) => Some((said * unit).round() as i64).filter(|micros| *micros > 0),
    };
    #[expect(clippy::cast_precision_loss, reason = "an hour in microseconds")]
    let hour = HOUR as f64;
    workloads::Quota {
        concurrent: whole(new.concurrent, was.concurrent),
        compute: part(new.compute_hours, hour, was.compute.map(Dur::micros)).map(Dur::from_micros),
        egress_gb: whole(new.egress_gb, was.egress_gb),
        cost: part(new.cost, 1e6, was.cost.map(MicroUsd::micros)).map(MicroUsd::from_micros),
        hard: new.hard.unwrap_or(was.hard),
        updated_at: was.updated_at,
    }
}

/// When the day began.
pub(super) fn day(now: At) -> At {
    At::from_micros(now.micros().div_euclid(DAY) * DAY)
}

/// Whether one more box may be, by what the tenant may have and has.
pub(super) fn admits(quota: &workloads::Quota, used: Used) -> Result<()> {
    let (most, long) = (quota.concurrent.unwrap_or(CONCURRENT), quota.compute.unwrap_or(COMPUTE));
    let reason = if used.open >= most {
        format!("{} workloads are not over, and maxConcurrentVms is {most}", used.open)
    } else if used.compute >= long {
        "workloads took as much time today as maxComputeHoursPerDay allows".to_owned()
    } else {
        return Ok(());
    };
    if !quota.hard {
        return Ok(());
    }
    Err(Error::new(Code::QuotaExceeded, "quota exceeded").with_extra("reason", reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: workloads::Quota = workloads::Quota {
        concurrent: Some(2),
        compute: Some(Dur::from_secs(60)),
        egress_gb: None,
        cost: None,
        hard: true,
        updated_at: None,
    };

    #[test]
    fn as_many_as_the_quota_says() {
        for (open, secs, hard, fine) in [
            (0, 0, true, true),
            (1, 59, true, true),
            (2, 0, true, false),
            (0, 60, true, false),
            (9, 99, false, true),
        ] {
            let quota = workloads::Quota { hard, ..SET };
            let used = Used { open, compute: Dur::from_secs(secs) };
            assert_eq!(admits(&quota, used).is_ok(), fine, "{open} {secs} {hard}");
        }
        let none = UNSET;
        assert!(admits(&none, Used { open: 19, compute: Dur::ZERO }).is_ok());
        assert!(admits(&none, Used { open: 20, compute: Dur::ZERO }).is_err());
    }

    #[test]
    fn what_is_not_said_stays_and_zero_is_the_default() {
        let new =
            NewQuota { concurrent: None, compute_hours: Some(0.5), egress_gb: None, cost: None, hard: None };
        let now = changed(SET, &new);
        assert_eq!((now.concurrent, now.compute, now.hard), (Some(2), Some(Dur::from_secs(1_800)), true));
        let new = NewQuota { concurrent: Some(0), compute_hours: Some(-1.0), hard: Some(false), ..new };
        let now = changed(SET, &new);
        assert_eq!((now.concurrent, now.compute, now.hard), (None, None, false));
        assert_eq!(shown(&now).max_concurrent_vms, CONCURRENT);
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let noon: At = "2026-11-30T12:34:56Z".parse().unwrap();
        assert_eq!(day(noon), "2026-11-30T00:00:00Z".parse().unwrap());
    }
}
