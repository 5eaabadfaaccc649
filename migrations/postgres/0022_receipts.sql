-- Row-level security and grants of 0022. Nobody changes or removes a signed head; a receipt goes with its run, and its number in
-- the log stays. Only the system role knows signing keys.

ALTER TABLE receipts ENABLE ROW LEVEL SECURITY;
ALTER TABLE receipts FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON receipts TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON receipts TO lantern_app;

ALTER TABLE log_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON log_heads TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE (size) ON log_heads TO lantern_app;

ALTER TABLE log_tiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_tiles FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON log_tiles TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE (hashes) ON log_tiles TO lantern_app;

ALTER TABLE log_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON log_checkpoints TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT ON log_checkpoints TO lantern_app;

GRANT SELECT, INSERT, UPDATE (sealed, retired_at) ON signing_keys TO lantern_system;
