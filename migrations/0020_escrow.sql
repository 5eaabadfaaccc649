-- Proxied model calls: caps of a tenant and of its keys, what was spent of them, and who may spend what is left.
--
-- owner is `tenant`, or `key:` and the id of an API key. An account is one owner's money of one period that began at began_at; held
-- is the sum of the slices that processes took of it, each in a row of its own until it is spent, given back, or charged after a
-- crash. calls holds the records of calls: one row a commit, in the stream of the process that wrote it, chained like a journal.

CREATE TABLE caps (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    owner TEXT NOT NULL,
    period TEXT NOT NULL,
    cap BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, owner, period)
);

CREATE TABLE accounts (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    owner TEXT NOT NULL,
    period TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    held BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, owner, period, began_at)
);

CREATE TABLE slices (
    tenant_id BYTES NOT NULL,
    process BYTES NOT NULL,
    n BIGINT NOT NULL,
    owner TEXT NOT NULL,
    period TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    held BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, process, n)
);
CREATE INDEX slices_by_process ON slices (process);
CREATE INDEX slices_by_expiry ON slices (expires_at);

CREATE TABLE calls (
    tenant_id BYTES NOT NULL,
    process BYTES NOT NULL,
    first_seq BIGINT NOT NULL,
    n BIGINT NOT NULL,
    at BIGINT NOT NULL,
    format BIGINT NOT NULL,
    bytes BYTES NOT NULL,
    body BYTES,
    chain BYTES NOT NULL
);
CREATE UNIQUE INDEX calls_by_stream ON calls (tenant_id, process, first_seq);
CREATE INDEX calls_by_time ON calls (tenant_id, at);
