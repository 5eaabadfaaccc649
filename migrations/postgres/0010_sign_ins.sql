-- Row-level security and grants of 0010. A sign-in is looked up before a request has a tenant, and changed by its tenant alone.

ALTER TABLE sign_ins ENABLE ROW LEVEL SECURITY;
ALTER TABLE sign_ins FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sign_ins TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON sign_ins TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_ins TO lantern_app;
GRANT SELECT ON sign_ins TO lantern_system;
