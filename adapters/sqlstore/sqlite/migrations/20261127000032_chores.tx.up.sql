-- When something is next due for jobs in each tenant that there is a log of: at once after a change, and else when the first of
-- its counters or its rows is over. It follows the tables by itself; what jobs are done with they say.
CREATE TABLE known (tenant BLOB NOT NULL PRIMARY KEY, due INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX known_due ON known (due, tenant);
--bun:split
INSERT INTO known SELECT tenant, 0 FROM audit_heads;
--bun:split
CREATE TRIGGER audit_heads_came AFTER INSERT ON audit_heads BEGIN INSERT INTO known (tenant, due) VALUES (NEW.tenant, 0) ON CONFLICT (tenant) DO UPDATE SET due = 0; END;
--bun:split
CREATE TRIGGER audit_heads_moved AFTER UPDATE ON audit_heads BEGIN UPDATE known SET due = 0 WHERE tenant = NEW.tenant AND due > 0; END;
--bun:split
CREATE TRIGGER folds_came AFTER INSERT ON folds BEGIN UPDATE known SET due = NEW.until WHERE tenant = NEW.tenant AND due > NEW.until; END;
--bun:split
CREATE TRIGGER dedupe_came AFTER INSERT ON dedupe BEGIN UPDATE known SET due = NEW.expires WHERE tenant = NEW.tenant AND due > NEW.expires; END;
