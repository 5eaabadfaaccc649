//! PostgreSQL below the facade: two pools, a transaction that begins with its first statement, the one-trip batch, and
//! the transaction that takes the appends of many runs along.
//!
//! Invariant: every transaction of the app role says whose it is (`app.tenant_id`, local to the transaction) before
//! or with its first statement, so row-level security shows it that tenant alone. A connection goes back to its pool
//! only after its transaction has ended; one that was abandoned half-way is closed.

use std::future::Future;
use std::iter::once;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::FutureExt as _;
use futures_util::future::{join, maybe_done};
use lantern_types::{Secret, TenantId};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

use super::lanes::{Answered, Lanes, Told, Turn};
use super::tls::Way;
use super::tx::{Batch, Conn, Expect, Step, Tx, Work};
use super::{Mode, PostgresOptions, Role, migrate};
use crate::error::{Error, Result, Source};
use crate::notify::Hint;
use crate::value::{Row, Value};

/// How long a caller waits for a connection before it is told to come back.
const WAIT: Duration = Duration::from_secs(10);
/// How long a database may take to answer before its connection counts as lost: longer than the server itself lets a
/// statement take.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// The most bytes that PostgreSQL takes in one field, rounded down.
const FIELD_MAX: usize = 1_000_000_000;
/// The role that serves tenants, and the one that finds runs and accounts.
pub(super) const APP: &str = "lantern_app";
pub(super) const SYSTEM: &str = "lantern_system";
/// What the server enforces on every session of ours.
const SESSION: &str = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000";
/// Besides, for the role that claims: whatever the statistics say, rows are taken from an index in its order. Whoever believes that
/// there are next to none would gather all that ever were due, and sort them at every look.
const SYSTEM_SESSION: &str = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000 \
    -c enable_bitmapscan=off";

/// The pools of the two roles that serve.
pub(super) struct Pools {
    app: Pool,
    system: Pool,
    lanes: Lanes,
    way: Way,
}

impl Pools {
    pub(super) async fn open(options: &PostgresOptions) -> Result<Self> {
        let way = parse(&options.app_url)?;
        let app = pool(way.clone(), options.connections.max(1))?;
        let system = pool(parse_for(&options.system_url, SYSTEM_SESSION)?, (options.connections / 4).max(2))?;
        let client = app.get().await.map_err(pool_fault)?;
        way.warn(client.as_ref()).await;
        serves_as(client.as_ref(), APP).await?;
        walled(client.as_ref()).await?;
        migrate::check_postgres(client.as_ref()).await?;
        drop(client);
        serves_as(system.get().await.map_err(pool_fault)?.as_ref(), SYSTEM).await?;
        Ok(Self { app, system, lanes: Lanes::default(), way })
    }

    /// How to connect as the app role, for the connection that listens.
    pub(super) const fn way(&self) -> &Way {
        &self.way
    }

    /// The app role's pool, for the connection that notifies.
    pub(super) const fn app(&self) -> &Pool {
        &self.app
    }

    pub(super) async fn run<T>(&self, role: Role, mode: Mode, work: Work<T>) -> Result<(T, Vec<Hint>)> {
        let pool = if role == Role::System { &self.system } else { &self.app };
        let client = pool.get().await.map_err(pool_fault)?;
        let mut tx = Tx::new(Conn::Postgres(Session::new(client, begin(role, mode))));
        let outcome = work(&mut tx).await;
        let settled = tx.settle(outcome);
        if let Conn::Postgres(session) = tx.conn {
            session.end(settled.is_ok() && mode == Mode::Write).await?;
        }
        settled
    }

    /// Commits a batch: with others of its tenant when it can be said in one statement, else by itself.
    pub(super) async fn submit(&self, tenant: TenantId, batch: Arc<Batch>) -> Result<Vec<u64>> {
        if batch.as_one.is_none() {
            return self.alone(tenant, &batch).await;
        }
        let answer = match self.lanes.enter(tenant, &batch) {
            Ok(turn) => Answered::Lead(turn),
            Err(answer) => {
                answer.await.map_err(|_| Error::unavailable("whoever committed for it has gone"))?
            }
        };
        let told = match answer {
            Answered::Lead(turn) => self.lead(turn, tenant, &batch).await?,
            Answered::Told(told) => told,
        };
        match told {
            Told::Committed(true) => Ok(vec![1; batch.steps.len()]),
            Told::Committed(false) => Err(Error::Conflict),
            Told::Lost(error) => Err(error),
            Told::Alone => self.alone(tenant, &batch).await,
        }
    }

    /// Commits a batch and those that wait behind it, and tells them.
    async fn lead(&self, turn: Turn, tenant: TenantId, own: &Batch) -> Result<Told> {
        let client = self.app.get().await.map_err(pool_fault)?;
        let mut session = Session::new(client, begin(Role::App(tenant), Mode::Write));
        // Not earlier: whoever came while there was no connection goes with it.
        let company = turn.company();
        let others = company.iter().map(|waiting| &*waiting.batch);
        let batches: Vec<&Batch> = once(own).chain(others).collect();
        let mut statements = Vec::with_capacity(batches.len());
        for sql in batches.iter().filter_map(|batch| batch.as_one) {
            statements.push(session.prepared(sql).await?);
        }
        let outcome = session.together(&tenant.into(), &statements, &batches).await;
        // Before the answers, so that the next group is under way while they are taken in.
        drop(turn);
        let tell = |index: usize| match &outcome {
            Ok(done) => Told::Committed(done.get(index).copied().unwrap_or_default()),
            Err(error) if error.is_transient() => Told::Lost(error.echo()),
            Err(_) => Told::Alone,
        };
        for (index, waiting) in company.into_iter().enumerate() {
            // It may have gone; what is committed stays committed.
            drop(waiting.answer.send(Answered::Told(tell(index + 1))));
        }
        Ok(tell(0))
    }

    /// Sends `BEGIN`, the tenant, every statement and `COMMIT` as one write and reads all the answers. A count that
    /// is not as expected is made an error inside the database, so that the `COMMIT` already on its way undoes all.
    async fn alone(&self, tenant: TenantId, batch: &Batch) -> Result<Vec<u64>> {
        let client = self.app.get().await.map_err(pool_fault)?;
        let mut session = Session::new(client, begin(Role::App(tenant), Mode::Write));
        let statements = session.prepare_all(&batch.steps).await?;
        session.pipeline(&tenant.into(), &batch.steps, &statements).await
    }
}

/// Refuses to serve as another role than `wanted`, or one that has its rights. A superuser has every right and serves
/// nobody.
async fn serves_as(client: &Client, wanted: &'static str) -> Result<()> {
    let sql = "SELECT CAST(current_user AS TEXT), current_user = $1 OR EXISTS (SELECT 1
        FROM pg_roles mine, pg_roles wanted WHERE mine.rolname = current_user AND NOT mine.rolsuper
        AND wanted.rolname = $1 AND pg_has_role(mine.oid, wanted.oid, 'USAGE'))";
    let row = client.query_one(sql, &[&wanted]).await.map_err(fault)?;
    let found = row.try_get(0).map_err(fault)?;
    if row.try_get(1).map_err(fault)? { Ok(()) } else { Err(Error::Role { wanted, found }) }
}

/// Refuses to change tables as a role that only serves.
pub(super) async fn owns(client: &Client) -> Result<()> {
    let row = client.query_one("SELECT CAST(current_user AS TEXT)", &[]).await.map_err(fault)?;
    let found: String = row.try_get(0).map_err(fault)?;
    if [APP, SYSTEM].contains(&found.as_str()) {
        return Err(Error::Role { wanted: "the owner", found });
    }
    Ok(())
}

/// Refuses to serve tenants as a role that row-level security does not hold.
async fn walled(client: &Client) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)";
    match client.query_one(sql, &[]).await.and_then(|row| row.try_get::<_, i64>(0)).map_err(fault)? {
        0 => Ok(()),
        _ => {
            Err(Error::Misuse("the app role bypasses row-level security: connect as lantern_app".to_owned()))
        }
    }
}

/// The first message of a transaction. The tenant is 32 hex digits, so nothing in it needs quoting.
fn begin(role: Role, mode: Mode) -> String {
    let begin = match mode {
        Mode::Read | Mode::Glance => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Mode::Write => "BEGIN",
    };
    match role {
        Role::App(tenant) => format!("{begin}; SET LOCAL app.tenant_id = '{}'", hex::encode(tenant.bytes())),
        Role::System => begin.to_owned(),
        #[cfg(feature = "testing")]
        Role::Nobody => begin.to_owned(),
    }
}

/// A pooled connection inside one transaction.
pub(super) struct Session {
    client: Option<Object>,
    begin: String,
    begun: bool,
    /// It has said nothing in time, or that it takes no writes: whoever comes next gets another.
    unfit: bool,
}

impl Session {
    const fn new(client: Object, begin: String) -> Self {
        Self { client: Some(client), begin, begun: false, unfit: false }
    }

    fn client(&self) -> Result<&Object> {
        self.client.as_ref().ok_or_else(|| Error::internal("a transaction was used after its end"))
    }

    /// Runs one request; the transaction's beginning travels with the first.
    async fn send<T>(
        &mut self,
        request: impl AsyncFnOnce(&Object) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let first = !std::mem::replace(&mut self.begun, true);
        let answer = if first {
            let client = self.client()?;
            let both = join(client.batch_execute(&self.begin), request(client));
            answered(both.map(|(begun, answer)| begun.and(answer))).await
        } else {
            answered(request(self.client()?)).await
        };
        self.judge(answer)
    }

    async fn prepared(&mut self, sql: &str) -> Result<Statement> {
        let answer = answered(self.client()?.prepare_cached(sql)).await;
        self.judge(answer)
    }

    /// Prepares the counting form of each statement; only a connection's first batch of a kind waits for this.
    async fn prepare_all(&mut self, steps: &[Step]) -> Result<Vec<Statement>> {
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(self.prepared(&counting(step.postgres.unwrap_or(step.sql), step.expect)).await?);
        }
        Ok(statements)
    }

    /// Remembers what an answer says about the connection.
    fn judge<T>(&mut self, answer: Option<Result<T>>) -> Result<T> {
        self.unfit |= matches!(answer, None | Some(Err(Error::ReadOnly)));
        answer.unwrap_or_else(|| Err(silent()))
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        tenant: Option<&Value>,
        params: &[Value],
    ) -> Result<Vec<Row>> {
        let statement = self.prepared(sql).await?;
        let params = bound(&statement, tenant.into_iter().chain(params))?;
        let rows = self.send(async |client| client.query(&statement, &params).await).await?;
        let names: Arc<[String]> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
        rows.iter().map(|row| read(row, &names)).collect()
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        tenant: Option<&Value>,
        params: &[Value],
    ) -> Result<u64> {
        let statement = self.prepared(sql).await?;
        let params = bound(&statement, tenant.into_iter().chain(params))?;
        self.send(async |client| client.execute(&statement, &params).await).await
    }

    #[cfg(feature = "testing")]
    pub(super) async fn prepare(&self, sql: &str) -> Result<()> {
        self.client()?.prepare(sql).await.map(drop).map_err(fault)
    }

    async fn end(mut self, commit: bool) -> Result<()> {
        if self.unfit {
            return Ok(());
        }
        if self.begun {
            let end = if commit { "COMMIT" } else { "ROLLBACK" };
            answered(self.client()?.batch_execute(end)).await.unwrap_or_else(|| Err(silent()))?;
        }
        self.give_back();
        Ok(())
    }

    async fn pipeline<'b>(
        mut self,
        tenant: &'b Value,
        steps: &'b [Step],
        statements: &[Statement],
    ) -> Result<Vec<u64>> {
        // All of them before anything is sent: the `COMMIT` on its way would not notice one that never left.
        let bind = |(step, statement): (&'b Step, _)| bound(statement, once(tenant).chain(&step.params));
        let params = steps.iter().zip(statements).map(bind).collect::<Result<Vec<_>>>()?;
        self.begun = true;
        let client = self.client()?;
        let calls = steps.iter().zip(statements).zip(params).map(|((step, statement), params)| {
            let call: Answer<'_> = Box::pin(change(client, step.expect, statement, params));
            call
        });
        let outcome = transaction(client, &self.begin, calls.collect()).await;
        self.ended(outcome)
    }

    /// Commits batches that are one statement each in one transaction, and answers which of them were done.
    async fn together(
        mut self,
        tenant: &Value,
        statements: &[Statement],
        batches: &[&Batch],
    ) -> Result<Vec<bool>> {
        let mut params = Vec::with_capacity(batches.len());
        for (batch, statement) in batches.iter().zip(statements) {
            let given = batch.steps.iter().flat_map(|step| &step.params);
            params.push(bound(statement, once(tenant).chain(given))?);
        }
        self.begun = true;
        let client = self.client()?;
        let calls = statements.iter().zip(&params).map(|(statement, params)| {
            let call: Answer<'_> = Box::pin(async { client.execute(statement, params).await.map_err(fault) });
            call
        });
        let outcome = transaction(client, &self.begin, calls.collect()).await;
        Ok(self.ended(outcome)?.into_iter().map(|count| count == 1).collect())
    }

    /// What became of a transaction whose `COMMIT` was sent along.
    fn ended(mut self, (ended, counts): (bool, Result<Vec<u64>>)) -> Result<Vec<u64>> {
        if ended && !matches!(counts, Err(Error::ReadOnly)) {
            // Also after a failed statement: its `COMMIT` has ended the transaction by undoing it.
            self.give_back();
        }
        counts
    }

    /// The transaction has ended: the connection may serve another.
    fn give_back(&mut self) {
        self.begun = false;
    }
}

/// A transaction that was not ended leaves with its connection, which tells the server to undo it; so does a connection
/// that is good for nobody.
impl Drop for Session {
    fn drop(&mut self) {
        if (self.begun || self.unfit)
            && let Some(client) = self.client.take()
        {
            // So are those that were made beside it, and whoever has mended the database need not wait for each to fail.
            if self.unfit
                && let Some(pool) = Object::pool(&client)
            {
                pool.retain(|_, _| false);
            }
            drop(Object::take(client));
        }
    }
}

/// What a database says to a request, if it says something in time.
async fn answered<T>(request: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Option<Result<T>> {
    let answer = tokio::time::timeout(ANSWER_MAX, request).await.ok()?;
    Some(answer.map_err(fault))
}

fn silent() -> Error {
    Error::unavailable("the database did not answer in time")
}

type Params<'a> = Vec<&'a (dyn ToSql + Sync)>;
type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64>> + Send + 'a>>;

async fn control(client: &Object, sql: &str) -> Result<u64> {
    client.batch_execute(sql).await.map(|()| 0).map_err(fault)
}

async fn change(client: &Object, expect: Expect, statement: &Statement, params: Params<'_>) -> Result<u64> {
    match (expect, client.query(statement, &params).await) {
        (Expect::Rows(n), Ok(_)) => Ok(n),
        (Expect::Any, Ok(rows)) => {
            let count = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose().map_err(fault)?;
            Ok(count.unwrap_or_default().unsigned_abs())
        }
        (Expect::Rows(_), Err(e)) if e.code() == Some(&SqlState::DIVISION_BY_ZERO) => Err(Error::Conflict),
        (_, Err(e)) => Err(fault(e)),
    }
}

/// Sends the beginning of a transaction, what it is for, and `COMMIT` without waiting in between, and reads all the
/// answers: whether the transaction has ended, and the counts or the first error.
async fn transaction(client: &Object, begin: &str, calls: Vec<Answer<'_>>) -> (bool, Result<Vec<u64>>) {
    let mut answers: Vec<Answer<'_>> = Vec::with_capacity(calls.len() + 2);
    answers.push(Box::pin(control(client, begin)));
    answers.extend(calls);
    answers.push(Box::pin(control(client, "COMMIT")));
    let Ok(answers) = tokio::time::timeout(ANSWER_MAX, in_order(answers)).await else {
        return (false, Err(silent()));
    };
    let ended = answers.last().is_some_and(Result::is_ok);
    // Without the answers to the first and the last, unless they are errors.
    let counts = answers.into_iter().collect::<Result<Vec<u64>>>();
    let counts = counts.map(|counts| counts.get(1..counts.len() - 1).unwrap_or_default().to_vec());
    (ended, counts)
}

/// Polls each of them once, in their order, which is the order in which the driver sends them; then waits for one
/// after another, which is how the server answers them.
async fn in_order(answers: Vec<Answer<'_>>) -> Vec<Result<u64>> {
    let mut answers: Vec<_> = answers.into_iter().map(maybe_done).collect();
    std::future::poll_fn(|cx| {
        for answer in &mut answers {
            let _polled = Pin::new(answer).poll(cx);
        }
        Poll::Ready(())
    })
    .await;
    let mut results = Vec::with_capacity(answers.len());
    for mut answer in answers {
        Pin::new(&mut answer).await;
        results.extend(Pin::new(&mut answer).take_output());
    }
    results
}

/// The statement wrapped so that it answers its row count, and fails when that is not the expected one. The divisor
/// comes from the rows themselves, so the planner cannot divide by zero ahead of time.
fn counting(sql: &str, expect: Expect) -> String {
    let answer = match expect {
        Expect::Any => "count(*)".to_owned(),
        Expect::Rows(n) => format!("1 / (CASE WHEN count(*) = {n} THEN 1 ELSE 0 END)"),
    };
    format!("WITH changed AS ({sql} RETURNING 1) SELECT {answer} FROM changed")
}

fn parse(url: &Secret<String>) -> Result<Way> {
    parse_for(url, SESSION)
}

fn parse_for(url: &Secret<String>, session: &str) -> Result<Way> {
    let mut way = Way::parse(url)?;
    let config = &mut way.config;
    if config.get_options().is_none() {
        config.options(session);
    }
    config.application_name("lantern").connect_timeout(WAIT).keepalives_idle(Duration::from_secs(30));
    Ok(way)
}

fn pool(way: Way, size: usize) -> Result<Pool> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(way.config, way.tls, recycling))
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        .build()
        .map_err(Error::internal)
}

/// One connection of its own, without the session limits, for work that is done once.
pub(super) async fn alone<T>(
    url: &Secret<String>,
    work: impl AsyncFnOnce(&Client) -> Result<T>,
) -> Result<T> {
    let (client, connection) = Way::parse(url)?.connect().await.map_err(fault)?;
    let (answer, _closed) = join(
        async move {
            let answer = work(&client).await;
            // Dropping the client ends the connection, and with it the other half of this join.
            drop(client);
            answer
        },
        connection,
    )
    .await;
    answer
}

/// Runs SQL of a test's own making on a connection of its own.
#[cfg(feature = "testing")]
pub(crate) async fn run_as_owner(url: &Secret<String>, sql: String) -> Result<()> {
    alone(url, async |client| client.batch_execute(&sql).await.map_err(fault)).await
}

/// The parameters of a statement. Checked here, because the driver would call a mistake of ours a lost connection.
fn bound<'a>(statement: &Statement, given: impl Iterator<Item = &'a Value>) -> Result<Params<'a>> {
    let given: Vec<&Value> = given.collect();
    let wanted = statement.params();
    if given.len() == wanted.len() && given.iter().zip(wanted).all(|(value, ty)| fits(value, ty)) {
        return Ok(given.into_iter().map(|value| value as &(dyn ToSql + Sync)).collect());
    }
    let given: Vec<_> = given.into_iter().map(kind).collect();
    Err(Error::Misuse(format!("a statement wants the parameters {wanted:?} and was given {given:?}")))
}

fn fits(value: &Value, ty: &Type) -> bool {
    match value {
        Value::Null => true,
        Value::Int(_) => *ty == Type::INT8,
        Value::Text(text) => *ty == Type::TEXT && text.len() <= FIELD_MAX,
        Value::Bytes(bytes) => *ty == Type::BYTEA && bytes.len() <= FIELD_MAX,
        Value::Id(_) | Value::Digest(_) => *ty == Type::BYTEA,
    }
}

/// A parameter's kind, for messages: never its content.
const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Int(_) => "int",
        Value::Text(_) => "text",
        Value::Bytes(_) | Value::Id(_) | Value::Digest(_) => "bytes",
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Source> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(int) => int.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
            Self::Id(id) => id.as_slice().to_sql(ty, out),
            Self::Digest(digest) => digest.as_slice().to_sql(ty, out),
        }
    }
    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::TEXT | Type::BYTEA)
    }
    to_sql_checked!();
}

fn read(row: &tokio_postgres::Row, names: &Arc<[String]>) -> Result<Row> {
    let value = |(index, column): (usize, &tokio_postgres::Column)| {
        let value = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index).map(Value::from),
            Type::INT4 => row.try_get::<_, Option<i32>>(index).map(|int| int.map(i64::from).into()),
            Type::TEXT => row.try_get::<_, Option<String>>(index).map(Value::from),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index).map(Value::from),
            ref ty => return Err(Error::Misuse(format!("the schema has no columns of type {ty}"))),
        };
        value.map_err(fault)
    };
    let values = row.columns().iter().enumerate().map(value).collect::<Result<Vec<_>>>()?;
    Ok(Row::new(Arc::clone(names), values))
}

fn pool_fault(error: PoolError) -> Error {
    match error {
        PoolError::Backend(e) => fault(e),
        other => Error::unavailable(other),
    }
}

pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

/// What a driver's error means to a caller.
pub(super) fn fault(error: tokio_postgres::Error) -> Error {
    let Some(code) = error.code() else {
        return Error::Unavailable(error.into());
    };
    match code.code() {
        "23505" | "23503" | "23001" => Error::Conflict,
        "23502" | "23514" => Error::Misuse(describe(&error)),
        "53100" => Error::Full,
        "25006" => Error::ReadOnly,
        "XX001" | "XX002" => Error::Corrupt(error.into()),
        // Values that no column takes, statements that do not fit the schema, rows that the role may not touch.
        other if other.starts_with("22") || other.starts_with("42") => Error::Misuse(describe(&error)),
        // Serialization failures and deadlocks, lost connections, resources, operators: all of them pass.
        other
            if ["40", "08", "53", "55", "57", "58", "28", "3D"]
                .iter()
                .any(|class| other.starts_with(class)) =>
        {
            Error::Unavailable(error.into())
        }
        _ => Error::Internal(error.into()),
    }
}
