-- Row-level security and grants of 0024. A node that starts ends what it left behind, whosever it is.

ALTER TABLE workloads ENABLE ROW LEVEL SECURITY;
ALTER TABLE workloads FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON workloads TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON workloads TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON workloads TO lantern_app;
GRANT SELECT, UPDATE (state, reason, ended_at) ON workloads TO lantern_system;

ALTER TABLE workload_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE workload_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON workload_logs TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON workload_logs TO lantern_app;

ALTER TABLE runtime_quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE runtime_quotas FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON runtime_quotas TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE ON runtime_quotas TO lantern_app;
