-- oldest program: 20261126000001
-- Whose the applications of the operator's connections are: records of the platform's.
CREATE TABLE mappings (tenant bytea NOT NULL, id bytea NOT NULL, rev bigint NOT NULL, node bytea, owner bytea, label text COLLATE "C", state text COLLATE "C" NOT NULL,
  body bytea NOT NULL, expires bigint, PRIMARY KEY (tenant, id));
CREATE UNIQUE INDEX mappings_label ON mappings (tenant, label);
CREATE INDEX mappings_owner ON mappings (tenant, owner);
ALTER TABLE mappings ENABLE ROW LEVEL SECURITY;
ALTER TABLE mappings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON mappings USING (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex'))) WITH CHECK (tenant = (SELECT decode(nullif(current_setting('app.tenant', true), ''), 'hex')));
GRANT SELECT, INSERT, UPDATE, DELETE ON mappings TO ringfence_runtime;
GRANT SELECT ON mappings TO ringfence_backup;
