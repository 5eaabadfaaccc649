//! Transactions as callers see them, whichever database is below.
//!
//! Invariant: a [`TenantTx`] binds `$1` to its tenant and refuses a statement that does not mention `tenant_id` and
//! `$1`. That is a textual net; on PostgreSQL row-level security is the wall behind it. A transaction in which any
//! statement failed is undone even when its closure swallows the error, as PostgreSQL would do by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use lantern_policy::Scope;
use lantern_types::RunId;
use lantern_types::edge::BoxFuture;

use super::{postgres, sqlite};
use crate::dialect::{self, Either};
use crate::error::{Error, Result};
use crate::notify::Hint;
use crate::value::{Row, Value};

/// What runs inside a transaction. On SQLite it is polled exactly once.
pub(super) type Work<T> = Box<dyn for<'a> FnOnce(&'a mut Tx) -> BoxFuture<'a, Result<T>> + Send>;

/// A connection in a transaction, and what to announce once it has committed.
pub(super) struct Tx {
    pub(super) conn: Conn,
    hints: Vec<Hint>,
    failed: bool,
}

pub(super) enum Conn {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Session),
}

impl Tx {
    pub(super) const fn new(conn: Conn) -> Self {
        Self { conn, hints: Vec::new(), failed: false }
    }

    pub(super) async fn all(
        &mut self,
        sql: &str,
        tenant: Option<&Value>,
        params: &[Value],
    ) -> Result<Vec<Row>> {
        let rows = match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::query(conn, sql, tenant, params),
            Conn::Postgres(session) => session.query(sql, tenant, params).await,
        };
        self.failed |= rows.is_err();
        rows
    }

    async fn exec(&mut self, sql: &str, tenant: Option<&Value>, params: &[Value]) -> Result<u64> {
        let count = match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::execute(conn, sql, tenant, params),
            Conn::Postgres(session) => session.execute(sql, tenant, params).await,
        };
        self.failed |= count.is_err();
        count
    }

    /// Waits for every transaction that has looked for emergency stops, and keeps others from looking until this one has
    /// ended. SQLite has one writer, who is alone anyway.
    async fn fence(&mut self) -> Result<()> {
        let fenced = match &mut self.conn {
            Conn::Sqlite(_) => Ok(0),
            Conn::Postgres(session) => session.execute(dialect::FENCE, None, &[]).await,
        };
        self.failed |= fenced.is_err();
        fenced.map(drop)
    }

    #[cfg(feature = "testing")]
    pub(super) async fn prepare(&mut self, sql: &str) -> Result<()> {
        match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::prepare(conn, sql),
            Conn::Postgres(session) => session.prepare(sql).await,
        }
    }

    /// Ends the use of this connection for one piece of work: its outcome and its hints, ready for the next.
    pub(super) fn settle<T>(&mut self, outcome: Result<T>) -> Result<(T, Vec<Hint>)> {
        let hints = std::mem::take(&mut self.hints);
        let failed = std::mem::take(&mut self.failed);
        match outcome {
            Ok(_) if failed => {
                Err(Error::Misuse("a transaction went on after one of its statements failed".to_owned()))
            }
            outcome => outcome.map(|value| (value, hints)),
        }
    }
}

/// A transaction on one tenant's rows.
pub struct TenantTx<'t> {
    tx: &'t mut Tx,
    scope: Scope,
    tenant: Value,
}

impl<'t> TenantTx<'t> {
    pub(super) fn new(tx: &'t mut Tx, scope: Scope) -> Self {
        Self { tx, scope, tenant: scope.tenant().into() }
    }

    /// The tenant this transaction belongs to.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The first row, if any. `$1` is the tenant; `params` start at `$2`.
    pub async fn one(&mut self, sql: &'static str, params: &[Value]) -> Result<Option<Row>> {
        Ok(self.all(sql, params).await?.into_iter().next())
    }

    /// Every row. `$1` is the tenant; `params` start at `$2`.
    pub async fn all(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>> {
        names_its_tenant(sql)?;
        self.tx.all(sql, Some(&self.tenant), params).await
    }

    /// How many rows it changed. `$1` is the tenant; `params` start at `$2`.
    pub async fn exec(&mut self, sql: &'static str, params: &[Value]) -> Result<u64> {
        names_its_tenant(sql)?;
        self.tx.exec(sql, Some(&self.tenant), params).await
    }

    /// Does what a batch says, as a part of this transaction. `Conflict` when a statement changes other than it must.
    pub(crate) async fn apply(&mut self, batch: &Batch) -> Result<()> {
        for Step { sql, postgres, params, expect } in &batch.steps {
            let sql = postgres.filter(|_| self.is_postgres()).unwrap_or(sql);
            let rows = self.exec(sql, params).await?;
            if matches!(expect, Expect::Rows(must) if *must != rows) {
                return Err(Error::Conflict);
            }
        }
        Ok(())
    }

    /// From here to the end of this transaction no append looks for emergency stops, and none that looked is under way.
    pub(crate) async fn fence(&mut self) -> Result<()> {
        self.tx.fence().await
    }

    /// At most `limit` rows of `base` (which ends in its `WHERE` and uses `$1` alone), narrowed by `filter`, in the
    /// order of `order` (`created_at DESC, id DESC`).
    pub async fn all_where(
        &mut self,
        base: &'static str,
        filter: Where,
        order: &'static str,
        limit: u32,
    ) -> Result<Vec<Row>> {
        names_its_tenant(base)?;
        let Where { sql, mut params } = filter;
        params.push(limit.into());
        let sql = format!("{base}{sql} ORDER BY {order} LIMIT ${}", params.len() + 1);
        self.tx.all(&sql, Some(&self.tenant), &params).await
    }

    /// The row at this place of what [`all_where`](Self::all_where) would answer without a limit, the first being 1.
    pub async fn nth_where(
        &mut self,
        base: &'static str,
        filter: Where,
        order: &'static str,
        place: u32,
    ) -> Result<Option<Row>> {
        names_its_tenant(base)?;
        let Where { sql, mut params } = filter;
        params.push(place.saturating_sub(1).into());
        let sql = format!("{base}{sql} ORDER BY {order} LIMIT 1 OFFSET ${}", params.len() + 1);
        Ok(self.tx.all(&sql, Some(&self.tenant), &params).await?.into_iter().next())
    }

    /// Whether statements may use what only PostgreSQL has; asked by `dialect.rs` alone.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.tx.conn, Conn::Postgres(_))
    }

    /// Announces, once this transaction has committed, that a run's journal has grown.
    pub fn changed(&mut self, run: RunId) {
        self.tx.hints.push(Hint::Changed(run));
    }

    /// Announces, once this transaction has committed, that a run wants a worker.
    pub fn wake(&mut self, run: RunId) {
        self.tx.hints.push(Hint::Wake(run));
    }
}

/// A transaction across tenants. Made only by this crate, in `lease.rs` and `system.rs`.
pub struct SystemTx<'t> {
    tx: &'t mut Tx,
}

impl<'t> SystemTx<'t> {
    pub(super) const fn new(tx: &'t mut Tx) -> Self {
        Self { tx }
    }

    pub(crate) async fn one(&mut self, sql: &'static str, params: &[Value]) -> Result<Option<Row>> {
        Ok(self.all(sql, params).await?.into_iter().next())
    }

    pub(crate) async fn all(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>> {
        self.tx.all(sql, None, params).await
    }

    pub(crate) async fn exec(&mut self, sql: &'static str, params: &[Value]) -> Result<u64> {
        self.tx.exec(sql, None, params).await
    }

    /// From here to the end of this transaction no append looks for emergency stops, and none that looked is under way.
    pub(crate) async fn fence(&mut self) -> Result<()> {
        self.tx.fence().await
    }

    /// Whether statements may use what only PostgreSQL has; asked by `dialect.rs` alone.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.tx.conn, Conn::Postgres(_))
    }
}

/// How many rows a statement of a batch must change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Exactly so many, or the whole batch is undone.
    Rows(u64),
    /// Any number.
    Any,
}

/// A closed list of statements for [`Db::submit`](super::Db::submit), none of which returns rows.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) steps: Vec<Step>,
    pub(super) as_one: Option<&'static str>,
    pub(super) hints: Vec<Hint>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) sql: &'static str,
    /// How PostgreSQL is told the same, when it is told otherwise.
    pub(super) postgres: Option<&'static str>,
    pub(super) params: Vec<Value>,
    pub(super) expect: Expect,
}

impl Batch {
    /// No statements yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement. `$1` is the tenant; `params` start at `$2`. Put a guard first: what fails early costs least.
    pub fn add(&mut self, sql: &'static str, params: Vec<Value>, expect: Expect) {
        self.steps.push(Step { sql, postgres: None, params, expect });
    }

    /// The same for a statement that each database is told in its own way.
    pub(crate) fn add_either(&mut self, says: Either, params: Vec<Value>, expect: Expect) {
        self.steps.push(Step { sql: says.sqlite, postgres: Some(says.postgres), params, expect });
    }

    /// Names one statement that does what all of them do, for PostgreSQL, where a statement may change several tables.
    /// Its parameters are theirs, one after another; it changes one row when it was done, and none when a guard did
    /// not hold.
    pub(crate) const fn as_one(&mut self, sql: &'static str) {
        self.as_one = Some(sql);
    }

    /// How many statements it has.
    pub(crate) const fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether one statement does what all of them do.
    #[cfg(test)]
    pub(crate) const fn is_one(&self) -> bool {
        self.as_one.is_some()
    }

    /// Announces, once the batch has committed, that a run's journal has grown.
    pub fn changed(&mut self, run: RunId) {
        self.hints.push(Hint::Changed(run));
    }

    pub(super) fn check(&self) -> Result<()> {
        let steps = self.steps.iter().map(|step| step.sql);
        steps
            .chain(self.steps.iter().filter_map(|step| step.postgres))
            .chain(self.as_one)
            .try_for_each(names_its_tenant)
    }
}

/// The conditions of a list, each on a column that the code names and with a placeholder for what the caller brings.
#[derive(Debug, Default)]
pub struct Where {
    sql: String,
    params: Vec<Value>,
}

impl Where {
    /// No condition beyond the tenant's.
    pub fn new() -> Self {
        Self::default()
    }

    fn bind(&mut self, value: Value) -> String {
        self.params.push(value);
        format!("${}", self.params.len() + 1)
    }

    /// `column = value`; no condition when `value` is `None`.
    pub fn eq(mut self, column: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            let placeholder = self.bind(value.into());
            self.sql.extend([" AND ", column, " = ", &placeholder]);
        }
        self
    }

    fn compared(mut self, column: &'static str, sign: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            let placeholder = self.bind(value.into());
            self.sql.extend([" AND ", column, sign, &placeholder]);
        }
        self
    }

    /// `column >= value`; no condition when `value` is `None`.
    pub fn at_least(self, column: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.compared(column, " >= ", value)
    }

    /// `column <= value`; no condition when `value` is `None`.
    pub fn at_most(self, column: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.compared(column, " <= ", value)
    }

    /// `column < value`; no condition when `value` is `None`.
    pub fn below(self, column: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.compared(column, " < ", value)
    }

    /// One of `texts` in the column; no condition when there are none.
    pub fn any_of(mut self, column: &'static str, texts: &[String]) -> Self {
        if !texts.is_empty() {
            let placeholders: Vec<String> =
                texts.iter().map(|text| self.bind(text.as_str().into())).collect();
            self.sql.extend([" AND ", column, " IN (", &placeholders.join(", "), ")"]);
        }
        self
    }

    /// A condition that takes nothing from the caller.
    pub fn holds(mut self, condition: &'static str) -> Self {
        self.sql.extend([" AND ", condition]);
        self
    }

    /// A row of `base` (which ends in its `WHERE` and uses `$1` alone) in which each of these columns is equal.
    pub fn exists(
        mut self,
        base: &'static str,
        equal: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Self {
        self.sql.extend([" AND EXISTS (", base]);
        for (column, value) in equal {
            let placeholder = self.bind(value);
            self.sql.extend([" AND ", column, " = ", &placeholder]);
        }
        self.sql.push(')');
        self
    }

    /// Rows that come after `last` in descending order of both columns: the next page.
    pub fn before(
        self,
        columns: (&'static str, &'static str),
        last: Option<(impl Into<Value>, impl Into<Value>)>,
    ) -> Self {
        self.both(columns, " < ", last)
    }

    /// Rows that come after `last` in ascending order of both columns: the next page.
    pub fn after(
        self,
        columns: (&'static str, &'static str),
        last: Option<(impl Into<Value>, impl Into<Value>)>,
    ) -> Self {
        self.both(columns, " > ", last)
    }

    /// Rows that are `last` or come before it in descending order of both columns.
    pub fn down_to(
        self,
        columns: (&'static str, &'static str),
        last: Option<(impl Into<Value>, impl Into<Value>)>,
    ) -> Self {
        self.both(columns, " >= ", last)
    }

    fn both(
        mut self,
        columns: (&'static str, &'static str),
        sign: &str,
        last: Option<(impl Into<Value>, impl Into<Value>)>,
    ) -> Self {
        if let Some((first, second)) = last {
            let (one, two) = (self.bind(first.into()), self.bind(second.into()));
            self.sql.extend([" AND (", columns.0, ", ", columns.1, ")", sign, "(", &one, ", ", &two, ")"]);
        }
        self
    }
}

/// Refuses a statement that is not bound to its tenant.
fn names_its_tenant(sql: &'static str) -> Result<()> {
    // A text of the program is looked through once and remembered by where it lies; this runs before every statement.
    static SEEN: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
    let place = (sql.as_ptr().addr() as u64) << 16 | (sql.len() as u64 & 0xffff);
    let slot = SEEN.get((place >> 20) as usize % SEEN.len());
    if slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == place) {
        return Ok(());
    }
    if !is_bound(sql) {
        let what = format!("a tenant's statement must mention tenant_id and $1: {sql}");
        return Err(Error::Misuse(what));
    }
    if let Some(slot) = slot {
        slot.store(place, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether a statement mentions `tenant_id` and `$1`.
fn is_bound(sql: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit();
    let numbers = sql.split('$').skip(1);
    let mut firsts = numbers.filter_map(|rest| rest.strip_prefix('1'));
    sql.contains("tenant_id") && firsts.any(|rest| !rest.starts_with(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_without_its_tenant_is_refused() {
        for (sql, fine) in [
            ("SELECT 1 FROM runs WHERE tenant_id = $1", true),
            ("SELECT 1 FROM runs WHERE id = $1", false),
            ("SELECT 1 FROM runs WHERE tenant_id = $10", false),
            ("SELECT 1 FROM runs WHERE tenant_id = $12 AND id = $1", true),
            ("SELECT tenant_id FROM runs", false),
        ] {
            assert_eq!(is_bound(sql), fine, "{sql}");
        }
    }

    #[test]
    fn a_filter_numbers_its_placeholders_from_two() {
        let filter = Where::new()
            .eq("status", Some("queued"))
            .eq("agent", None::<&str>)
            .before(("created_at", "id"), Some((5_i64, 6_i64)));
        assert_eq!(filter.sql, " AND status = $2 AND (created_at, id) < ($3, $4)");
        assert_eq!(filter.params, [Value::from("queued"), Value::Int(5), Value::Int(6)]);
        let words = ["a".to_owned(), "b".to_owned()];
        let filter = Where::new()
            .any_of("status", &words)
            .any_of("kind", &[])
            .at_least("at", Some(1_i64))
            .below("at", Some(2_i64))
            .at_most("id", None::<i64>)
            .holds("x IS NULL")
            .exists("SELECT 1 FROM t WHERE tenant_id = $1", [("k", "v".into()), ("n", Value::Int(3))]);
        let want = " AND status IN ($2, $3) AND at >= $4 AND at < $5 AND x IS NULL \
                    AND EXISTS (SELECT 1 FROM t WHERE tenant_id = $1 AND k = $6 AND n = $7)";
        assert_eq!(filter.sql, want);
        assert_eq!(filter.params.len(), 6);
    }
}
