//! `lantern models`: the models that can be called by their names.

use serde_json::Value;

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, text};
use crate::cli::table::Column;

const COLUMNS: &[Column] = &[Column::whole("MODEL"), Column::text("PROVIDER")];

/// Lists them.
pub(crate) async fn run(console: &Console, api: &Api) -> Result<(), Failure> {
    let answer = api.fetch(Call::get("/v1/models")).await?;
    if console.json() {
        return console.value(&answer);
    }
    let models = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    if models.is_empty() {
        console.note("no provider is configured: save one with `lantern providers set`");
        return Ok(());
    }
    let row = |model: &Value| vec![line(text(model, "id")), line(text(model, "owned_by"))];
    console.table(COLUMNS, &models.iter().map(row).collect::<Vec<_>>())
}
