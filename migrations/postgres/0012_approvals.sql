-- Questions that are open already: their steps stand in journals, which only a worker reads. Each run that waits for a time
-- is due once, and whoever takes it up writes the rows that it lacks. A run that waits for a person waits for a time too.
-- Not even the owner of a table sees its rows while row-level security is forced.

ALTER TABLE runs NO FORCE ROW LEVEL SECURITY;
UPDATE runs SET wake_at = 0 WHERE finished_at IS NULL AND owner IS NULL AND wake_at > 0 AND status <> 'queued';
ALTER TABLE runs FORCE ROW LEVEL SECURITY;

-- Row-level security and grants of 0012.
ALTER TABLE approvals ENABLE ROW LEVEL SECURITY;
ALTER TABLE approvals FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON approvals TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON approvals TO lantern_app;
