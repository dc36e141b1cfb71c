-- Every table of a tenant's leads its keys with the tenant, and shows its rows to nobody who did not say which tenant is asked
-- for. Records of administration share one shape: what is looked for has a column, the rest is the body. What is many (uplinks,
-- readings, outcomes, audit) has columns of its own. Text is compared byte by byte, as everywhere else in this program.
DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['nodes', 'roles', 'groups', 'memberships', 'members', 'invitations', 'tokens', 'devices', 'imports', 'decoders', 'versions', 'sources',
    'source_keys', 'tenants', 'limits', 'persons', 'sessions', 'bearers', 'links', 'claims'] LOOP
    EXECUTE format('CREATE TABLE %I (tenant bytea NOT NULL, id bytea NOT NULL, rev bigint NOT NULL, node bytea, owner bytea, label text COLLATE "C", state text COLLATE "C" NOT NULL,
      body bytea NOT NULL, expires bigint, PRIMARY KEY (tenant, id))', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['roles', 'groups', 'decoders', 'sources', 'persons'] LOOP
    EXECUTE format('CREATE UNIQUE INDEX %I ON %I (tenant, label)', t || '_label', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['nodes', 'members', 'devices'] LOOP
    EXECUTE format('CREATE INDEX %I ON %I (tenant, label)', t || '_label', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['devices', 'memberships', 'sources'] LOOP
    EXECUTE format('CREATE INDEX %I ON %I (tenant, node)', t || '_node', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['memberships', 'tokens', 'versions', 'source_keys', 'sessions', 'bearers', 'links'] LOOP
    EXECUTE format('CREATE INDEX %I ON %I (tenant, owner)', t || '_owner', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['sessions', 'bearers', 'links', 'claims'] LOOP
    EXECUTE format('CREATE INDEX %I ON %I (tenant, expires) WHERE expires IS NOT NULL', t || '_expires', t);
  END LOOP;
END $$;
--bun:split
CREATE TABLE device_addresses (tenant bytea NOT NULL, kind text COLLATE "C" NOT NULL, value text COLLATE "C" NOT NULL, device bytea NOT NULL, PRIMARY KEY (tenant, kind, value));
CREATE INDEX device_addresses_device ON device_addresses (tenant, device);
CREATE TABLE assignments (tenant bytea NOT NULL, device bytea NOT NULL, since bigint NOT NULL, node bytea NOT NULL, PRIMARY KEY (tenant, device, since));
CREATE TABLE seen (tenant bytea NOT NULL, device bytea NOT NULL, at bigint NOT NULL, PRIMARY KEY (tenant, device));
CREATE TABLE touched (tenant bytea NOT NULL, accessor text COLLATE "C" NOT NULL, at bigint NOT NULL, PRIMARY KEY (tenant, accessor));
CREATE TABLE marks (tenant bytea NOT NULL, name text COLLATE "C" NOT NULL, mark bytea NOT NULL, PRIMARY KEY (tenant, name));
CREATE TABLE folds (tenant bytea NOT NULL, kind text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, node bytea NOT NULL, bucket bigint NOT NULL, until bigint NOT NULL, count bigint NOT NULL,
  PRIMARY KEY (tenant, kind, key, node, bucket));
CREATE TABLE failures (tenant bytea NOT NULL, key text COLLATE "C" NOT NULL, count bigint NOT NULL, last bigint NOT NULL, PRIMARY KEY (tenant, key));
--bun:split
CREATE TABLE uplinks (
  tenant bytea NOT NULL, id bytea NOT NULL, rev bigint NOT NULL, source bytea NOT NULL, device bytea NOT NULL, node bytea NOT NULL,
  state text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL, address_kind text COLLATE "C" NOT NULL, address text COLLATE "C" NOT NULL,
  application text COLLATE "C" NOT NULL, session text COLLATE "C" NOT NULL, fport integer NOT NULL, fcnt bigint NOT NULL, has_fcnt boolean NOT NULL, payload bytea NOT NULL,
  dedupe bytea NOT NULL, payload_hash bytea NOT NULL, arrived bigint NOT NULL, network bigint NOT NULL, received bigint NOT NULL,
  attempts integer NOT NULL, not_before bigint NOT NULL, updated bigint NOT NULL, released bigint NOT NULL, PRIMARY KEY (tenant, id));
CREATE INDEX uplinks_queue ON uplinks (tenant, arrived, id, not_before) WHERE state = 'accepted';
CREATE INDEX uplinks_quarantine ON uplinks (tenant, id) WHERE state = 'quarantined';
CREATE INDEX uplinks_device ON uplinks (tenant, device, id) WHERE device <> '\x00000000000000000000000000000000';
CREATE TABLE dedupe (tenant bytea NOT NULL, key bytea NOT NULL, uplink bytea NOT NULL, payload_hash bytea NOT NULL, expires bigint NOT NULL, PRIMARY KEY (tenant, key));
CREATE INDEX dedupe_expires ON dedupe (tenant, expires);
CREATE TABLE readings (
  tenant bytea NOT NULL, device bytea NOT NULL, at bigint NOT NULL, id bytea NOT NULL, uplink bytea NOT NULL, node bytea NOT NULL,
  decoder bytea NOT NULL, version bytea NOT NULL, fcnt bigint NOT NULL, has_fcnt boolean NOT NULL, session text COLLATE "C" NOT NULL, data bytea NOT NULL, warnings bytea NOT NULL,
  PRIMARY KEY (tenant, device, at, id));
CREATE UNIQUE INDEX readings_id ON readings (tenant, id);
CREATE INDEX readings_node ON readings (tenant, node, at, id);
CREATE TABLE latest (tenant bytea NOT NULL, device bytea NOT NULL, at bigint NOT NULL, id bytea NOT NULL, PRIMARY KEY (tenant, device));
CREATE TABLE outcomes (
  tenant bytea NOT NULL, id bytea NOT NULL, uplink bytea NOT NULL, device bytea NOT NULL, node bytea NOT NULL, decoder bytea NOT NULL,
  version bytea NOT NULL, hash bytea NOT NULL, engine text COLLATE "C" NOT NULL, category text COLLATE "C" NOT NULL, fuel bigint NOT NULL, duration bigint NOT NULL,
  message text COLLATE "C" NOT NULL, at bigint NOT NULL, PRIMARY KEY (tenant, id));
CREATE INDEX outcomes_uplink ON outcomes (tenant, uplink);
CREATE INDEX outcomes_device ON outcomes (tenant, device, id);
--bun:split
CREATE TABLE audit_heads (tenant bytea NOT NULL PRIMARY KEY, size bigint NOT NULL, last bigint NOT NULL, edge bytea NOT NULL, revision bigint NOT NULL, narrowed bigint NOT NULL, alive bytea NOT NULL);
CREATE TABLE audit_entries (
  tenant bytea NOT NULL, seq bigint NOT NULL, id bytea NOT NULL, at bigint NOT NULL, actor text COLLATE "C" NOT NULL, action text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL, path text COLLATE "C" NOT NULL, outcome text COLLATE "C" NOT NULL, request text COLLATE "C" NOT NULL, leaf bytea NOT NULL, hashes bytea NOT NULL,
  private bytea, PRIMARY KEY (tenant, seq));
CREATE INDEX audit_entries_actor ON audit_entries (tenant, actor, seq);
CREATE INDEX audit_entries_target ON audit_entries (tenant, target, seq);
CREATE INDEX audit_entries_action ON audit_entries (tenant, action, seq);
CREATE TABLE audit_checkpoints (tenant bytea NOT NULL, size bigint NOT NULL, note bytea NOT NULL, PRIMARY KEY (tenant, size));
--bun:split
CREATE FUNCTION audit_never() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN RAISE EXCEPTION 'audit entries are never changed or deleted'; END $$;
CREATE TRIGGER audit_entries_update BEFORE UPDATE OF tenant, seq, id, at, actor, action, kind, target, path, outcome, request, leaf, hashes ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION audit_never();
CREATE TRIGGER audit_entries_delete BEFORE DELETE OR TRUNCATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION audit_never();
CREATE TRIGGER audit_checkpoints_never BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION audit_never();
--bun:split
-- The directory: look-up keys only, no secret, no name, no payload. It is asked before a tenant is known, and is therefore
-- behind no wall. Two of its tables follow others by themselves: what is to be processed; which tenants there are, with the
-- last transaction that changed each, by which processes that remember something learn of the changes of others.
CREATE TABLE locations (accessor text COLLATE "C" NOT NULL PRIMARY KEY, tenant bytea NOT NULL, kind text COLLATE "C" NOT NULL, id bytea NOT NULL);
CREATE TABLE due (tenant bytea NOT NULL, arrived bigint NOT NULL, id bytea NOT NULL, not_before bigint NOT NULL, PRIMARY KEY (tenant, arrived, id));
CREATE TABLE known (tenant bytea NOT NULL PRIMARY KEY, changed xid8 NOT NULL);
CREATE INDEX known_changed ON known (changed);
CREATE FUNCTION uplinks_due() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$ BEGIN
  IF TG_OP = 'UPDATE' AND OLD.state = 'accepted' AND NEW.state = 'accepted' THEN
    UPDATE due SET not_before = NEW.not_before WHERE tenant = OLD.tenant AND arrived = OLD.arrived AND id = OLD.id;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' AND OLD.state = 'accepted' THEN
    DELETE FROM due WHERE tenant = OLD.tenant AND arrived = OLD.arrived AND id = OLD.id;
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.state = 'accepted' THEN
    INSERT INTO due (tenant, arrived, id, not_before) VALUES (NEW.tenant, NEW.arrived, NEW.id, NEW.not_before);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER uplinks_due AFTER INSERT OR DELETE OR UPDATE OF state, not_before ON uplinks FOR EACH ROW EXECUTE FUNCTION uplinks_due();
CREATE FUNCTION audit_heads_known() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$ BEGIN
  INSERT INTO known (tenant, changed) VALUES (NEW.tenant, pg_current_xact_id()) ON CONFLICT (tenant) DO UPDATE SET changed = excluded.changed;
  RETURN NULL;
END $$;
CREATE TRIGGER audit_heads_known AFTER INSERT OR UPDATE ON audit_heads FOR EACH ROW EXECUTE FUNCTION audit_heads_known();
--bun:split
-- The wall. A transaction says whose rows it is about; without that, and after it, there are none. The sub-select is answered
-- once a statement, so that the index serves.
DO $$ DECLARE t text; BEGIN
  FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT IN ('locations', 'due', 'known') AND relname NOT LIKE 'bun\_%' LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format($p$CREATE POLICY tenant ON %I USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')))$p$, t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO ringfence_runtime', t);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON locations, due, known TO ringfence_runtime;
REVOKE UPDATE, DELETE ON audit_entries, audit_checkpoints FROM ringfence_runtime;
REVOKE DELETE ON audit_heads, known FROM ringfence_runtime;
GRANT SELECT ON bun_migrations TO ringfence_runtime;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO ringfence_backup;
