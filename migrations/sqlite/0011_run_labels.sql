-- The outcomes and labels of runs that are there. The two databases take JSON apart in different words.

UPDATE runs SET outcome = status WHERE finished_at IS NOT NULL;
INSERT INTO run_labels (tenant_id, value, key, created_at, run_id)
SELECT r.tenant_id, CAST(e.value AS BLOB), e.key, r.created_at, r.id FROM runs r, json_each(r.labels) e
WHERE r.labels <> '{}';
