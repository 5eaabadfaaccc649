//! What the schema checker finds, in the words of this API: paths with dots, below the field they are about.

use lantern_edge::{Code, Error, FieldError, Result};
use lantern_schema::{Busy, dotted};
use lantern_types::Dur;
use serde_json::Value;

use crate::App;

/// Problems that are reported; the rest would only repeat them.
const REPORTED_MAX: usize = 20;

/// What is wrong with the schema at `root`, if anything.
pub(crate) async fn problem(app: &App, root: &str, schema: &Value) -> Result<Option<FieldError>> {
    let found = app.inner.schemas.problem(schema).await.map_err(busy)?;
    let path = |pointer: &str| format!("{root}{}", dotted(pointer));
    Ok(found.map(|problem| FieldError { path: path(&problem.pointer), message: problem.message }))
}

/// How `value` breaks `schema`, each problem with its path below `root`.
pub(crate) async fn violations(
    app: &App,
    root: &str,
    schema: &Value,
    value: &Value,
) -> Result<Vec<FieldError>> {
    let found = app.inner.schemas.violations(schema, value, REPORTED_MAX).await.map_err(busy)?;
    let field = |violation: lantern_schema::Violation| FieldError {
        path: format!("{root}{}", dotted(&violation.pointer)),
        message: violation.message,
    };
    Ok(found.into_iter().map(field).collect())
}

fn busy(Busy: Busy) -> Error {
    Error::new(Code::Unavailable, "too many schemas are being checked at once").retry_after(Dur::from_secs(1))
}
