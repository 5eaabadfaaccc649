-- Runs whose spans are to be exported, and up to which of their events they were. A row comes with its run, where traces are made, and
-- goes when the run is over and all of it was taken by the collector. Until due_at somebody has it in hand.

CREATE TABLE traces (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    run_id BYTES NOT NULL,
    seq BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, run_id)
);
CREATE INDEX traces_due ON traces (due_at);
