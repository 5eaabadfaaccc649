-- Who goes first when more is due than there is room for.
--
-- priority orders the runs of one tenant, the highest first; between tenants it says nothing. The due runs of a tenant are
-- found by it, and whoever looks for the next tenant with due runs skips along the same index. How many runs of a tenant are
-- at work, which are those that have an owner, is counted in an index that has no others.

ALTER TABLE runs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_in_turn ON runs (tenant_id, priority, wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;
CREATE INDEX runs_at_work ON runs (tenant_id, id) WHERE owner IS NOT NULL;
