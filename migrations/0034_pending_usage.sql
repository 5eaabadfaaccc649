-- What runs used and no slice was taken for: written by the append that ends it, and added up in the accounts and in usage_days by
-- whoever comes next, who removes it in the same transaction. at says in which days it counts; used is JSON and names no content.

CREATE TABLE usage_pending (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    run_id BYTES NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    used BYTES NOT NULL,
    PRIMARY KEY (tenant_id, run_id, seq)
);
