-- What two neighbouring versions must know of each other while they share a database.
--
-- format is the event format that a build must know to take the run up. A run that a build found it cannot read has the
-- reason beside it, and the build's name when that is no damage: it leaves the run to others. goes_on is the schema of the
-- oldest build that may work on what this migration made; without it, that is the migration's own.

ALTER TABLE runs ADD COLUMN format BIGINT NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN parked_by TEXT;
ALTER TABLE runs ADD COLUMN parked_reason TEXT;
ALTER TABLE migrations ADD COLUMN goes_on BIGINT;
