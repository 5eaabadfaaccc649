-- Workloads: runs that are a program in a box. What was said in one is in its journal; here is where its box stands, what it wrote,
-- sealed, some lines a row, and what a tenant may have at once.
--
-- state is pending, spawning, running, draining, terminated or failed. Only the node that took a workload changes it after that.
-- reason is exited, timed_out, stopped, not_made or lost. lines counts what it wrote, dropped what was not kept of it.

CREATE TABLE workloads (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    run_id BYTES NOT NULL,
    isolation TEXT NOT NULL,
    backend TEXT NOT NULL,
    degraded BIGINT NOT NULL,
    state TEXT NOT NULL,
    node TEXT,
    grace BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    reason TEXT,
    exit_code BIGINT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    PRIMARY KEY (tenant_id, run_id)
);
CREATE INDEX workloads_by_time ON workloads (tenant_id, created_at, run_id);
CREATE INDEX workloads_by_end ON workloads (tenant_id, ended_at);
CREATE INDEX workloads_by_node ON workloads (node, ended_at);

CREATE TABLE workload_logs (
    tenant_id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    line BIGINT NOT NULL,
    n BIGINT NOT NULL,
    body BYTES NOT NULL,
    PRIMARY KEY (tenant_id, run_id, line),
    FOREIGN KEY (tenant_id, run_id) REFERENCES workloads (tenant_id, run_id)
);

-- taken counts workloads that were asked for: whoever asks for one changes it, and so waits for whoever did before.
CREATE TABLE runtime_quotas (
    tenant_id BYTES NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    concurrent_max BIGINT,
    compute_max BIGINT,
    egress_gb_max BIGINT,
    cost_max BIGINT,
    hard BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    updated_at BIGINT
);
