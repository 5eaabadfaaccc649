-- Workloads have numbers, which a tenant's row of quotas counts. What happened to workloads is read in pages by them: the number of a
-- workload and the place of an event in its journal are one number. A workload of an earlier build beside this one has none.

ALTER TABLE workloads ADD COLUMN number BIGINT;
CREATE INDEX workloads_by_number ON workloads (tenant_id, number);
