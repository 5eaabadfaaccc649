-- Caps that ask. A cap with on_limit `ask` is not passed until a person says that it may be; with `stop`, or without one, it is not passed.
--
-- accounts: more is what people granted beyond the cap in that period, the greatest number for all that comes; asks counts the questions that are
-- closed; refused is 1 once somebody said no. approvals: a row with an owner is of that account and not of its run, which is the first that
-- asked; what is asked stands in the row, because other runs wait for it when that one is gone. cap_waits names the runs that wait.

ALTER TABLE caps ADD COLUMN on_limit TEXT;

ALTER TABLE accounts ADD COLUMN more BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN asks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN refused BIGINT NOT NULL DEFAULT 0;

ALTER TABLE approvals ADD COLUMN owner TEXT;
ALTER TABLE approvals ADD COLUMN period TEXT;
ALTER TABLE approvals ADD COLUMN began_at BIGINT;
ALTER TABLE approvals ADD COLUMN cap BIGINT;
ALTER TABLE approvals ADD COLUMN spent BIGINT;
ALTER TABLE approvals ADD COLUMN hold BIGINT;
ALTER TABLE approvals ADD COLUMN more BIGINT;
ALTER TABLE approvals ADD COLUMN decided_by TEXT;

CREATE TABLE cap_waits (
    tenant_id BYTES NOT NULL REFERENCES tenants (tenant_id),
    owner TEXT NOT NULL,
    period TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    run_id BYTES NOT NULL,
    PRIMARY KEY (tenant_id, owner, period, began_at, run_id)
);
