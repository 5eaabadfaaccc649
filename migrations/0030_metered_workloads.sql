-- What the model calls of a workload cost, in its own row: spent and tokens are settled; held and tokens_held may still be used. A row
-- of workload_calls is a call that money is held for; whoever runs the workload again counts what is left of them as spent.
--
-- cap is the most that its run may spend; nothing for workloads from before, which may spend nothing.

ALTER TABLE workloads ADD COLUMN cap BIGINT;
ALTER TABLE workloads ADD COLUMN spent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workloads ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workloads ADD COLUMN calls BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workloads ADD COLUMN tokens_in BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workloads ADD COLUMN tokens_out BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workloads ADD COLUMN tokens_held BIGINT NOT NULL DEFAULT 0;

CREATE TABLE workload_calls (
    tenant_id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    call_id BYTES NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    hold BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, run_id, call_id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES workloads (tenant_id, run_id)
);
