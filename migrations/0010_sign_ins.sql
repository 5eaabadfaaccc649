-- Sign-ins: one row for each time somebody signed in, for as long as it lasts.
--
-- An access token names its row and counts while the row is there. generation is that of the one refresh token that is good
-- now; each use makes the next. An older one that comes again was copied: the row goes. Signing out removes the row too.

CREATE TABLE sign_ins (
    tenant_id BYTES NOT NULL,
    id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
CREATE INDEX sign_ins_by_user ON sign_ins (tenant_id, user_id, used_at);

-- A person's ticket names their sign-in, so that it opens nothing once they have signed out.
ALTER TABLE tickets ADD COLUMN sign_in_id BYTES;
