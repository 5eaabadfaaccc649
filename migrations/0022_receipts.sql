-- Receipts: one for each run that is over, each a leaf of its tenant's append-only log.
--
-- receipts has what was signed, and attested signs the same as a statement of in-toto; runs.receipt is its number in the log, and -1 where there can be none because the run's
-- journal cannot be read. A log is its tiles: kind -1 holds the leaves' entries, 0 and up the hashes of the tree eight levels
-- apart, each with at most 256 of 32 bytes. log_heads is how far it has come, and what guards an append; log_checkpoints has
-- each head as it was signed. A signing key is sealed while it is in use, and only its public half is kept afterwards.

CREATE TABLE receipts (
    tenant_id BYTES NOT NULL,
    run_id BYTES NOT NULL,
    log_index BIGINT NOT NULL,
    log_size BIGINT NOT NULL,
    payload TEXT NOT NULL,
    signature BYTES NOT NULL,
    public_key BYTES NOT NULL,
    attested BYTES NOT NULL,
    issued_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, run_id),
    UNIQUE (tenant_id, log_index)
);

CREATE TABLE log_heads (
    tenant_id BYTES NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    origin TEXT NOT NULL,
    size BIGINT NOT NULL
);

CREATE TABLE log_tiles (
    tenant_id BYTES NOT NULL,
    kind BIGINT NOT NULL,
    n BIGINT NOT NULL,
    hashes BYTES NOT NULL,
    PRIMARY KEY (tenant_id, kind, n)
);

CREATE TABLE log_checkpoints (
    tenant_id BYTES NOT NULL,
    size BIGINT NOT NULL,
    note TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, size)
);

CREATE TABLE signing_keys (
    public_key BYTES NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    sealed BYTES,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX signing_keys_in_use ON signing_keys (purpose) WHERE retired_at IS NULL;

ALTER TABLE runs ADD COLUMN receipt BIGINT;
CREATE INDEX runs_without_receipt ON runs (finished_at) WHERE finished_at IS NOT NULL AND receipt IS NULL;
