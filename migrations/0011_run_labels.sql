-- Lists of runs along an index of their order, whatever chooses among them.
--
-- Runs of a conversation and children of a run are read in the order of lists, like those of an agent. How a run ended stands
-- in a column of its own, which is written once, with finished_at: an index of the status would cost every turn that changes
-- it, on PostgreSQL an entry in every index of the table. Labels stand beside their run, a row each; a value is the bytes of
-- its text, so that both databases find what begins alike. No foreign key to runs, as for the journal.

DROP INDEX runs_by_session;
CREATE INDEX runs_by_session ON runs (tenant_id, session_id, created_at, id) WHERE session_id IS NOT NULL;
DROP INDEX runs_by_parent;
CREATE INDEX runs_by_parent ON runs (tenant_id, parent_run_id, created_at, id) WHERE parent_run_id IS NOT NULL;

ALTER TABLE runs ADD COLUMN outcome TEXT;
CREATE INDEX runs_by_outcome ON runs (tenant_id, outcome, created_at, id) WHERE outcome IS NOT NULL;
CREATE INDEX runs_unsuccessful ON runs (tenant_id, agent_name, outcome, created_at, id) WHERE outcome <> 'succeeded';

CREATE TABLE run_labels (
    tenant_id BYTES NOT NULL,
    value BYTES NOT NULL,
    key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    run_id BYTES NOT NULL
);
CREATE UNIQUE INDEX run_labels_by_value ON run_labels (tenant_id, value, key, created_at, run_id);
