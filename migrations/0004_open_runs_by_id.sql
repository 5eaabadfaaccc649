-- The open runs of a tenant, by id. Without the id a planner that has no statistics yet takes this index, the smallest
-- there is, to find one run, and then looks at every open run of the tenant for each append.

DROP INDEX runs_open;
CREATE INDEX runs_open ON runs (tenant_id, id) WHERE finished_at IS NULL;
