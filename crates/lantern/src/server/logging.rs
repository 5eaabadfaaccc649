//! Logs go to stderr: text for people, JSON lines for machines. `LOG_LEVEL` takes the usual filter directives.
//!
//! Invariant: a line that cannot be written (a full disk, a reader that is gone) is lost, and nothing else is.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use super::advice::Advice;
use crate::env;

/// Changes what is logged by a log that was started.
type Filter = Box<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>;
static FILTER: OnceLock<Filter> = OnceLock::new();

/// Logs this from now on, unless the environment says what.
pub(super) fn set(level: &str) -> Result<()> {
    if env::get(env::LOG_LEVEL).is_some() {
        return Ok(());
    }
    let filter = EnvFilter::try_new(level).context("the level of the log")?;
    FILTER.get().map_or(Ok(()), |change| change(filter))
}

/// Whether this says what is logged.
pub(super) fn is_level(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}

/// Starts logging at `level` unless the environment says otherwise; fails when it says what is no level.
pub(crate) fn start(level: &str, machine: bool) -> Result<()> {
    let text = env::get(env::LOG_LEVEL).unwrap_or_else(|| level.to_owned());
    let filter = EnvFilter::try_new(&text).with_context(|| {
        let next = format!(
            "set {} to error, warn, info, debug, or directives such as info,lantern_store=debug",
            env::LOG_LEVEL
        );
        Advice::config(format!("{} is {text:?}", env::LOG_LEVEL), next)
    })?;
    let terminal = std::io::stderr().is_terminal();
    // The library reports a line that it cannot write by `eprintln!`, which panics when stderr is what is broken.
    let base = tracing_subscriber::fmt().log_internal_errors(false);
    let base = base.with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // A second start in one process keeps the first subscriber, which is what tests want.
    // The list of spans has the innermost one, too.
    if machine && !terminal {
        let base = base.json().with_current_span(false).with_filter_reloading();
        let handle = base.reload_handle();
        FILTER.get_or_init(|| Box::new(move |filter| Ok(handle.reload(filter)?)));
        drop(base.try_init());
    } else {
        let base = base.with_filter_reloading();
        let handle = base.reload_handle();
        FILTER.get_or_init(|| Box::new(move |filter| Ok(handle.reload(filter)?)));
        drop(base.try_init());
    }
    Ok(())
}
