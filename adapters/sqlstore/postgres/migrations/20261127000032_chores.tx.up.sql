-- oldest program: 20261126000001
-- When something is next due for jobs in each tenant: at once after a change, and else when the first of its counters or its rows
-- is over. An older program does not say so of the keys that it writes; they go with whatever is due next.
ALTER TABLE known ADD COLUMN due bigint NOT NULL DEFAULT 0;
CREATE INDEX known_due ON known (due, tenant);
CREATE OR REPLACE FUNCTION audit_heads_known() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$ BEGIN
  INSERT INTO known (tenant, changed) VALUES (NEW.tenant, pg_current_xact_id()) ON CONFLICT (tenant) DO UPDATE SET changed = excluded.changed, due = 0;
  RETURN NULL;
END $$;
CREATE FUNCTION folds_due() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$ BEGIN
  UPDATE known SET due = NEW.until WHERE tenant = NEW.tenant AND due + 0 > NEW.until;
  RETURN NULL;
END $$;
CREATE TRIGGER folds_due AFTER INSERT ON folds FOR EACH ROW EXECUTE FUNCTION folds_due();
