-- oldest program: 20261126000001
-- Uplinks and outcomes by the day too, cut by their ids, which begin with the time that they were made at: the key stays (tenant, id),
-- a look-up by id meets one partition, and a row that changes never moves. What waits is known by due, which has no partitions.
ALTER TABLE uplinks RENAME TO uplinks_before;
ALTER TABLE uplinks_before NO FORCE ROW LEVEL SECURITY;
ALTER TABLE uplinks_before DROP CONSTRAINT uplinks_pkey;
DROP INDEX uplinks_queue, uplinks_quarantine, uplinks_device;
CREATE TABLE uplinks (LIKE uplinks_before, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (id);
CREATE INDEX uplinks_quarantine ON uplinks (tenant, id) WHERE state = 'quarantined';
CREATE INDEX uplinks_device ON uplinks (tenant, device, id) WHERE device <> '\x00000000000000000000000000000000';
ALTER TABLE outcomes RENAME TO outcomes_before;
ALTER TABLE outcomes_before NO FORCE ROW LEVEL SECURITY;
ALTER TABLE outcomes_before DROP CONSTRAINT outcomes_pkey;
DROP INDEX outcomes_uplink, outcomes_device;
CREATE TABLE outcomes (LIKE outcomes_before, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (id);
CREATE INDEX outcomes_uplink ON outcomes (tenant, uplink);
CREATE INDEX outcomes_device ON outcomes (tenant, device, id);
DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['uplinks', 'outcomes'] LOOP
    EXECUTE format('SELECT add_partition(%L, day) FROM (SELECT DISTINCT (to_timestamp((''x'' || lpad(encode(substr(id, 1, 6), ''hex''), 16, ''0''))::bit(64)::bigint / 1000) AT TIME ZONE ''UTC'')::date AS day FROM %I) d ORDER BY day', t, t || '_before');
    EXECUTE format('INSERT INTO %I SELECT * FROM %I', t, t || '_before');
    EXECUTE format('DROP TABLE %I', t || '_before');
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format($p$CREATE POLICY tenant ON %I USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')))$p$, t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO ringfence_runtime', t);
    EXECUTE format('GRANT SELECT ON %I TO ringfence_backup', t);
  END LOOP;
END $$;
CREATE TRIGGER uplinks_due AFTER INSERT OR DELETE OR UPDATE OF state, not_before ON uplinks FOR EACH ROW EXECUTE FUNCTION uplinks_due();
