-- Row-level security and grants of 0037. The system role takes rows in hand; what their runs' events say, only the tenant's own role reads.

ALTER TABLE traces ENABLE ROW LEVEL SECURITY;
ALTER TABLE traces FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON traces TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON traces TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE (seq, due_at), DELETE ON traces TO lantern_app;
GRANT SELECT, UPDATE (due_at) ON traces TO lantern_system;
