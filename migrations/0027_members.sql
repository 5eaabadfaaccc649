-- Invitations and password resets: letters of one use that are handed on by people, of which only the digest is kept.
--
-- invited_by is a person or a key: what one of them handed out is taken back with them. One address is invited once at a time,
-- and a person has one reset. Both end by themselves.

CREATE TABLE invitations (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    id BYTES NOT NULL,
    hash BYTES NOT NULL,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    role TEXT NOT NULL,
    invited_by BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, email_key)
);
CREATE INDEX invitations_by_time ON invitations (tenant_id, created_at, id);

CREATE TABLE password_resets (
    tenant_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    hash BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE INDEX users_by_time ON users (tenant_id, created_at, id);

-- Where a sign-in came from and what the program there called itself, for its owner to know it by.
ALTER TABLE sign_ins ADD COLUMN source TEXT;
ALTER TABLE sign_ins ADD COLUMN client TEXT;
