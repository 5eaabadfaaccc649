-- Row-level security and grants of 0020. The system role prolongs the slices of a living process and finds those of a dead one;
-- only their tenant changes what they hold. Records of calls are only added.

ALTER TABLE caps ENABLE ROW LEVEL SECURITY;
ALTER TABLE caps FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON caps TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON caps TO lantern_app;

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON accounts TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE ON accounts TO lantern_app;

ALTER TABLE slices ENABLE ROW LEVEL SECURITY;
ALTER TABLE slices FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON slices TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON slices TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON slices TO lantern_app;
GRANT SELECT, UPDATE (expires_at) ON slices TO lantern_system;

ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON calls TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT ON calls TO lantern_app;
