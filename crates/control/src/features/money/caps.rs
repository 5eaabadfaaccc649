//! Caps: how much the tenant may spend in a day and in a month, one of its keys through the front doors, or the runs of an agent.
//!
//! Invariant: a cap refuses what comes after it and takes back nothing: lowered below what is spent and held, it is passed until
//! the period ends by as much as that was. Days and months are those of the zone that a cap names, or of UTC. An update that names a
//! revision happens on that revision or not at all.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::etag::{IfMatch, Live, Versioned};
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Body, Change, Code, Error, Fields, Json, Model, Refusal, Result, Route};
use lantern_policy::action::{ReadCaps, SaveCap};
use lantern_policy::{Permit, Scope};
use lantern_store::escrow::{self, Cap};
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
use lantern_types::{AgentId, ApiKeyId, MicroUsd, Zone};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;
use crate::features::agents;

const KEY: &str = "SELECT id FROM api_keys WHERE tenant_id = $1 AND id = $2";
const NAME: &str = "SELECT name FROM agents WHERE tenant_id = $1 AND id = $2";

pub(crate) const STATEMENTS: &[&str] = &[KEY, NAME];

const AGENT_NAME_BYTES_MAX: usize = 128;
const ZONE_BYTES_MAX: usize = 64;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/settings/caps", "Read what may be spent by calls and runs, and what was", read),
        post_route("/v1/settings/caps", "Say what may be spent by calls and runs", save)
            .conditional()
            .refuses(&[Refusal::NotFound]),
    ]
}

/// What is to hold for an owner from now on: what is not said stays, and `null` takes a cap away.
struct Wanted {
    whose: Whose,
    caps: [(Period, Change<MicroUsd>); 2],
    /// Of which zone the owner's days and months are from now on; `null` is UTC.
    zone: Change<Zone>,
    /// What the owner's caps do when they are reached.
    on_limit: Option<OnLimit>,
}

/// An owner as a request names it.
enum Whose {
    Owner(Owner),
    Agent(String),
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.text("apiKeyId", 64);
        let id = key.as_deref().map(str::parse::<ApiKeyId>);
        let agent = fields.text("agentName", AGENT_NAME_BYTES_MAX);
        let whose = match (id, agent) {
            (Some(Ok(_)), Some(_)) => {
                fields.issue("agentName", "name an API key or an agent, and not both");
                None
            }
            (None, Some(agent)) => Some(Whose::Agent(agent)),
            (None, None) => Some(Whose::Owner(Owner::Tenant)),
            (Some(Ok(id)), None) => Some(Whose::Owner(Owner::Key(id))),
            (Some(Err(_)), _) => {
                fields.issue("apiKeyId", "expected the id of an API key");
                None
            }
        };
        let day = fields.change_dollars("maxCostUsdPerDay");
        let month = fields.change_dollars("maxCostUsdPerMonth");
        let zone = match fields.change_text("timeZone", ZONE_BYTES_MAX) {
            Change::Keep => Change::Keep,
            Change::Clear => Change::Set(Zone::UTC),
            Change::Set(name) => match Zone::parse(&name) {
                Ok(zone) => Change::Set(zone),
                Err(unknown) => {
                    fields.issue("timeZone", unknown.to_string());
                    return None;
                }
            },
        };
        let on_limit = match fields.text("onLimit", 16).as_deref() {
            None => None,
            Some("stop") => Some(OnLimit::Hard),
            Some("ask") if !matches!(whose, Some(Whose::Owner(Owner::Key(_)))) => Some(OnLimit::Ask),
            Some("ask") => {
                fields.issue(
                    "onLimit",
                    "only calls are a key's, and calls do not wait for people: a cap of a key stops",
                );
                None
            }
            Some(_) => {
                fields.issue("onLimit", "expected `ask` or `stop`");
                None
            }
        };
        fields.refuse_unread();
        let says = (&day, &month, &zone) != (&Change::Keep, &Change::Keep, &Change::Keep);
        if !says && on_limit.is_none() {
            fields.issue(
                "maxCostUsdPerDay",
                "say this, `maxCostUsdPerMonth`, `onLimit` or `timeZone`; `null` takes a cap away",
            );
        }
        Some(Self { whose: whose?, caps: [(Period::Day, day), (Period::Month, month)], zone, on_limit })
    }
}

/// What one owner may spend in a period, and what of it is gone.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SpendingCap)]
struct Shown {
    /// `tenant`, `apiKey` or `agent`.
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_name: Option<String>,
    /// `day` or `month`.
    period: &'static str,
    /// Of which IANA zone the days and months of the cap are.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'static str>,
    /// What happens when it is reached: `ask`, whether runs may spend more, or `stop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_limit: Option<&'static str>,
    /// When the period began.
    began_at: String,
    /// The most that may be spent in it; nothing bounds it without.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd: Option<f64>,
    /// What calls and steps of runs have cost.
    spent_usd: f64,
    /// What servers have set aside for them.
    held_usd: f64,
}

async fn shown(app: &App, scope: Scope) -> Result<Vec<Shown>> {
    let now = app.clock.now();
    let caps = escrow::caps(&app.db, scope).await?;
    let bounded: Vec<AccountId> = caps.iter().map(|cap| cap.account(now)).collect();
    let since = bounded.iter().map(|account| account.began_at).chain([Period::Month.began(now)]).min();
    let accounts = escrow::accounts(&app.db, scope, since.unwrap_or(now)).await?;
    // Where a cap bounds, its own account; else that of UTC. What an agent spends without a cap is no matter of caps.
    let shows = |account: &AccountId| {
        let cap = caps.iter().find(|cap| cap.owner == account.owner && cap.period == account.period);
        match cap {
            Some(cap) => cap.account(now) == *account,
            None => {
                !matches!(account.owner, Owner::Agent(_)) && account.began_at == account.period.began(now)
            }
        }
    };
    let mut current: Vec<(AccountId, MicroUsd, MicroUsd)> =
        accounts.into_iter().filter(|(account, ..)| shows(account)).collect();
    for account in bounded {
        if !current.iter().any(|(known, ..)| *known == account) {
            current.push((account, MicroUsd::ZERO, MicroUsd::ZERO));
        }
    }
    current.sort_by_key(|(account, ..)| *account);
    let names = names(app, scope, capped(&caps)).await?;
    let show = |(account, spent, held): (AccountId, MicroUsd, MicroUsd)| {
        let cap = caps.iter().find(|cap| cap.owner == account.owner && cap.period == account.period);
        let (scope, api_key_id, agent_name) = match account.owner {
            Owner::Tenant => ("tenant", None, None),
            Owner::Key(id) => ("apiKey", Some(id.to_string()), None),
            Owner::Agent(id) => ("agent", None, names.get(&id).cloned()),
        };
        Shown {
            scope,
            api_key_id,
            agent_name,
            period: account.period.as_str(),
            time_zone: cap.map(|cap| cap.zone.name()),
            on_limit: cap.map(|cap| if cap.on_limit == OnLimit::Ask { "ask" } else { "stop" }),
            began_at: account.began_at.to_string(),
            max_cost_usd: cap.map(|cap| cap.cap.to_wire()),
            spent_usd: spent.to_wire(),
            held_usd: held.to_wire(),
        }
    };
    Ok(current.into_iter().map(show).collect())
}

/// The agents that have caps.
pub(super) fn capped(caps: &[Cap]) -> BTreeSet<AgentId> {
    let agent = |cap: &Cap| match cap.owner {
        Owner::Agent(id) => Some(id),
        Owner::Tenant | Owner::Key(_) => None,
    };
    caps.iter().filter_map(agent).collect()
}

/// The names of these agents.
pub(super) async fn names(
    app: &App,
    scope: Scope,
    agents: BTreeSet<AgentId>,
) -> Result<BTreeMap<AgentId, String>> {
    if agents.is_empty() {
        return Ok(BTreeMap::new());
    }
    let read = app.db.read(scope, move |tx| {
        Box::pin(async move {
            let mut names = BTreeMap::new();
            for id in agents {
                if let Some(row) = tx.one(NAME, &[id.into()]).await? {
                    names.insert(id, row.text("name")?);
                }
            }
            Ok(names)
        })
    });
    Ok(read.await?)
}

/// Caps as they stand; the tag is of what is set, and not of what was spent.
type Answer = Live<Json<Vec<Shown>>>;

async fn answer(app: &App, scope: Scope) -> Result<Answer> {
    // The revision first: what is shown may be newer than it, and then the next update by it is refused.
    let revision = escrow::revision(&app.db, scope).await?;
    Ok(Live(Versioned { body: Json(shown(app, scope).await?), revision }))
}

async fn read(permit: Permit<ReadCaps>, State(app): State<App>) -> Result<Answer> {
    answer(&app, permit.scope()).await
}

async fn save(
    permit: Permit<SaveCap>,
    State(app): State<App>,
    headers: HeaderMap,
    Body(wanted): Body<Wanted>,
) -> Result<Answer> {
    let (scope, now) = (permit.scope(), app.clock.now());
    let asked = IfMatch::of(&headers)?;
    let Wanted { whose, caps, zone, on_limit } = wanted;
    let owner = match whose {
        Whose::Owner(owner) => owner,
        Whose::Agent(name) => Owner::Agent(agents::service::get(&app, scope, &name).await?.0.id),
    };
    let found = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if let Owner::Key(id) = owner
                && tx.one(KEY, &[id.into()]).await?.is_none()
            {
                return Ok(Err(Error::new(Code::ApiKeyNotFound, "no such API key")));
            }
            if let Err(outdated) = asked.check(escrow::locked_revision(tx, now).await?) {
                return Ok(Err(outdated));
            }
            for (period, change) in caps {
                let cap = match change {
                    Change::Keep => continue,
                    Change::Clear => None,
                    Change::Set(cap) => Some(cap),
                };
                escrow::set_cap(tx, (owner, period), cap, now).await?;
            }
            if let Some(on_limit) = on_limit {
                escrow::set_on_limit(tx, owner, on_limit, now).await?;
            }
            if let Change::Set(zone) = zone {
                escrow::set_zone(tx, owner, zone, now).await?;
            }
            Ok(Ok(()))
        })
    });
    found.await??;
    app.db.hub().caps_changed();
    // Those that waited for people to say whether one may be passed look again.
    app.db.hub().wake();
    tracing::info!(tenant = %scope.tenant(), %owner, "said what may be spent");
    answer(&app, scope).await
}
