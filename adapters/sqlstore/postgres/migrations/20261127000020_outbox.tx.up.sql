-- oldest program: 20261126000001
-- What goes out to tenants' own topics on a bus, until a relay has sent it. A relay sees all tenants' rows, of this table alone, and
-- may write none: the one policy beside that of tenants.
CREATE TABLE outbox (tenant bytea NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, shard smallint NOT NULL, event bytea NOT NULL, key text COLLATE "C" NOT NULL, value bytea NOT NULL, PRIMARY KEY (tenant, id))
  WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_shards ON outbox (shard, tenant, id);
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outbox USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')));
CREATE POLICY relay ON outbox TO ringfence_relay USING (true) WITH CHECK (false);
GRANT INSERT ON outbox TO ringfence_runtime;
GRANT SELECT, DELETE ON outbox TO ringfence_relay;
GRANT SELECT ON outbox TO ringfence_backup;
GRANT SELECT ON bun_migrations, oldest_programs TO ringfence_relay;
