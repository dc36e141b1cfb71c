-- oldest program: 20261126000001
-- A device's readings of one moment are in the order in which it counted them, and then in that of their events: workers that
-- share a device's messages finish them in any. Of these, what an older program writes as the latest is ordered by its time alone.
ALTER TABLE readings DROP CONSTRAINT readings_pkey;
ALTER TABLE readings ADD PRIMARY KEY (tenant, device, at, fcnt, uplink);
DROP INDEX readings_id, readings_node;
CREATE UNIQUE INDEX readings_id ON readings (tenant, id, at);
CREATE INDEX readings_node ON readings (tenant, node, at, fcnt, uplink);
--bun:split
-- The owner is bound by the policies too: they are lifted for it, and nobody else sees that before this is committed.
ALTER TABLE latest ADD COLUMN fcnt bigint NOT NULL DEFAULT 0, ADD COLUMN uplink bytea NOT NULL DEFAULT '';
ALTER TABLE latest NO FORCE ROW LEVEL SECURITY;
ALTER TABLE readings NO FORCE ROW LEVEL SECURITY;
UPDATE latest l SET id = r.id, fcnt = r.fcnt, uplink = r.uplink FROM (SELECT DISTINCT ON (tenant, device) tenant, device, at, fcnt, uplink, id FROM readings
  WHERE (tenant, device, at) IN (SELECT tenant, device, at FROM latest) ORDER BY tenant, device, fcnt DESC, uplink DESC) r WHERE l.tenant = r.tenant AND l.device = r.device AND l.at = r.at;
ALTER TABLE readings FORCE ROW LEVEL SECURITY;
ALTER TABLE latest FORCE ROW LEVEL SECURITY;
