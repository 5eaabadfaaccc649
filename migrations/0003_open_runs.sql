-- How many runs of a tenant are not over, without looking at those that are.

CREATE INDEX runs_open ON runs (tenant_id) WHERE finished_at IS NULL;
