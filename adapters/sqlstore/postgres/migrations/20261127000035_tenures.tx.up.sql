-- oldest program: 20261126000001
-- Who had the applications of the operator's connections last, whose mappings ended: records of the platform's. Of those that ended before
-- this was kept, or by an older program, nothing is known.
CREATE TABLE tenures (tenant bytea NOT NULL, id bytea NOT NULL, rev bigint NOT NULL, node bytea, owner bytea, label text COLLATE "C", state text COLLATE "C" NOT NULL,
  body bytea NOT NULL, expires bigint, PRIMARY KEY (tenant, id));
ALTER TABLE tenures ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenures FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenures USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON tenures TO ringfence_runtime;
GRANT SELECT ON tenures TO ringfence_backup;
