//! Caps: how much the tenant, or one of its keys, may spend through the front doors in a day and in a month.
//!
//! Invariant: a cap refuses what comes after it and takes back nothing: lowered below what is spent and held, it is passed until
//! the period ends by as much as that was. Days and months are those of UTC.

use axum::extract::State;
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Body, Code, Error, Fields, Json, Model, Refusal, Result, Route};
use lantern_policy::action::{ReadCaps, SaveCap};
use lantern_policy::{Permit, Scope};
use lantern_store::escrow;
use lantern_types::call::{AccountId, Owner, Period};
use lantern_types::{ApiKeyId, MicroUsd};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

const KEY: &str = "SELECT id FROM api_keys WHERE tenant_id = $1 AND id = $2";

pub(crate) const STATEMENTS: &[&str] = &[KEY];

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/settings/caps", "Read what may be spent through the front doors, and what was", read),
        post_route("/v1/settings/caps", "Say what may be spent through the front doors", save)
            .refuses(&[Refusal::NotFound]),
    ]
}

/// What is to hold for an owner from now on: what is not said is not bounded.
struct Wanted {
    owner: Owner,
    caps: [(Period, Option<MicroUsd>); 2],
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.text("apiKeyId", 64);
        let id = key.as_deref().map(str::parse::<ApiKeyId>);
        let owner = match id {
            None => Some(Owner::Tenant),
            Some(Ok(id)) => Some(Owner::Key(id)),
            Some(Err(_)) => {
                fields.issue("apiKeyId", "expected the id of an API key");
                None
            }
        };
        let day = fields.dollars("maxCostUsdPerDay");
        let month = fields.dollars("maxCostUsdPerMonth");
        Some(Self { owner: owner?, caps: [(Period::Day, day), (Period::Month, month)] })
    }
}

/// What one owner may spend in a period, and what of it is gone.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SpendingCap)]
struct Shown {
    /// `tenant` or `apiKey`.
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_id: Option<String>,
    /// `day` or `month`.
    period: &'static str,
    /// When the period began.
    began_at: String,
    /// The most that may be spent in it; nothing bounds it without.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd: Option<f64>,
    /// What calls have cost.
    spent_usd: f64,
    /// What servers have set aside for calls.
    held_usd: f64,
}

async fn shown(app: &App, scope: Scope) -> Result<Vec<Shown>> {
    let now = app.clock.now();
    let caps = escrow::caps(&app.db, scope).await?;
    let accounts = escrow::accounts(&app.db, scope, Period::Month.began(now)).await?;
    let mut current: Vec<(AccountId, MicroUsd, MicroUsd)> =
        accounts.into_iter().filter(|(account, ..)| account.began_at == account.period.began(now)).collect();
    for cap in &caps {
        let account = AccountId::at(cap.owner, cap.period, now);
        if !current.iter().any(|(known, ..)| *known == account) {
            current.push((account, MicroUsd::ZERO, MicroUsd::ZERO));
        }
    }
    current.sort_by_key(|(account, ..)| *account);
    let show = |(account, spent, held): (AccountId, MicroUsd, MicroUsd)| {
        let cap = caps.iter().find(|cap| cap.owner == account.owner && cap.period == account.period);
        let (scope, api_key_id) = match account.owner {
            Owner::Tenant => ("tenant", None),
            Owner::Key(id) => ("apiKey", Some(id.to_string())),
            Owner::Agent(_) => ("agent", None),
        };
        Shown {
            scope,
            api_key_id,
            period: account.period.as_str(),
            began_at: account.began_at.to_string(),
            max_cost_usd: cap.map(|cap| cap.cap.to_wire()),
            spent_usd: spent.to_wire(),
            held_usd: held.to_wire(),
        }
    };
    Ok(current.into_iter().map(show).collect())
}

async fn read(permit: Permit<ReadCaps>, State(app): State<App>) -> Result<Json<Vec<Shown>>> {
    Ok(Json(shown(&app, permit.scope()).await?))
}

async fn save(
    permit: Permit<SaveCap>,
    State(app): State<App>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Vec<Shown>>> {
    let (scope, now) = (permit.scope(), app.clock.now());
    let Wanted { owner, caps } = wanted;
    let found = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if let Owner::Key(id) = owner
                && tx.one(KEY, &[id.into()]).await?.is_none()
            {
                return Ok(false);
            }
            for (period, cap) in caps {
                escrow::set_cap(tx, (owner, period), cap, now).await?;
            }
            Ok(true)
        })
    });
    if !found.await? {
        return Err(Error::new(Code::ApiKeyNotFound, "no such API key"));
    }
    app.db.hub().caps_changed();
    tracing::info!(tenant = %scope.tenant(), %owner, "said what may be spent");
    Ok(Json(shown(&app, scope).await?))
}
