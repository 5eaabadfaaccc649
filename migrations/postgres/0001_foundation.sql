-- Row-level security and grants: what only PostgreSQL has.
--
-- Three roles, none made here (`lantern migrate --create-roles` does): the owner migrates and serves nobody,
-- lantern_app sees one tenant at a time, lantern_system sees across tenants on exactly the tables that leases and
-- sign-in need. A transaction of lantern_app that has not said whose it is sees nothing and writes nothing.

DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'users', 'subject_keys', 'api_keys', 'agents', 'agent_versions', 'runs',
                                'journal', 'inbox', 'outbox', 'llm_providers']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I TO lantern_app USING (tenant_id ='
            ' (SELECT decode(nullif(current_setting(''app.tenant_id'', true), ''''), ''hex'')))', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['tenants', 'users', 'api_keys', 'runs', 'inbox', 'outbox']
    LOOP
        EXECUTE format('CREATE POLICY every_tenant ON %I TO lantern_system USING (true)', name);
    END LOOP;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON users, subject_keys, api_keys, agents, runs, inbox, outbox, llm_providers TO lantern_app;
GRANT SELECT, INSERT, UPDATE ON tenants TO lantern_app;
-- Versions are immutable and the journal is append-only, even for a statement that forgot it.
GRANT SELECT, INSERT ON agent_versions TO lantern_app;
GRANT SELECT, INSERT, DELETE ON journal TO lantern_app;

GRANT SELECT ON tenants, users, api_keys, inbox TO lantern_system;
GRANT SELECT, UPDATE (owner, epoch, wake_at, pokes) ON runs TO lantern_system;
GRANT SELECT, UPDATE (due_at, attempts) ON outbox TO lantern_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON processes, settings TO lantern_system;

GRANT SELECT ON migrations TO lantern_app, lantern_system;

-- Every append updates its run's row; leave room on the page, so that the new version needs no new index entries.
ALTER TABLE runs SET (fillfactor = 70);
