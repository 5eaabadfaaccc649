-- The outcomes and labels of runs that are there. Not even the owner of a table sees its rows while row-level security is forced.

ALTER TABLE runs NO FORCE ROW LEVEL SECURITY;
UPDATE runs SET outcome = status WHERE finished_at IS NOT NULL;
INSERT INTO run_labels (tenant_id, value, key, created_at, run_id)
SELECT r.tenant_id, convert_to(e.value, 'UTF8'), e.key, r.created_at, r.id
FROM runs r, json_each_text(CAST(r.labels AS JSON)) e WHERE r.labels <> '{}';
ALTER TABLE runs FORCE ROW LEVEL SECURITY;

-- Row-level security and grants of 0011. A label is written and removed with its run, and never changes.
ALTER TABLE run_labels ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_labels FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON run_labels TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON run_labels TO lantern_app;
