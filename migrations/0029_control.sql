-- What the control plane knows besides: of which time zone the days of a cap are, how often settings were changed, what a session may
-- cost, and what people thought of runs.
--
-- zone is a name of the IANA database; nothing is UTC. A session's cost_gone is what those of its runs cost that were deleted. The body
-- of a feedback is what was said in it, sealed; nothing when nothing was, or when the content of its run was removed.

ALTER TABLE caps ADD COLUMN zone TEXT;

ALTER TABLE tenant_settings ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tenant_settings ADD COLUMN caps_revision BIGINT NOT NULL DEFAULT 0;

ALTER TABLE sessions ADD COLUMN cost_max BIGINT;
ALTER TABLE sessions ADD COLUMN cost_gone BIGINT NOT NULL DEFAULT 0;

CREATE TABLE feedback (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    agent_id BYTES NOT NULL,
    score BIGINT NOT NULL,
    preferred BIGINT NOT NULL,
    source TEXT NOT NULL,
    body BYTES,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX feedback_by_run ON feedback (tenant_id, run_id, created_at);
CREATE INDEX feedback_by_agent ON feedback (tenant_id, agent_id, created_at);
