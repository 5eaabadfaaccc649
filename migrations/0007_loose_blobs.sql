-- Blobs that no append names: announced here before they are put, and gone from here in the transaction that names them.
--
-- stage says how far one is from being removed (0 put, 1 overdue, 2 doomed), due_at when it is looked at next.

CREATE TABLE loose_blobs (
    tenant_id BYTES NOT NULL,
    digest BYTES NOT NULL,
    stage BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);
CREATE INDEX loose_blobs_due ON loose_blobs (due_at);
