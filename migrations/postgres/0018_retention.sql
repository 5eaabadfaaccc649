-- The journal stays append-only but for one change: a body becomes its digest, under the tag 2 and with the time behind it. The
-- grant names the column, the trigger the change. The digest is that of the sealed bytes, in the row or in a blob of that name,
-- so the hash chain is the same before and after.

CREATE FUNCTION journal_forgets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF length(NEW.body) = 41 AND get_byte(NEW.body, 0) = 2 AND substr(NEW.body, 2, 32) = (CASE get_byte(OLD.body, 0)
        WHEN 0 THEN sha256(substr(OLD.body, 2))
        WHEN 1 THEN substr(OLD.body, 2)
    END) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a body in the journal may become its digest and nothing else' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER journal_forgets BEFORE UPDATE ON journal FOR EACH ROW EXECUTE FUNCTION journal_forgets();
GRANT UPDATE (body) ON journal TO lantern_app;

-- Row-level security and grants of 0018. Whoever looks for what is due looks across tenants.
ALTER TABLE tenant_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_settings FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tenant_settings TO lantern_app USING (tenant_id =
    (SELECT decode(nullif(current_setting('app.tenant_id', true), ''), 'hex')));
CREATE POLICY every_tenant ON tenant_settings TO lantern_system USING (true);
GRANT SELECT, INSERT, UPDATE ON tenant_settings TO lantern_app;
GRANT SELECT ON tenant_settings TO lantern_system;
