-- What an agent may do so many times in a day: begin runs, and call each of its tools.
--
-- agents: runs_of_day_max is the most runs, tools_of_day_max a JSON object of tools and the most calls of each; nothing where nothing is bounded.
-- day_counts has how often what is bounded was begun on a day: what is `runs` or `tool:NAME`. day_calls has the steps that are counted, until
-- their run is over, so that none counts twice.

ALTER TABLE agents ADD COLUMN runs_of_day_max BIGINT;
ALTER TABLE agents ADD COLUMN tools_of_day_max TEXT;
CREATE INDEX agents_with_tool_limits ON agents (tenant_id, id) WHERE tools_of_day_max IS NOT NULL;

CREATE TABLE day_counts (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    agent_id BYTES NOT NULL,
    day BIGINT NOT NULL,
    what TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, day, what)
);

CREATE TABLE day_calls (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    run_id BYTES NOT NULL,
    step TEXT NOT NULL,
    PRIMARY KEY (tenant_id, run_id, step)
);
