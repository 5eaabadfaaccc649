-- Limits that the operator sets for one tenant: a JSON object of those that differ from the server's, under their names in the
-- configuration file. No tenant writes its own.

CREATE TABLE tenant_limits (
    tenant_id BYTES NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    limits TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at BIGINT NOT NULL
);
