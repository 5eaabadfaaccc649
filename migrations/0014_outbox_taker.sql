-- Which process took a row: when it is gone, the row is due at once. Nothing while nobody took it, and for rows that an
-- earlier build took.

ALTER TABLE outbox ADD COLUMN taker BYTES;
