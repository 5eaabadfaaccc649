-- Row-level security and grants of 0039. Only the system role knows what is under way; it finds a person by what an issuer calls them.

ALTER TABLE identities ENABLE ROW LEVEL SECURITY;
ALTER TABLE identities FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON identities TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON identities TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE (used_at), DELETE ON identities TO lantern_app;
GRANT SELECT ON identities TO lantern_system;

GRANT SELECT, INSERT, DELETE ON sso_flows, sso_passes TO lantern_system;
