//! Which of the due runs a process takes.
//!
//! Invariant: as long as all that is due fits, all of it is taken. When it does not, tenants take turns: each turn is of the
//! same share, and the next look goes on after the last tenant that had one, so that a tenant waits for as many turns as there
//! are tenants, however much others have due. Within a tenant the highest priority goes first, then who is due longest. Of a
//! tenant with a bound no more runs are at work than that: who counts is alone until the claims are there.
//!
//! Nothing here looks at more rows than it may take and one, or at more than so many steps from tenant to tenant; a count ends
//! at its bound, though PostgreSQL may pass over other tenants' runs at work on its way.

use std::collections::HashMap;
use std::sync::Arc;

use lantern_types::*;

use crate::db::SystemTx;
use crate::dialect;
use crate::error::Result;
use crate::lease::Reader;
use crate::value::{Row, Value};

/// How many runs of a tenant may be at work: held by a process, which lets go of those that wait.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Of whom nothing else is said; `None` for any number.
    pub each: Option<u32>,
    /// Of whom something is.
    pub own: Arc<HashMap<TenantId, Option<u32>>>,
}

impl Bounds {
    fn of(&self, tenant: TenantId) -> Option<u32> {
        self.own.get(&tenant).copied().unwrap_or(self.each)
    }

    fn any(&self) -> bool {
        self.each.is_some() || self.own.values().any(Option::is_some)
    }
}

/// What a process has room for.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// The most runs to take.
    pub limit: u32,
    /// The tenant that had the last turn.
    pub after: Option<TenantId>,
    /// How many runs of a tenant may be at work.
    pub bounds: Bounds,
}

impl From<u32> for Room {
    /// Room for so many, whosever they are.
    fn from(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }
}

/// Who takes runs, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By {
    pub(crate) process: ProcessId,
    pub(crate) reader: Reader,
    pub(crate) now: At,
}

impl By {
    fn params(self, most: u32) -> Vec<Value> {
        let (process, now) = (self.process.into(), self.now.into());
        vec![process, now, most.into(), self.reader.format.into(), self.reader.build.into()]
    }
}

/// What was taken.
pub(crate) struct Taken {
    pub(crate) rows: Vec<Row>,
    /// Whether more is due than was taken.
    pub(crate) left: bool,
    /// The tenant that had the last turn.
    pub(crate) after: Option<TenantId>,
}

/// A tenant with due runs, and their priorities, the highest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Turn {
    tenant: TenantId,
    priorities: Vec<i64>,
}

/// Tenants that have a turn at once.
const TURNS: usize = 32;
/// Steps from one tenant and priority to the next that one statement makes.
const STEPS: u32 = 256;
/// How often a look goes on that has found nothing to take.
const ROUNDS: usize = 8;

pub(crate) const NEXT: &str = "SELECT tenant_id, priority, count(*) AS due FROM
    (SELECT tenant_id, priority FROM runs WHERE owner IS NULL AND wake_at <= $1 ORDER BY wake_at LIMIT $2) AS next
    GROUP BY tenant_id, priority ORDER BY tenant_id DESC, priority DESC";
// Each step is one look-up in the index, however many runs lie between. The last row is empty when there is nothing further.
// What is due is asked for as the earliest, because who asks whether there is any is answered by looking at all of them.
pub(crate) const WALK: &str = "WITH RECURSIVE walk (tenant_id, priority, steps, found) AS (
    SELECT tenant_id, priority, CAST(1 AS BIGINT), CAST(0 AS BIGINT) FROM
        (SELECT tenant_id, priority FROM runs WHERE owner IS NULL AND wake_at IS NOT NULL AND tenant_id < $1
        ORDER BY tenant_id DESC, priority DESC LIMIT 1) AS first
    UNION ALL SELECT
        (SELECT r.tenant_id FROM runs r WHERE r.owner IS NULL AND r.wake_at IS NOT NULL
            AND (r.tenant_id, r.priority) < (w.tenant_id, w.priority)
            ORDER BY r.tenant_id DESC, r.priority DESC LIMIT 1),
        (SELECT r.priority FROM runs r WHERE r.owner IS NULL AND r.wake_at IS NOT NULL
            AND (r.tenant_id, r.priority) < (w.tenant_id, w.priority)
            ORDER BY r.tenant_id DESC, r.priority DESC LIMIT 1),
        w.steps + 1,
        w.found + CASE WHEN (SELECT d.wake_at FROM runs d WHERE d.owner IS NULL AND d.wake_at IS NOT NULL
            AND d.tenant_id = w.tenant_id AND d.priority = w.priority ORDER BY d.wake_at LIMIT 1) <= $2 THEN 1 ELSE 0 END
        FROM walk w WHERE w.tenant_id IS NOT NULL AND w.steps < $3 AND w.found < $4)
    SELECT w.tenant_id, w.priority, CAST(CASE WHEN (SELECT d.wake_at FROM runs d WHERE d.owner IS NULL AND d.wake_at IS NOT NULL
        AND d.tenant_id = w.tenant_id AND d.priority = w.priority ORDER BY d.wake_at LIMIT 1) <= $2 THEN 1 ELSE 0 END
        AS BIGINT) AS due
    FROM walk w ORDER BY w.steps";
pub(crate) const AT_WORK: &str = "SELECT count(*) AS at_work FROM
    (SELECT 1 FROM runs WHERE tenant_id = $1 AND owner IS NOT NULL LIMIT $2) AS held";

/// Every statement of this file, all across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[NEXT, WALK, AT_WORK];

/// Takes due runs, as many as there is room for.
pub(crate) async fn take(tx: &mut SystemTx<'_>, by: By, room: &Room) -> Result<Taken> {
    let nothing = |left| Taken { rows: Vec::new(), left, after: room.after };
    if room.limit == 0 {
        return Ok(nothing(true));
    }
    let next = tx.all(NEXT, &[by.now.into(), (i64::from(room.limit) + 1).into()]).await?;
    let mut due = 0;
    for row in &next {
        due += row.int("due")?;
    }
    let (crowded, bound) = (due > i64::from(room.limit), room.bounds.any());
    if due == 0 {
        return Ok(nothing(false));
    }
    if !crowded && !bound {
        let rows = dialect::claim(tx, &by.params(room.limit)).await?;
        return Ok(Taken { rows, ..nothing(false) });
    }
    if bound && !dialect::alone(tx).await? {
        return Ok(nothing(true));
    }
    let mut taken = nothing(true);
    if crowded {
        let want = usize::try_from(room.limit).unwrap_or(TURNS).min(TURNS);
        for _ in 0..ROUNDS {
            let walk = walk(tx, by.now, taken.after, want).await?;
            taken.after = walk.last;
            in_turn(tx, (by, room), &walk.turns, &mut taken).await?;
            if !taken.rows.is_empty() || walk.last.is_none() {
                break;
            }
        }
        return Ok(taken);
    }
    let mut all = Vec::with_capacity(next.len());
    for row in &next {
        all.push((row.id("tenant_id")?, row.int("priority")?));
    }
    for turns in from(turns(all), room.after).chunks(TURNS) {
        in_turn(tx, (by, room), turns, &mut taken).await?;
        if !taken.rows.is_empty() {
            break;
        }
    }
    taken.left = i64::try_from(taken.rows.len()).is_ok_and(|taken| taken < due);
    Ok(taken)
}

/// Gives each of these tenants its share of the room: what one does not use is the next ones'.
async fn in_turn(
    tx: &mut SystemTx<'_>,
    (by, room): (By, &Room),
    turns: &[Turn],
    taken: &mut Taken,
) -> Result<()> {
    let mut left = room.limit;
    for (n, turn) in turns.iter().enumerate() {
        if left == 0 {
            break;
        }
        let mut share = share(left, turns.len() - n);
        if let Some(most) = room.bounds.of(turn.tenant) {
            let at_work = tx.one(AT_WORK, &[turn.tenant.into(), most.into()]).await?;
            let at_work = at_work.map_or(Ok(0), |row| row.int("at_work"))?;
            share = share.min(most.saturating_sub(u32::try_from(at_work).unwrap_or(u32::MAX)));
        }
        for priority in &turn.priorities {
            if share == 0 {
                break;
            }
            let params = [by.params(share), vec![turn.tenant.into(), (*priority).into()]].concat();
            let rows = dialect::claim_of(tx, &params).await?;
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            (share, left) = (share.saturating_sub(count), left.saturating_sub(count));
            taken.rows.extend(rows);
        }
        taken.after = Some(turn.tenant);
    }
    Ok(())
}

/// What one of so many tenants may take of so much room: rounded up, so that the last place is somebody's.
fn share(left: u32, tenants: usize) -> u32 {
    left.div_ceil(u32::try_from(tenants).unwrap_or(u32::MAX).max(1))
}

/// Where a walk came to.
struct Walk {
    turns: Vec<Turn>,
    /// After whom to go on; `None` when the walk has been everywhere and found nothing.
    last: Option<TenantId>,
}

/// Goes from tenant to tenant, downwards from the one that had the last turn and around, until enough have due runs.
async fn walk(tx: &mut SystemTx<'_>, now: At, after: Option<TenantId>, want: usize) -> Result<Walk> {
    let mut found: Vec<(TenantId, i64)> = Vec::new();
    let (mut upto, mut around) = (after, after.is_none());
    for _ in 0..ROUNDS {
        let wanted = u32::try_from(want - found.len()).unwrap_or(0);
        let bound = upto.map_or_else(|| Value::Bytes(vec![0xff; 16]), Value::from);
        let rows = tx.all(WALK, &[bound, now.into(), STEPS.into(), wanted.into()]).await?;
        let part = part(&rows)?;
        let passed = |tenant: TenantId| around && after.is_some_and(|after| tenant < after);
        found.extend(part.due.iter().copied().filter(|(tenant, _)| !passed(*tenant)));
        let ended = part.last.is_none_or(passed);
        if found.len() >= want || (!ended && !found.is_empty()) {
            break;
        }
        match (ended, around) {
            (true, true) => {
                return Ok(Walk { last: found.last().map(|(tenant, _)| *tenant), turns: turns(found) });
            }
            (true, false) => (upto, around) = (None, true),
            (false, _) => upto = part.last,
        }
    }
    let last = found.last().map(|(tenant, _)| *tenant).or(upto);
    Ok(Walk { turns: turns(found), last })
}

/// One statement's steps.
struct Part {
    due: Vec<(TenantId, i64)>,
    /// The last tenant that was looked at whole; `None` when there is nobody further.
    last: Option<TenantId>,
}

fn part(rows: &[Row]) -> Result<Part> {
    let mut steps: Vec<(TenantId, i64, bool)> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(tenant) = row.opt_id("tenant_id")? else { break };
        steps.push((tenant, row.int("priority")?, row.int("due")? == 1));
    }
    // Without an empty row at its end the walk had enough, unless it did not even begin.
    let ended = steps.len() < rows.len() || rows.is_empty();
    if !ended && rows.len() == STEPS as usize {
        // There may be more of the last tenant: it is looked at again, from its beginning.
        let cut = steps.last().map(|(tenant, ..)| *tenant);
        steps.retain(|(tenant, ..)| Some(*tenant) != cut);
    }
    let last = if ended { None } else { steps.last().map(|(tenant, ..)| *tenant) };
    let due = steps.iter().filter(|(.., due)| *due).map(|(tenant, priority, _)| (*tenant, *priority));
    Ok(Part { due: due.collect(), last })
}

/// Tenants with their priorities, from pairs in order.
fn turns(pairs: Vec<(TenantId, i64)>) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for (tenant, priority) in pairs {
        match turns.last_mut().filter(|turn| turn.tenant == tenant) {
            Some(turn) => turn.priorities.push(priority),
            None => turns.push(Turn { tenant, priorities: vec![priority] }),
        }
    }
    turns
}

/// The same tenants, beginning with who comes after the one that had the last turn.
fn from(mut turns: Vec<Turn>, after: Option<TenantId>) -> Vec<Turn> {
    let first = turns.iter().position(|turn| after.is_none_or(|after| turn.tenant < after));
    turns.rotate_left(first.unwrap_or(0));
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::from_bytes(&[n; 16]).unwrap_or(DEV_TENANT)
    }

    #[test]
    fn the_last_place_is_somebodys_and_none_is_given_twice() {
        for (left, tenants, want) in
            [(256, 1, 256), (256, 2, 128), (3, 2, 2), (1, 32, 1), (0, 3, 0), (5, 0, 5)]
        {
            assert_eq!(share(left, tenants), want, "{left} for {tenants}");
        }
    }

    #[test]
    fn turns_go_on_after_the_last_one_and_around() {
        let pairs = vec![(tenant(9), 5), (tenant(9), 0), (tenant(4), 0), (tenant(2), -1)];
        let all = turns(pairs);
        assert_eq!(all[0], Turn { tenant: tenant(9), priorities: vec![5, 0] });
        for (after, want) in
            [(None, [9, 4, 2]), (Some(9), [4, 2, 9]), (Some(3), [2, 9, 4]), (Some(2), [9, 4, 2])]
        {
            let order: Vec<TenantId> =
                from(all.clone(), after.map(tenant)).iter().map(|turn| turn.tenant).collect();
            assert_eq!(order, want.map(tenant), "after {after:?}");
        }
    }

    #[test]
    fn only_a_bound_counts() {
        let own = Arc::new(HashMap::from([(tenant(1), None), (tenant(2), Some(3))]));
        let bounds = Bounds { each: Some(7), own };
        assert_eq!([1, 2, 3].map(|n| bounds.of(tenant(n))), [None, Some(3), Some(7)]);
        assert!(bounds.any() && Bounds { each: None, ..bounds.clone() }.any());
        let lifted = Bounds { each: None, own: Arc::new(HashMap::from([(tenant(1), None)])) };
        assert!(!lifted.any() && !Bounds::default().any());
    }
}
