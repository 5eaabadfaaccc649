//! Starting several runs at once: all of them or none.
//!
//! Invariant: the runs of a batch and their first events are one transaction. Its key is kept with each of them under a name
//! of its own, so that a batch that is sent again is known as long as its runs are there, whatever became of the answer.

use std::collections::HashMap;

use lantern_edge::{Code, Error, Fields, Model, Result};
use lantern_policy::action::CreateRun;
use lantern_policy::{Permit, Scope};
use lantern_store::journal::{self, Created};
use lantern_store::versions::Version;
use lantern_types::{At, Digest, RunId, TraceParent};

use super::{Asked, Beginning, FULL_WAIT, check_cost, discard, first_append, head, started_before, version};
use crate::App;
use crate::features::runs::model::{self, NewRun, Run, Said};
use crate::features::runs::store;

/// Runs of one batch.
const RUNS_MAX: usize = 100;
const RUNS: &str = "runs";

/// A request to start several runs.
#[derive(Debug)]
pub(in super::super) struct Batch {
    runs: Vec<NewRun>,
}

impl Batch {
    /// The same, where all of them belong under this span.
    pub(in super::super) fn under(mut self, trace: Option<TraceParent>) -> Self {
        for new in &mut self.runs {
            new.trace = trace;
        }
        self
    }
}

/// One of them: it has no stream and no key of its own.
struct Entry(NewRun);

impl Model for Entry {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let new = NewRun::read(fields)?;
        if new.stream {
            fields.issue("stream", "the runs of a batch are followed one by one");
        }
        if new.session.is_some() {
            fields.issue("sessionId", "the runs of a session are started one by one");
        }
        if new.idempotency_key.is_some() {
            fields.issue("idempotencyKey", "a batch has one key, in the header Idempotency-Key");
        }
        Some(Self(new))
    }
}

impl Model for Batch {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let runs = fields.required_list::<Entry>(RUNS, RUNS_MAX)?;
        Some(Self { runs: runs.into_iter().map(|Entry(new)| new).collect() })
    }
}

/// The runs of a batch, in its order, and whether this request made them.
pub(in super::super) struct Made {
    pub(in super::super) runs: Vec<Run>,
    pub(in super::super) fresh: bool,
}

/// Starts the runs of a batch, or finds those that its key started.
pub(in super::super) async fn start_batch(
    app: &App,
    permit: &Permit<CreateRun>,
    Batch { mut runs }: Batch,
    key: Option<String>,
) -> Result<Made> {
    let scope = permit.scope();
    let asked: Vec<Asked> = runs.iter().map(Asked::of).collect();
    if let Some(key) = &key {
        for (n, new) in runs.iter_mut().enumerate() {
            new.idempotency_key = Some(named(key, n));
        }
        if let Some(found) = made_before(app, scope, key, &asked).await? {
            return shown(app, scope, &found, false).await;
        }
    }
    let now = app.clock.now();
    let mut versions: HashMap<String, Version> = HashMap::new();
    for (n, new) in runs.iter().enumerate() {
        check_cost(app, scope, new.max_cost).map_err(|error| within(error, n))?;
        if !versions.contains_key(&new.agent_name) {
            let found = version(app, scope, &new.agent_name).await.map_err(|error| within(error, n))?;
            versions.insert(new.agent_name.clone(), found);
        }
    }
    allow(app, scope, now, runs.len())?;
    let first = sealed(app, scope, now, runs, &versions).await?;
    let (ids, bodies) = (ids(&first), first.iter().filter_map(|new| new.body.clone()).collect());
    match write(app, scope, first).await {
        Ok(()) => {
            tracing::info!(tenant = %scope.tenant(), runs = ids.len(), "a batch of runs was asked for");
            shown(app, scope, &ids, true).await
        }
        Err(error) => {
            dropped(app, scope, bodies).await?;
            // Two requests may have raced with one key.
            let found = match &key {
                Some(key) if error.code() == Code::Conflict => made_before(app, scope, key, &asked).await?,
                _ => None,
            };
            match found {
                Some(found) => shown(app, scope, &found, false).await,
                None => Err(error),
            }
        }
    }
}

/// Under which key a run of a batch is known.
fn named(key: &str, n: usize) -> String {
    Digest::of_parts(&[b"batch", key.as_bytes(), n.to_string().as_bytes()]).to_string()
}

/// The runs that this key started, if it started any: by this request, or it is refused.
async fn made_before(app: &App, scope: Scope, key: &str, asked: &[Asked]) -> Result<Option<Vec<RunId>>> {
    // One more than there are: the first request may have been for more.
    let mut found = Vec::with_capacity(asked.len());
    for n in 0..=asked.len() {
        found.push(store::by_key(&app.db, scope, named(key, n)).await?);
    }
    let more = found.pop().flatten();
    if more.is_none() && found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let whole: Option<Vec<RunId>> = found.into_iter().collect();
    let Some(runs) = whole.filter(|_| more.is_none()) else {
        let words = "this idempotency key started another batch, or some of its runs were deleted";
        return Err(Error::new(Code::IdempotencyMismatch, words));
    };
    for (run, asked) in runs.iter().zip(asked) {
        started_before(app, scope, *run, asked).await?;
    }
    Ok(Some(runs))
}

/// Counts so many runs of the tenant, unless there were too many lately.
fn allow(app: &App, scope: Scope, now: At, count: usize) -> Result<()> {
    let Some(spawns) = app.spawns() else { return Ok(()) };
    let (count, most) = (u32::try_from(count).unwrap_or(u32::MAX), spawns.most());
    if count > most {
        let words = format!("a tenant may start at most {most} runs at once here");
        return Err(Error::new(Code::InvalidBody, format!("runs: {words}")).with_field(RUNS, words));
    }
    spawns.take_many(scope.tenant(), now, count).map_err(|wait| {
        Error::new(Code::RunRateLimited, "rate limited: too many runs, slow down").retry_after(wait)
    })
}

/// The first appends of all. When one cannot be made, those before it are dropped.
async fn sealed(
    app: &App,
    scope: Scope,
    now: At,
    runs: Vec<NewRun>,
    versions: &HashMap<String, Version>,
) -> Result<Vec<journal::NewRun>> {
    let mut first: Vec<journal::NewRun> = Vec::with_capacity(runs.len());
    for (n, new) in runs.into_iter().enumerate() {
        let Some(version) = versions.get(&new.agent_name) else { continue };
        let run = RunId::from_uuid(app.ids.uuid());
        match first_append(app, scope, (run, now), version, new, Beginning::default()).await {
            Ok(made) => first.push(made),
            Err(error) => {
                dropped(app, scope, first.into_iter().filter_map(|new| new.body).collect()).await?;
                return Err(within(error, n));
            }
        }
    }
    Ok(first)
}

/// Writes all of them, unless the tenant would then have too many runs that are not over.
async fn write(app: &App, scope: Scope, first: Vec<journal::NewRun>) -> Result<()> {
    let most = app.limits(scope).concurrent_runs_per_tenant_max;
    let room = most.checked_sub(u32::try_from(first.len().saturating_sub(1)).unwrap_or(u32::MAX));
    let count = first.len();
    let created = app.db.write(scope, move |tx| {
        Box::pin(async move {
            let Some(room) = room else { return Ok(false) };
            if journal::full(tx, room).await? {
                return Ok(false);
            }
            for new in first {
                // A key that is taken undoes what was written before it.
                if journal::create(tx, new).await? != Created::New {
                    return Err(lantern_store::Error::Conflict);
                }
            }
            Ok(true)
        })
    });
    if created.await? {
        return Ok(());
    }
    let words = format!(
        "with {count} more the tenant has more than {most} runs that are not over; the limit is \
         concurrentRunsPerTenantMax"
    );
    Err(Error::new(Code::TooManyRuns, words).retry_after(FULL_WAIT))
}

fn ids(first: &[journal::NewRun]) -> Vec<RunId> {
    first.iter().map(|new| new.id).collect()
}

async fn dropped(app: &App, scope: Scope, bodies: Vec<Vec<u8>>) -> Result<()> {
    for body in bodies {
        discard(app, scope, Some(body)).await?;
    }
    Ok(())
}

/// What is wrong with one run of a batch.
fn within(error: Error, n: usize) -> Error {
    error.within(&format!("{RUNS}[{n}]"), "agentName")
}

/// The runs as they are, without what they were asked: what is remembered for a key outlives a run that is deleted.
async fn shown(app: &App, scope: Scope, runs: &[RunId], fresh: bool) -> Result<Made> {
    let mut all = Vec::with_capacity(runs.len());
    for run in runs {
        let said = Said { omitted: vec!["input"], ..Said::default() };
        all.push(model::shown(scope.tenant(), head(app, scope, *run).await?, said, Vec::new()));
    }
    Ok(Made { runs: all, fresh })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_of_a_batch_are_known_apart() {
        let names = [named("k", 0), named("k", 1), named("k1", 0), named("", 11), named("1", 1)];
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(named("k", 0), named("k", 0));
    }
}
