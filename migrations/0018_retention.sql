-- What was said is removed and what happened is kept.
--
-- content_removed_at is when a run's bodies became their digests; content_left is 1 while some are still to. A tenant's own
-- time is in microseconds: nothing for the server's, 0 for ever. Finished runs are found by when they ended.

ALTER TABLE runs ADD COLUMN content_removed_at BIGINT;
ALTER TABLE runs ADD COLUMN content_left BIGINT;
CREATE INDEX runs_with_content ON runs (tenant_id, finished_at) WHERE finished_at IS NOT NULL AND content_removed_at IS NULL;
CREATE INDEX runs_content_left ON runs (content_left) WHERE content_left IS NOT NULL;

CREATE TABLE tenant_settings (
    tenant_id BYTES NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    content_kept BIGINT,
    updated_at BIGINT NOT NULL
);
