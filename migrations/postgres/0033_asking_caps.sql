-- Row-level security and grants of 0033.

ALTER TABLE cap_waits ENABLE ROW LEVEL SECURITY;
ALTER TABLE cap_waits FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON cap_waits TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON cap_waits TO lantern_app;
