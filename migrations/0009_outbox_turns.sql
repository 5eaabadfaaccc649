-- Rows of the outbox are taken by turns: some of each tenant's, the more urgent kinds first, the longest due first.

DROP INDEX outbox_due;
CREATE INDEX outbox_due ON outbox (tenant_id, kind, due_at);
