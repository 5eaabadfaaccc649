-- Single sign-on: who somebody is to an issuer, and what is under way between a browser and one.
--
-- identities says which person of which tenant an issuer's subject is: one, whatever the tenant. email is what the issuer said when it
-- was linked. sso_flows has one row for each time that somebody was sent to an issuer, and sso_passes one for each time that they came
-- back and are not signed in yet. Neither has a tenant, because nobody knows yet whose it is, and neither has a secret: hash is the
-- digest of what was handed out, browser and bound are those of what must come beside it. wish and proof are JSON that nobody queries.

CREATE TABLE identities (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (issuer, subject),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
CREATE INDEX identities_by_user ON identities (tenant_id, user_id, created_at, id);

CREATE TABLE sso_flows (
    hash BYTES NOT NULL PRIMARY KEY,
    provider TEXT NOT NULL,
    browser BYTES NOT NULL,
    wish TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sso_flows_expiry ON sso_flows (expires_at);

CREATE TABLE sso_passes (
    hash BYTES NOT NULL PRIMARY KEY,
    bound BYTES,
    proof TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sso_passes_expiry ON sso_passes (expires_at);
