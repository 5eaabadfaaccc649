-- What a tenant says of the choice among models: what counts when several would do, and which it means by a name of the catalogue's.
--
-- Without a strategy the server's holds. aliases is an object of lists of models, by name.

CREATE TABLE model_routing (
    tenant_id BYTES NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    strategy TEXT,
    aliases TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
