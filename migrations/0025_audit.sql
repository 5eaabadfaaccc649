-- The audit log: who did what, one entry a row, each with the hash of what it says and of the entry before it.
--
-- before_digest and after_digest are of what was changed, where there is such. times counts calls that differ in nothing that is said here.
-- Nobody's name or address of mail stands in it: principal_id leads to them while they are there. audit_heads is how far a log has come, and
-- guards an append; mark is a mac over it under a key that the database does not have.

CREATE TABLE audit_entries (
    tenant_id BYTES NOT NULL,
    id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    principal_id BYTES,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status BIGINT NOT NULL,
    code TEXT,
    times BIGINT NOT NULL,
    before_digest BYTES,
    after_digest BYTES,
    request_id BYTES NOT NULL,
    source TEXT,
    hash BYTES NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_entries_by_action ON audit_entries (tenant_id, action, id);
CREATE INDEX audit_entries_by_principal ON audit_entries (tenant_id, principal_id, id);

CREATE TABLE audit_heads (
    tenant_id BYTES NOT NULL PRIMARY KEY REFERENCES tenants (tenant_id),
    size BIGINT NOT NULL,
    hash BYTES NOT NULL,
    mark BYTES NOT NULL
);
