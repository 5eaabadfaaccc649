-- Row-level security and grants of 0005. A ticket is found before anybody knows whose it is, and is used and swept by its
-- tenant alone. Nothing in it changes.

ALTER TABLE tickets ENABLE ROW LEVEL SECURITY;
ALTER TABLE tickets FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tickets TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON tickets TO lantern_system USING (true);
GRANT SELECT, INSERT, DELETE ON tickets TO lantern_app;
GRANT SELECT ON tickets TO lantern_system;
