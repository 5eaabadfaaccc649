-- Row-level security and grants of 0007. The sweep looks across tenants; what it may write decides nothing but when a
-- blob is removed.

ALTER TABLE loose_blobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE loose_blobs FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON loose_blobs TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON loose_blobs TO lantern_system USING (true);
GRANT SELECT, INSERT, DELETE ON loose_blobs TO lantern_app;
GRANT SELECT, UPDATE (stage, due_at) ON loose_blobs TO lantern_system;
