//! Emergency stops: set and lifted at random during the faults, for a tenant through the router or for everybody, and all of
//! them lifted in a calm world. And what must hold between the answers: nothing that costs or acts is admitted.

use std::collections::BTreeMap;

use lantern_engine::{Event, Fact, StepId};
use lantern_store::journal;
use lantern_store::stops::{self, NewStop, StopFilter, StopRow, server};
use lantern_types::{EffectClass, RunId, StopId, StopScope};
use serde_json::{Value, json};

use super::place::{Place, unread};
use crate::check::{Checked, Violation, demand};
use crate::rng::Rng;

/// A stop that was answered and that nobody has tried to lift.
#[derive(Debug)]
pub(super) struct Holding {
    id: StopId,
    /// Whose runs; `None` for everybody's.
    tenant: Option<usize>,
    /// How far each run had come at the answer; one that is not here was made since.
    heads: BTreeMap<RunId, i64>,
}

/// Now and then sets a stop, or lifts the one that holds.
pub(super) async fn perhaps(place: &mut Place, rng: &mut Rng) -> Checked {
    match place.stop.take() {
        Some(holding) if rng.chance(20) => lift(place, &holding).await,
        Some(holding) => {
            place.stop = Some(holding);
            Ok(())
        }
        None if rng.chance(8) => set(place, rng).await,
        None => Ok(()),
    }
}

async fn set(place: &mut Place, rng: &mut Rng) -> Checked {
    let tenant = rng.chance(70).then(|| usize::from(rng.chance(50)));
    let id = match tenant {
        Some(who) => {
            let body = json!({ "scope": "tenant", "reason": "too dear" });
            let asked = place.ask(who, "POST", "/v1/stops", Some(body)).await;
            let (status, answer) = asked.map_err(|detail| Violation { rule: "answers", detail })?;
            let fine = status == 201 || status == 503;
            demand(fine, "answers", || format!("a stop of tenant {who}: {status} {answer}"))?;
            answer.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok()).filter(|_| status == 201)
        }
        None => {
            let id = StopId::from_uuid(place.ids.uuid());
            let (reason, by, at) = ("too dear".to_owned(), "operator".to_owned(), place.clock.now());
            let new = NewStop { id, agent_name: None, reason, by, at };
            server::set(&place.db, new).await.ok().map(|()| id)
        }
    };
    place.tell(format!("a stop of {tenant:?} is set: {id:?}"));
    // A disk that does not answer may have written it all the same: then it holds, and nobody relies on it.
    let Some(id) = id else { return Ok(()) };
    let rows = place.everything().await?;
    let heads = rows.into_iter().map(|(told, row)| (told.id, row.version)).collect();
    place.stop = Some(Holding { id, tenant, heads });
    Ok(())
}

async fn lift(place: &mut Place, holding: &Holding) -> Checked {
    let done = match holding.tenant {
        Some(who) => {
            let path = format!("/v1/stops/{}", holding.id);
            let asked = place.ask(who, "DELETE", &path, None).await;
            let (status, answer) = asked.map_err(|detail| Violation { rule: "answers", detail })?;
            let fine = status == 204 || status == 503;
            demand(fine, "answers", || format!("lifting {}: {status} {answer}", holding.id))?;
            status == 204
        }
        None => server::lift(&place.db, holding.id, "operator".to_owned(), place.clock.now()).await.is_ok(),
    };
    place.tell(format!("the stop {} is lifted: {done}", holding.id));
    Ok(())
}

/// Nothing that costs or acts was admitted since the stop was answered.
pub(super) async fn kept(place: &Place) -> Checked {
    let Some(holding) = &place.stop else { return Ok(()) };
    for (told, row) in place.everything().await? {
        let head = holding.heads.get(&told.id).copied().unwrap_or_default();
        if holding.tenant.is_some_and(|who| who != told.tenant) || row.version <= head {
            continue;
        }
        let (_, mut events, _) = place.folded(&told, &row).await?;
        // What is admitted by the append that ends its run is let out by nobody.
        if row.finished_at.is_some() {
            let ends = journal::ends(&place.db, place.scope(&told), vec![told.id]).await.map_err(unread)?;
            let last = ends.into_iter().flatten().next().map_or(i64::MAX, |(_, last)| last.first_seq);
            events.retain(|event| i64::try_from(event.seq).is_ok_and(|seq| seq < last));
        }
        let late = admitted_after(&events, u64::try_from(head).unwrap_or_default());
        demand(late.is_none(), "halted means halted", || {
            format!("{}: {late:?} was admitted while {} held", told.id, holding.id)
        })?;
    }
    Ok(())
}

/// The first step with an effect that was let out after this event.
fn admitted_after(events: &[Event], head: u64) -> Option<&StepId> {
    let mut effects: BTreeMap<&StepId, EffectClass> = BTreeMap::new();
    for event in events {
        match &event.fact {
            Fact::StepRequested { step, effect, .. } => {
                effects.insert(step, *effect);
            }
            Fact::StepAdmitted { step, .. } | Fact::StepReissued { step, .. }
                if event.seq > head && effects.get(step) != Some(&EffectClass::Pure) =>
            {
                return Some(step);
            }
            _ => {}
        }
    }
    None
}

/// Lifts whatever holds, also what nobody was told of.
pub(super) async fn lift_all(place: &mut Place) -> Checked {
    place.stop = None;
    let filter = || StopFilter { holding: Some(true), before: None, limit: 1_000 };
    for tenant in &place.tenants {
        for StopRow { id, scope, .. } in
            stops::list(&place.db, tenant.scope, filter()).await.map_err(unread)?
        {
            let (by, at) = ("calm".to_owned(), place.clock.now());
            let lifted = match scope {
                StopScope::Server => server::lift(&place.db, id, by, at).await,
                StopScope::Agent | StopScope::Tenant => {
                    stops::lift(&place.db, tenant.scope, id, by, at).await
                }
            };
            lifted.map_err(unread)?;
        }
    }
    Ok(())
}
