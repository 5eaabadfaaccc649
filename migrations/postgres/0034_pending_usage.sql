-- Row-level security and grants of 0034. The system role finds the tenants that have something to add up, and reads nothing of it.

ALTER TABLE usage_pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_pending FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON usage_pending TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON usage_pending TO lantern_system USING (true);
GRANT SELECT, INSERT, DELETE ON usage_pending TO lantern_app;
GRANT SELECT (tenant_id) ON usage_pending TO lantern_system;
