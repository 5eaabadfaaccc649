-- When the session ends that a ticket was asked for with: a stream that the ticket opens ends with it. Nothing for a key,
-- which is looked up when its ticket is used.

ALTER TABLE tickets ADD COLUMN session_ends_at BIGINT;
