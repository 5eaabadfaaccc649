-- Sessions: a row for each conversation, and one for each of its exchanges, which names the run that a message started.
--
-- exchanges counts them, and is the guard of the next one. No column says whether an exchange is going on: its run says it.
-- What was said stands in the journals of the runs; a row has no words of anybody. No foreign key to runs, as for the
-- journal: a run may be deleted before its session.

CREATE TABLE sessions (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    agent_id BYTES NOT NULL,
    agent_name TEXT NOT NULL,
    created_by BYTES NOT NULL,
    exchanges BIGINT NOT NULL,
    last_run_id BYTES,
    stopped_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX sessions_by_time ON sessions (tenant_id, updated_at, id);

CREATE TABLE session_runs (
    tenant_id BYTES NOT NULL,
    session_id BYTES NOT NULL,
    n BIGINT NOT NULL,
    run_id BYTES NOT NULL,
    PRIMARY KEY (tenant_id, session_id, n)
);

-- The exchange that is going on, without looking at those that are over.
CREATE INDEX runs_open_by_session ON runs (tenant_id, session_id) WHERE finished_at IS NULL AND session_id IS NOT NULL;
