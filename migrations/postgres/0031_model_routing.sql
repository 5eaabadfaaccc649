-- Row-level security and grants of 0031.

ALTER TABLE model_routing ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_routing FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON model_routing TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE ON model_routing TO lantern_app;
