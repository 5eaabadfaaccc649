-- What a tenant says may not be, in the Cedar language. Each saving is a version; none is ever changed, and the newest is in force.
--
-- otherwise is what is done about what no policy speaks of: allow or deny. mode is enforce, observe (what is forbidden is told, and
-- happens) or off (nothing is asked). digest names text and otherwise.

CREATE TABLE policies (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    version BIGINT NOT NULL,
    digest BYTES NOT NULL,
    text TEXT NOT NULL,
    otherwise TEXT NOT NULL,
    mode TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, version)
);
