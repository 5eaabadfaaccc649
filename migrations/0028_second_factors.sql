-- Second factors: the secret of a person's authenticator app, sealed, and codes for when the app is gone.
--
-- One that is not confirmed counts for nothing yet. used_step is that of the last code that was taken: none is taken twice. Of a
-- recovery code the digest is kept, until it is used.

CREATE TABLE second_factors (
    tenant_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    secret BYTES NOT NULL,
    used_step BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE TABLE recovery_codes (
    tenant_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    hash BYTES NOT NULL,
    PRIMARY KEY (tenant_id, user_id, hash),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
