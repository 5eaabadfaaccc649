//! Decisions whether a budget may be passed.
//!
//! Invariant: such a question is of an account, so its decision goes into the ledger and not into one run's inbox; every run that waits for
//! it looks there. It is decided once, not after its period, and by those who may set budgets.

use lantern_edge::{Code, Error, Result};
use lantern_policy::action::{Act as _, DecideApproval, SaveBudget, allows_to};
use lantern_policy::{Permit, Principal};
use lantern_store::approvals::ApprovalRow;
use lantern_store::escrow::asks::{self, Said};

use super::model::decided;
use super::{Shown, find, shown};
use crate::App;
use crate::features::runs::model::Decision;
use crate::features::runs::steer;

/// Lets more be spent, or says no, and wakes whoever waits.
pub(super) async fn decide(
    app: &App,
    permit: &Permit<DecideApproval>,
    row: ApprovalRow,
    decision: Decision,
) -> Result<Shown> {
    let Decision { approved, note, answer, more } = decision;
    if note.is_some() || answer.is_some() {
        let words = "a question about a budget takes `moreUsd`, and no note and no answer";
        return Err(Error::new(Code::InvalidRequest, words));
    }
    if more.is_some() && !approved {
        return Err(Error::new(Code::InvalidRequest, "`moreUsd` goes with a yes"));
    }
    may(&permit.actor().principal)?;
    let (scope, id, now) = (permit.scope(), row.id, app.clock.now());
    let said = Said { granted: approved, more, by: steer::by(permit.actor()) };
    let done = app.db.write(scope, move |tx| Box::pin(async move { asks::say(tx, id, &said, now).await }));
    let done = done.await?;
    let row = find(app, scope, id).await?;
    if !done {
        return Err(decided(&row));
    }
    tracing::info!(tenant = %scope.tenant(), approval = %id, approved, "said whether a budget may be passed");
    app.db.hub().wake();
    shown(app, scope, row).await
}

/// To let a budget be passed is to set it: who decides approvals of runs need not be who may.
fn may(principal: &Principal) -> Result<()> {
    if allows_to(principal, SaveBudget::NAME, SaveBudget::ACCESS) {
        return Ok(());
    }
    let code = match principal {
        Principal::User { .. } => Code::RoleMissing,
        Principal::Key { .. } => Code::ScopeMissing,
    };
    Err(Error::new(
        code,
        "whether a budget may be passed is for those who may set it: the role or scope admin",
    ))
}

/// Why `moreUsd` is refused for every other question.
pub(super) fn no_budget() -> Error {
    Error::new(Code::InvalidRequest, "`moreUsd` is for questions about a budget")
}
