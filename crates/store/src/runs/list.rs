//! Lists of runs: which rows, and along which index.
//!
//! Invariant: a list is ordered by `(created_at, id)`, newest first, and a page begins after the last row of the one before
//! it, so that runs which come in between neither repeat nor hide any. Each query reads one index in that order, or reads
//! what a limit bounds and sorts it: the runs that are not over, and those of one moment. What comes from several queries
//! is put together here. What users said is sealed, and nothing here looks into it.
//!
//! What no index answers is looked at row by row, and only so many rows at a time ([`look`]): a list takes no longer the more
//! runs there are.

use std::cmp::Reverse;

use lantern_policy::Scope;
use lantern_types::*;
use uuid::Uuid;

use super::{RunRow, read};
use crate::db::{Db, Where};
use crate::error::Result;
use crate::labels::{Hit, Label};
use crate::value::Row;

/// Which runs a list shows: those of which everything holds that is said here.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this agent.
    pub agent_name: Option<String>,
    /// In one of these statuses; in any, when there are none.
    pub statuses: Vec<String>,
    /// Of this conversation.
    pub session_id: Option<SessionId>,
    /// Started by this run.
    pub parent_run_id: Option<RunId>,
    /// With all of these labels.
    pub labels: Vec<Label>,
    /// Made then or later.
    pub from: Option<At>,
    /// Made before then.
    pub until: Option<At>,
    /// Found by one of these: what [`search`](crate::labels::search) answers.
    pub hits: Option<Vec<Hit>>,
    /// Older than this one: the last of the page before.
    pub before: Option<(At, RunId)>,
    /// At most so many.
    pub limit: u32,
}

const RUNS: &str = "SELECT r.id AS id, r.agent_id AS agent_id, r.agent_name AS agent_name,
    r.agent_version_id AS agent_version_id, r.status AS status, r.trigger_kind AS trigger_kind, r.version AS version,
    r.chain AS chain, r.owner AS owner, r.epoch AS epoch, r.pokes AS pokes, r.wake_at AS wake_at, r.spent AS spent,
    r.held AS held, r.tokens_in AS tokens_in, r.tokens_out AS tokens_out, r.created_at AS created_at,
    r.started_at AS started_at, r.finished_at AS finished_at, r.parent_run_id AS parent_run_id,
    r.parent_step AS parent_step, r.session_id AS session_id, r.depth AS depth, r.labels AS labels,
    r.error_code AS error_code, r.format AS format, r.parked_reason AS parked_reason,
    r.content_removed_at AS content_removed_at, r.priority AS priority FROM runs r WHERE r.tenant_id = $1";
// A label's row repeats the run's time. Saying so lets PostgreSQL begin with whichever of two labels is rarer and find the
// other's row at once; else it reads all that are looked at for each.
// In SQLite the order of a CROSS JOIN is the order of the loops: without it, a planner that has no statistics may look at
// every run for a label that few have.
const LABELLED: &str = "SELECT r.id AS id, r.agent_id AS agent_id, r.agent_name AS agent_name,
    r.agent_version_id AS agent_version_id, r.status AS status, r.trigger_kind AS trigger_kind, r.version AS version,
    r.chain AS chain, r.owner AS owner, r.epoch AS epoch, r.pokes AS pokes, r.wake_at AS wake_at, r.spent AS spent,
    r.held AS held, r.tokens_in AS tokens_in, r.tokens_out AS tokens_out, r.created_at AS created_at,
    r.started_at AS started_at, r.finished_at AS finished_at, r.parent_run_id AS parent_run_id,
    r.parent_step AS parent_step, r.session_id AS session_id, r.depth AS depth, r.labels AS labels,
    r.error_code AS error_code, r.format AS format, r.parked_reason AS parked_reason,
    r.content_removed_at AS content_removed_at, r.priority AS priority FROM run_labels l CROSS JOIN runs r
    WHERE l.tenant_id = $1 AND r.tenant_id = $1 AND r.id = l.run_id AND r.created_at = l.created_at";
const HAS_LABEL: &str = "SELECT 1 FROM run_labels m WHERE m.tenant_id = $1 AND m.created_at = r.created_at
    AND m.run_id = r.id";

const RUN_PLACES: &str = "SELECT r.created_at AS created_at, r.id AS id FROM runs r WHERE r.tenant_id = $1";
const LABEL_PLACES: &str =
    "SELECT l.created_at AS created_at, l.run_id AS id FROM run_labels l WHERE l.tenant_id = $1";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[RUNS, LABELLED, RUN_PLACES, LABEL_PLACES];

/// A query of a list: it ends in its order and its limit.
pub(crate) struct Query {
    pub(crate) base: &'static str,
    pub(crate) conditions: Where,
    pub(crate) order: &'static str,
}

/// What a query goes along.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lead {
    /// The runs of the conversation, the parent or the agent that the filter names, or all.
    Runs,
    /// Those of an agent that the filter does not name.
    Agent(String),
    /// Those that ended so.
    Ended(String),
    /// Those that are not over and stand so. A tenant has a limited number of them.
    Open(Vec<String>),
    /// Those with this label.
    Label(Label),
    /// Those whose ids lie between these: made at about the same moment.
    Ids(RunId, RunId),
}

/// Some of the runs of a list.
#[derive(Clone, Debug)]
pub struct Found {
    /// The runs, newest first.
    pub runs: Vec<RunRow>,
    /// The oldest run that was looked at, when older ones were not.
    pub down_to: Option<(At, RunId)>,
}

/// Runs, newest first: all that there are, up to the limit.
pub async fn list(db: &Db, scope: Scope, filter: RunFilter) -> Result<Vec<RunRow>> {
    Ok(find(db, scope, filter, None).await?.runs)
}

/// The same, where at most `most` rows are looked at that no index answers for. There may be fewer runs than the limit
/// then, and more of them below what was looked at.
pub async fn look(db: &Db, scope: Scope, filter: RunFilter, most: u32) -> Result<Found> {
    find(db, scope, filter, Some(most)).await
}

async fn find(db: &Db, scope: Scope, filter: RunFilter, most: Option<u32>) -> Result<Found> {
    let limit = filter.limit;
    let read_all = db.read(scope, move |tx| {
        Box::pin(async move {
            let (mut runs, mut down_to) = (Vec::new(), None);
            let leads = leads(&filter);
            let queries = u32::try_from(leads.len()).unwrap_or(u32::MAX).max(1);
            let share = most.map(|most| most.div_ceil(queries));
            for lead in leads {
                let mut edge = None;
                if let Some((share, Query { base, conditions, order })) = share.zip(places(&filter, &lead)) {
                    let last = tx.nth_where(base, conditions, order, share).await?;
                    edge = last.map(|row| place(&row)).transpose()?;
                }
                let Query { base, conditions, order } = query(&filter, &lead, edge);
                for row in tx.all_where(base, conditions, order, limit).await? {
                    runs.push(read(&row)?);
                }
                down_to = down_to.max(edge);
            }
            Ok((runs, down_to))
        })
    });
    let (mut runs, down_to): (Vec<RunRow>, Option<(At, RunId)>) = read_all.await?;
    // Of what lies below, another query may not have seen all.
    runs.retain(|run| down_to.is_none_or(|edge| (run.created_at, run.id) >= edge));
    runs.sort_by_key(|run| Reverse((run.created_at, run.id)));
    runs.dedup_by_key(|run| run.id);
    runs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Found { runs, down_to })
}

fn place(row: &Row) -> Result<(At, RunId)> {
    Ok((row.at("created_at")?, row.id("id")?))
}

/// The queries that find the runs of a list between them, and those that find how far to look.
#[cfg(feature = "testing")]
pub(crate) fn queries(filter: &RunFilter) -> Vec<Query> {
    let leads = leads(filter);
    let runs = leads.iter().map(|lead| query(filter, lead, None));
    runs.chain(leads.iter().filter_map(|lead| places(filter, lead))).collect()
}

/// The rows that a query looks at one by one; `None` when its index answers for all that the filter says, or a limit bounds
/// them.
fn places(filter: &RunFilter, lead: &Lead) -> Option<Query> {
    let (agent, statuses) = (filter.agent_name.is_some(), !filter.statuses.is_empty());
    let labels = filter.labels.len();
    let looks = match lead {
        _ if is_near(filter) => false,
        Lead::Open(_) | Lead::Ids(..) => false,
        Lead::Runs | Lead::Agent(_) => statuses || labels > 0,
        Lead::Ended(_) => labels > 0,
        Lead::Label(label) => agent || statuses || filter.labels.iter().any(|other| other != label),
    };
    let own = RunFilter {
        agent_name: filter.agent_name.clone().filter(|_| matches!(lead, Lead::Runs | Lead::Ended(_))),
        from: filter.from,
        until: filter.until,
        before: filter.before,
        ..RunFilter::default()
    };
    let base = if matches!(lead, Lead::Label(_)) { LABEL_PLACES } else { RUN_PLACES };
    looks.then(|| Query { base, ..query(&own, lead, None) })
}

/// Few runs are of one conversation or one parent.
const fn is_near(filter: &RunFilter) -> bool {
    filter.session_id.is_some() || filter.parent_run_id.is_some()
}

fn leads(filter: &RunFilter) -> Vec<Lead> {
    if let Some(hits) = &filter.hits {
        return hits.iter().filter_map(|hit| found(filter, hit)).collect();
    }
    if is_near(filter) || filter.statuses.is_empty() {
        return vec![filter.labels.first().filter(|_| !is_near(filter)).map_or(Lead::Runs, to_label)];
    }
    if let Some(label) = filter.labels.first() {
        return vec![to_label(label)];
    }
    // Most runs of an agent succeed, and most that succeeded may be of others.
    let along_agent = |status: &&String| filter.agent_name.is_some() && *status == "succeeded";
    let is_open = |status: &&String| matches!(status.as_str(), "queued" | "running" | "paused");
    let open: Vec<String> = filter.statuses.iter().filter(is_open).cloned().collect();
    let mut leads: Vec<Lead> = if open.is_empty() { Vec::new() } else { vec![Lead::Open(open)] };
    if filter.statuses.iter().any(|status| along_agent(&status)) {
        leads.push(Lead::Runs);
    }
    let ended = filter.statuses.iter().filter(|status| !is_open(status) && !along_agent(status));
    leads.extend(ended.cloned().map(Lead::Ended));
    leads
}

fn to_label(label: &Label) -> Lead {
    Lead::Label(label.clone())
}

/// How runs are reached that a search found; not at all when the filter says otherwise.
fn found(filter: &RunFilter, hit: &Hit) -> Option<Lead> {
    match hit {
        Hit::Agent(name) => match &filter.agent_name {
            None => Some(Lead::Agent(name.clone())),
            Some(only) => (only == name).then_some(Lead::Runs),
        },
        Hit::Label(label) => Some(to_label(label)),
        Hit::Ids(from, to) => Some(Lead::Ids(*from, *to)),
    }
}

const BY_RUN: (&str, &str, &str) = ("r.created_at", "r.id", "r.created_at DESC, r.id DESC");
const BY_LABEL: (&str, &str, &str) = ("l.created_at", "l.run_id", "l.created_at DESC, l.run_id DESC");
/// The same as the first, in a spelling that no index is read for.
const SORTED: (&str, &str, &str) = ("+r.created_at", "r.id", "+r.created_at DESC, r.id DESC");

/// The query along a lead, and no further down than `edge`.
fn query(filter: &RunFilter, lead: &Lead, edge: Option<(At, RunId)>) -> Query {
    let joins = matches!(lead, Lead::Label(_)) && !is_near(filter);
    let sorts = matches!(lead, Lead::Open(_) | Lead::Ids(..));
    let (at, id, order) = if joins {
        BY_LABEL
    } else if sorts {
        SORTED
    } else {
        BY_RUN
    };
    // Likewise: the index of agents is not the one to go along.
    let agent = if sorts { "r.agent_name || ''" } else { "r.agent_name" };
    let mut conditions = Where::new()
        .eq(agent, filter.agent_name.clone())
        .eq("r.session_id", filter.session_id)
        .eq("r.parent_run_id", filter.parent_run_id)
        .at_least(at, filter.from);
    // One upper bound, the lower of both, so that an index can begin there.
    conditions = match (filter.before, filter.until) {
        (Some((last, _)), Some(until)) if until <= last => conditions.below(at, Some(until)),
        (None, until) => conditions.below(at, until),
        (before, _) => conditions.before((at, id), before),
    }
    .down_to((at, id), edge);
    let mut labels: Vec<&Label> = filter.labels.iter().collect();
    conditions = match lead {
        Lead::Ended(status) if filter.agent_name.is_some() => {
            conditions.eq("r.outcome", Some(status.as_str())).holds("r.outcome <> 'succeeded'")
        }
        Lead::Ended(status) => conditions.eq("r.outcome", Some(status.as_str())),
        Lead::Open(statuses) => conditions
            .any_of("r.status", statuses)
            .holds("r.finished_at IS NULL")
            .at_least("r.id", Some(RunId::from_uuid(Uuid::nil()))),
        _ => conditions.any_of("r.status", &filter.statuses),
    };
    conditions = match lead {
        Lead::Agent(name) => conditions.eq("r.agent_name", Some(name.as_str())),
        Lead::Ids(from, to) => conditions.at_least("r.id", Some(*from)).at_most("r.id", Some(*to)),
        Lead::Label(label) if joins => {
            labels.retain(|other| *other != label);
            conditions.eq("l.value", Some(label.value.as_bytes())).eq("l.key", Some(label.key.as_str()))
        }
        Lead::Label(label) => {
            labels.push(label);
            conditions
        }
        Lead::Runs | Lead::Ended(_) | Lead::Open(_) => conditions,
    };
    for label in labels {
        let is = [("m.value", label.value.as_bytes().into()), ("m.key", label.key.as_str().into())];
        conditions = conditions.exists(HAS_LABEL, is);
    }
    Query { base: if joins { LABELLED } else { RUNS }, conditions, order }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str) -> Label {
        Label { key: key.to_owned(), value: "v".to_owned() }
    }

    fn statuses(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_list_goes_along_what_is_fewest() {
        let agent = Some("a".to_owned());
        let parent = Some(RunId::from_uuid(Uuid::from_u128(1)));
        let hits = vec![Hit::Agent("a".to_owned()), Hit::Agent("b".to_owned()), Hit::Label(label("k"))];
        let all = RunFilter::default;
        for (filter, want) in [
            (all(), vec![Lead::Runs]),
            (RunFilter { agent_name: agent.clone(), ..all() }, vec![Lead::Runs]),
            (
                RunFilter { statuses: statuses(&["queued", "failed", "paused", "succeeded"]), ..all() },
                vec![
                    Lead::Open(statuses(&["queued", "paused"])),
                    Lead::Ended("failed".to_owned()),
                    Lead::Ended("succeeded".to_owned()),
                ],
            ),
            (
                RunFilter {
                    statuses: statuses(&["failed", "succeeded"]),
                    agent_name: agent.clone(),
                    ..all()
                },
                vec![Lead::Runs, Lead::Ended("failed".to_owned())],
            ),
            (
                RunFilter { statuses: statuses(&["failed"]), labels: vec![label("x"), label("y")], ..all() },
                vec![Lead::Label(label("x"))],
            ),
            (
                RunFilter {
                    statuses: statuses(&["queued"]),
                    labels: vec![label("x")],
                    parent_run_id: parent,
                    ..all()
                },
                vec![Lead::Runs],
            ),
            (
                RunFilter { hits: Some(hits.clone()), statuses: statuses(&["failed"]), ..all() },
                vec![Lead::Agent("a".to_owned()), Lead::Agent("b".to_owned()), Lead::Label(label("k"))],
            ),
            (
                RunFilter { hits: Some(hits), agent_name: agent, ..all() },
                vec![Lead::Runs, Lead::Label(label("k"))],
            ),
            (RunFilter { hits: Some(Vec::new()), ..all() }, vec![]),
        ] {
            assert_eq!(leads(&filter), want, "{filter:?}");
        }
    }
}
