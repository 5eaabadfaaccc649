-- Row-level security and grants of 0015. Sessions that are watched are looked at across tenants; only their tenant changes them.

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sessions TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON sessions TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions TO lantern_app;
GRANT SELECT ON sessions TO lantern_system;

ALTER TABLE session_runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE session_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON session_runs TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON session_runs TO lantern_app;
