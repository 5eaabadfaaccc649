-- Row-level security and grants of 0016. The system role reads stops to count them. It may lock the table, which takes the
-- right to update, and no policy lets it change a row.

ALTER TABLE stops ENABLE ROW LEVEL SECURITY;
ALTER TABLE stops FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON stops TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON stops FOR SELECT TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE ON stops TO lantern_app;
GRANT SELECT, UPDATE ON stops TO lantern_system;

-- A tenant's append looks whether one holds; nobody but the operator writes one.
GRANT SELECT ON server_stops TO lantern_app;
GRANT SELECT, INSERT, UPDATE (lifted_by, lifted_at) ON server_stops TO lantern_system;
