-- Row-level security and grants of 0022. Whoever has the operator's configuration writes; every process reads all of them.
ALTER TABLE tenant_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_limits FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tenant_limits FOR SELECT TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON tenant_limits TO lantern_system USING (true);
GRANT SELECT ON tenant_limits TO lantern_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_limits TO lantern_system;
