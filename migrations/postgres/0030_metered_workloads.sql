-- Row-level security and grants of 0030.

ALTER TABLE workload_calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE workload_calls FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON workload_calls TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON workload_calls TO lantern_app;
