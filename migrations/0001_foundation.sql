-- The foundation: who there is, what runs, and what happened.
--
-- One text for both databases, in the portable subset: ids are 16 bytes, times are microseconds since 1970, money is
-- micro-dollars, JSON is TEXT that nobody queries inside. The runner replaces the one type the databases spell
-- differently. Every tenant table starts with tenant_id and its keys do too, so that no row can name another
-- tenant's row, and so that an id chosen by one tenant never collides with (or reveals) another's.

CREATE TABLE tenants (
    tenant_id BYTES NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    tier TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- email_key is the address in lower case: one account for each address, whatever the tenant.
CREATE TABLE users (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- Data-encryption keys, wrapped by the master key. Deleting a row shreds everything sealed under it.
CREATE TABLE subject_keys (
    tenant_id BYTES NOT NULL,
    subject TEXT NOT NULL,
    wrapped BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, subject)
);

CREATE TABLE api_keys (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    key_hash BYTES NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_by BYTES,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE agents (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    labels TEXT NOT NULL,
    avatar_url TEXT,
    style_prompt TEXT,
    system_prompt TEXT,
    current_version_id BYTES,
    created_by BYTES,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    archived_at BIGINT,
    version BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

-- Immutable: an agent changes by gaining a version.
CREATE TABLE agent_versions (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    agent_id BYTES NOT NULL,
    number BIGINT NOT NULL,
    digest BYTES NOT NULL,
    manifest TEXT NOT NULL,
    created_by BYTES,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, agent_id, number),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);

-- The projection of a run's journal, its lease (owner, epoch), its next due time (wake_at, when nobody owns it) and
-- the count of its pokes. version is the last event's seq. error_code and finished_at are written once.
CREATE TABLE runs (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    agent_id BYTES NOT NULL,
    agent_name TEXT NOT NULL,
    agent_version_id BYTES NOT NULL,
    status TEXT NOT NULL,
    trigger_kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    chain BYTES NOT NULL,
    owner BYTES,
    epoch BIGINT NOT NULL,
    pokes BIGINT NOT NULL,
    wake_at BIGINT,
    spent BIGINT NOT NULL,
    held BIGINT NOT NULL,
    tokens_in BIGINT NOT NULL,
    tokens_out BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    parent_run_id BYTES,
    parent_step TEXT,
    session_id BYTES,
    depth BIGINT NOT NULL,
    labels TEXT NOT NULL,
    error_code TEXT,
    idempotency_key TEXT,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, idempotency_key),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_version_id) REFERENCES agent_versions (tenant_id, id)
);

CREATE INDEX runs_by_time ON runs (tenant_id, created_at, id);
CREATE INDEX runs_by_agent ON runs (tenant_id, agent_name, created_at, id);
CREATE INDEX runs_by_session ON runs (tenant_id, session_id, created_at) WHERE session_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (tenant_id, parent_run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_by_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_due ON runs (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;

-- One row an append: bytes holds the event envelopes, body the sealed contents or the name of the blob that does.
-- No foreign key to runs: the guarded update in the same transaction is the proof that the run is there, and a
-- check by the database would cost every append a second look-up.
CREATE TABLE journal (
    tenant_id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    first_seq BIGINT NOT NULL,
    n BIGINT NOT NULL,
    at BIGINT NOT NULL,
    format BIGINT NOT NULL,
    bytes BYTES NOT NULL,
    body BYTES,
    chain BYTES NOT NULL
);

CREATE UNIQUE INDEX journal_by_run ON journal (tenant_id, run_id, first_seq);

-- What came from outside for a run that somebody may be driving. The driver drains it and deletes it in one append.
CREATE TABLE inbox (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    key TEXT NOT NULL,
    input BYTES NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, run_id, key),
    FOREIGN KEY (tenant_id, run_id) REFERENCES runs (tenant_id, id)
);

-- What must go out and must be found without loading its run.
CREATE TABLE outbox (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BYTES NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, run_id, key),
    FOREIGN KEY (tenant_id, run_id) REFERENCES runs (tenant_id, id)
);

CREATE INDEX outbox_due ON outbox (due_at);

CREATE TABLE llm_providers (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    provider TEXT NOT NULL,
    base_url TEXT,
    api_key BYTES,
    key_mask TEXT,
    models TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, provider)
);

-- The system's own: which processes are alive, and what the installation remembers.
CREATE TABLE processes (
    id BYTES NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value BYTES NOT NULL
);
