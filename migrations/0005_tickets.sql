-- Tickets: each opens one event stream, in place of a credential that must not stand in an address.
--
-- hash is the digest of a ticket's text, which is stored nowhere. A ticket speaks for a key (key_id), or for a person as
-- their session knows them (the four columns after it). Its row goes with its use, or is swept when another is made.

CREATE TABLE tickets (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    hash BYTES NOT NULL UNIQUE,
    key_id BYTES,
    user_id BYTES,
    email TEXT,
    name TEXT,
    role TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hash)
);
CREATE INDEX tickets_expiry ON tickets (tenant_id, expires_at);
