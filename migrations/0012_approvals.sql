-- Questions to people: a narrow row for each, written in the transaction of the append that asks or decides.
--
-- What is asked, of whom, and who decided stands in the run's journal, at asked_seq and closed_seq; a row has no words of
-- anybody. agent_name is the run's, kept for lists, as in runs. No foreign key to runs, as for the journal: a row is removed
-- with its run.

CREATE TABLE approvals (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    step TEXT NOT NULL,
    agent_name TEXT NOT NULL,
    status TEXT NOT NULL,
    asked_seq BIGINT NOT NULL,
    closed_seq BIGINT,
    asked_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    closed_at BIGINT,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX approvals_by_status ON approvals (tenant_id, status, asked_at, id);
CREATE INDEX approvals_by_agent ON approvals (tenant_id, agent_name, status, asked_at, id);
CREATE INDEX approvals_by_run ON approvals (tenant_id, run_id, asked_at, id);
