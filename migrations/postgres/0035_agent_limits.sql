-- Row-level security and grants of 0035.

ALTER TABLE day_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE day_counts FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON day_counts TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON day_counts TO lantern_app;

ALTER TABLE day_calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE day_calls FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON day_calls TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
GRANT SELECT, INSERT, DELETE ON day_calls TO lantern_app;
