-- How many signals a run keeps until something waits for them, and how many bytes of JSON these have together: as of its last
-- append that took one in or used one up. Who puts more into its inbox asks this, and folds no journal for it.

ALTER TABLE runs ADD COLUMN signals BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN signal_bytes BIGINT NOT NULL DEFAULT 0;
