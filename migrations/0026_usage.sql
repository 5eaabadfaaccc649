-- What was used, by day: one row for each owner and thing, added to in the commit that settles what it cost. And budgets of agents.
--
-- usage_days: day is its midnight in UTC; owner as in accounts. kind `model` counts calls of the model `name` of a provider; `tool` calls of a tool;
-- `run` runs that ended so. cost is what the tenant's account of that day was charged, so that the account is the sum, and what a dead process was
-- charged with. caps.notify_at is the amount from which a warning is due, notify_at_pct percent of the cap; warnings holds those that were
-- given, one a period. calls.doors counts the records that are not of runs; rows from before this may have any.

CREATE TABLE usage_days (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    day BIGINT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    times BIGINT NOT NULL,
    tokens_in BIGINT NOT NULL,
    tokens_out BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, day, owner, kind, provider, name)
);

ALTER TABLE caps ADD COLUMN notify_at_pct BIGINT;
ALTER TABLE caps ADD COLUMN notify_at BIGINT;

CREATE TABLE warnings (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    owner TEXT NOT NULL,
    period TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    cap BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, owner, period, began_at)
);

ALTER TABLE agents ADD COLUMN run_cost_max BIGINT;
ALTER TABLE agents ADD COLUMN budget_at BIGINT;
CREATE INDEX agents_with_budget ON agents (tenant_id, id) WHERE budget_at IS NOT NULL;

ALTER TABLE calls ADD COLUMN doors BIGINT NOT NULL DEFAULT 1;
CREATE INDEX calls_of_doors ON calls (tenant_id, at) WHERE doors > 0;
