-- Row-level security and grants of 0038. Nobody changes a version; every process reads what is in force for each tenant.

ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE policies FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON policies TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON policies FOR SELECT TO lantern_system USING (true);
GRANT SELECT, INSERT ON policies TO lantern_app;
GRANT SELECT ON policies TO lantern_system;
