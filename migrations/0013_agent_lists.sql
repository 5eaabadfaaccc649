-- Lists of agents along an index of their order: of the active ones, and of the archived ones. A list of all is read from both.

CREATE INDEX agents_active ON agents (tenant_id, created_at, id) WHERE archived_at IS NULL;
CREATE INDEX agents_archived ON agents (tenant_id, created_at, id) WHERE archived_at IS NOT NULL;
