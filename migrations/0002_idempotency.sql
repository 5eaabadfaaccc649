-- What was answered to requests that brought an Idempotency-Key, for a day.
--
-- id is the digest of the path and the key, request that of the body. answer is sealed, because an answer may hold what is
-- shown once; it is null while the request is under way.

CREATE TABLE idempotency_keys (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    request BYTES NOT NULL,
    claimed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    answer BYTES,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (tenant_id, expires_at);
