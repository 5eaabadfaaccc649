-- Secrets: what a tenant hands in and nobody reads back, in versions, sealed under data keys of their own.
--
-- secret_keys has the data keys of a tenant's secrets, wrapped by the master key; the newest seals, the others open what was not sealed
-- anew yet. A key goes when no version is sealed under it. last_version is the number of the newest version that there ever was;
-- revision counts changes. enabled is 0 or 1: the newest version that is enabled is the one that counts. secret of a provider is the name
-- of the secret that its key is, where it has none of its own.

CREATE TABLE secret_keys (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    version BIGINT NOT NULL,
    wrapped BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, version)
);

CREATE TABLE secrets (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE secret_versions (
    tenant_id BYTES NOT NULL,
    secret_id BYTES NOT NULL,
    version BIGINT NOT NULL,
    key_version BIGINT NOT NULL,
    sealed BYTES NOT NULL,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, secret_id, version),
    FOREIGN KEY (tenant_id, secret_id) REFERENCES secrets (tenant_id, id),
    FOREIGN KEY (tenant_id, key_version) REFERENCES secret_keys (tenant_id, version)
);
CREATE INDEX secret_versions_by_key ON secret_versions (tenant_id, key_version);

ALTER TABLE llm_providers ADD COLUMN secret TEXT;
