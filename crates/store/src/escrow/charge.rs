//! What a dead process is charged, and where it counts.
//!
//! Invariant: whatever a slice is charged in, it counts wherever the calls that held it would have counted: in the days and months of
//! UTC of its owner, and in those of the tenant. Which calls held it nobody knows any more, so where several slices of
//! an owner may have been held by the same calls, the greatest counts.

use std::collections::BTreeMap;

use lantern_types::call::{AccountId, Owner, Period};
use lantern_types::{At, MicroUsd, Overflow};

use super::{SliceRow, key_order};

/// What one account is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charge {
    /// How much of it is spent.
    pub(super) spent: MicroUsd,
    /// How much of it is held no more.
    pub(super) freed: MicroUsd,
}

/// What each account is charged for these slices of one dead process, which was last known to live at `alive`.
///
/// A slice is charged in its own account. Beside that, what no slice of an owner was taken of, because no cap bounded it, is
/// charged with the most that the owner's slices of one period come to; the accounts of the tenant, if no cap of its own bounded
/// it, with the sum of that over its keys and agents, because no call is of two of them.
pub(super) fn charges(slices: &[SliceRow], alive: At) -> Result<Vec<(AccountId, Charge)>, Overflow> {
    let mut charges = BTreeMap::new();
    for slice in slices {
        add(&mut charges, slice.account, slice.held, slice.held)?;
        // Where the cap has days of its own, those of UTC count beside them.
        let of_utc = AccountId::at(slice.account.owner, slice.account.period, alive);
        if !is_of_utc(slice.account) {
            add(&mut charges, of_utc, slice.held, MicroUsd::ZERO)?;
        }
    }
    for (owner, most) in totals(slices)?.into_iter().filter(|(_, most)| !most.is_zero()) {
        for period in Period::ALL {
            let account = AccountId::at(owner, period, alive);
            if !slices.iter().any(|slice| is_of((owner, period), slice)) {
                add(&mut charges, account, most, MicroUsd::ZERO)?;
            }
        }
    }
    Ok(charges.into_values().collect())
}

type Charges = BTreeMap<(String, &'static str, At), (AccountId, Charge)>;

fn add(charges: &mut Charges, account: AccountId, spent: MicroUsd, freed: MicroUsd) -> Result<(), Overflow> {
    let (_, charge) = charges.entry(key_order(account)).or_insert_with(|| (account, Charge::default()));
    charge.spent = charge.spent.plus(spent)?;
    charge.freed = charge.freed.plus(freed)?;
    Ok(())
}

/// Whether an account is one of UTC: every slice of such an account is charged where sums over days look.
fn is_of_utc(account: AccountId) -> bool {
    account == AccountId::at(account.owner, account.period, account.began_at)
}

fn is_of((owner, period): (Owner, Period), slice: &SliceRow) -> bool {
    (slice.account.owner, slice.account.period) == (owner, period)
}

/// The most that each owner's calls may have cost by these slices, and the tenant's.
fn totals(slices: &[SliceRow]) -> Result<BTreeMap<Owner, MicroUsd>, Overflow> {
    let mut by = BTreeMap::<(Owner, Period), MicroUsd>::new();
    for slice in slices {
        let held = by.entry((slice.account.owner, slice.account.period)).or_default();
        *held = held.plus(slice.held)?;
    }
    let mut totals = BTreeMap::<Owner, MicroUsd>::new();
    for ((owner, _), held) in by {
        let most = totals.entry(owner).or_default();
        *most = held.max(*most);
    }
    if !totals.contains_key(&Owner::Tenant) {
        let all = totals.values().try_fold(MicroUsd::ZERO, |all, most| all.plus(*most))?;
        totals.insert(Owner::Tenant, all);
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use lantern_types::{AgentId, ApiKeyId, Zone};
    use uuid::Uuid;

    use super::*;

    const NOON: At = At::from_micros(43_200_000_000);
    const AGENT: Owner = Owner::Agent(AgentId::from_uuid(Uuid::from_u128(1)));
    const KEY: Owner = Owner::Key(ApiKeyId::from_uuid(Uuid::from_u128(2)));

    fn slice(account: AccountId, held: i64) -> SliceRow {
        SliceRow { n: 1, account, held: MicroUsd::from_micros(held), expires_at: NOON }
    }

    fn utc(owner: Owner, period: Period) -> AccountId {
        AccountId::at(owner, period, NOON)
    }

    /// Slices, and what they are charged in.
    type Case<'a> = (&'a [SliceRow], &'a [(AccountId, i64)]);

    /// What each account is charged, and that what is held no more is what the slices held.
    fn spent(slices: &[SliceRow]) -> Vec<(AccountId, i64)> {
        let charges = charges(slices, NOON).unwrap();
        for (account, charge) in &charges {
            let held =
                slices.iter().filter(|slice| slice.account == *account).map(|slice| slice.held.micros());
            assert_eq!(charge.freed.micros(), held.sum::<i64>(), "{account:?}");
        }
        charges.into_iter().map(|(account, charge)| (account, charge.spent.micros())).collect()
    }

    #[test]
    fn a_slice_counts_in_every_sum_that_its_calls_would_have_counted_in() {
        let tokyo = AccountId::within(Zone::parse("Asia/Tokyo").unwrap(), AGENT, Period::Day, NOON);
        let [day, month] = Period::ALL;
        let of = |owner| [utc(owner, day), utc(owner, month)];
        let ([agent_day, agent_month], [key_day, key_month]) = (of(AGENT), of(KEY));
        let [tenant_day, tenant_month] = of(Owner::Tenant);
        let table: &[Case<'_>] = &[
            (&[], &[]),
            // The tenant's day is capped: its month knows.
            (&[slice(tenant_day, 5)], &[(tenant_day, 5), (tenant_month, 5)]),
            // Both are, and the same calls may have held both.
            (&[slice(tenant_day, 5), slice(tenant_month, 8)], &[(tenant_day, 5), (tenant_month, 8)]),
            // Two slices of one account.
            (&[slice(tenant_day, 5), slice(tenant_day, 2)], &[(tenant_day, 7), (tenant_month, 7)]),
            // An agent's alone counts in the tenant's sums.
            (&[slice(agent_day, 5)], &[(agent_day, 5), (agent_month, 5), (tenant_day, 5), (tenant_month, 5)]),
            // Beside the tenant's own, which says better what the tenant's calls held.
            (
                &[slice(agent_day, 5), slice(tenant_day, 9)],
                &[(agent_day, 5), (agent_month, 5), (tenant_day, 9), (tenant_month, 9)],
            ),
            // No call is of a key and of an agent.
            (
                &[slice(agent_day, 5), slice(key_month, 7)],
                &[
                    (agent_day, 5),
                    (agent_month, 5),
                    (key_day, 7),
                    (key_month, 7),
                    (tenant_day, 12),
                    (tenant_month, 12),
                ],
            ),
            // A cap with days of its own, and one of them moved meanwhile.
            (
                &[slice(tokyo, 5)],
                &[(tokyo, 5), (agent_day, 5), (agent_month, 5), (tenant_day, 5), (tenant_month, 5)],
            ),
            (
                &[slice(tokyo, 5), slice(agent_day, 2)],
                &[(tokyo, 5), (agent_day, 7), (agent_month, 7), (tenant_day, 7), (tenant_month, 7)],
            ),
        ];
        for (slices, expected) in table {
            let mut expected = expected.to_vec();
            expected.sort_by_key(|(account, _)| key_order(*account));
            assert_eq!(spent(slices), expected, "{slices:?}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_said() {
        let day = utc(Owner::Tenant, Period::Day);
        assert_eq!(charges(&[slice(day, i64::MAX), slice(day, 1)], NOON), Err(Overflow));
    }
}
