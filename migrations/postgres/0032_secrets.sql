-- Row-level security and grants of 0032. A data key is never written over.

ALTER TABLE secret_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON secret_keys TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON secret_keys TO lantern_app;

ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON secrets TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE (revision, last_version, updated_at), DELETE ON secrets TO lantern_app;

ALTER TABLE secret_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON secret_versions TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE (key_version, sealed, enabled), DELETE ON secret_versions TO lantern_app;
