-- Questions that are open already: their steps stand in journals, which only a worker reads. Each run that waits for a time
-- is due once, and whoever takes it up writes the rows that it lacks. A run that waits for a person waits for a time too.

UPDATE runs SET wake_at = 0 WHERE finished_at IS NULL AND owner IS NULL AND wake_at > 0 AND status <> 'queued';
