-- Emergency stops: while one holds, nothing that costs money or acts on something is admitted.
--
-- A row of stops is a tenant's: of one agent of it, or with no agent_name of all. One of server_stops halts everybody and
-- has no tenant, so no request writes it. Rows never change but for being lifted. stop_id is the stop that a run was halted
-- by when last one was, so that whoever lifts it finds the runs to wake.

CREATE TABLE stops (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    agent_name TEXT,
    reason TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at BIGINT NOT NULL,
    lifted_by TEXT,
    lifted_at BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX stops_holding ON stops (tenant_id) WHERE lifted_at IS NULL;
CREATE INDEX stops_by_time ON stops (tenant_id, set_at, id);

CREATE TABLE server_stops (
    id BYTES NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at BIGINT NOT NULL,
    lifted_by TEXT,
    lifted_at BIGINT
);
CREATE INDEX server_stops_holding ON server_stops (set_at) WHERE lifted_at IS NULL;

ALTER TABLE runs ADD COLUMN stop_id BYTES;
CREATE INDEX runs_stopped ON runs (stop_id) WHERE stop_id IS NOT NULL;
