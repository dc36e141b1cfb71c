-- A device's readings of one moment are in the order in which it counted them, and then in that of their events.
CREATE TABLE reading_rows (
  tenant BLOB NOT NULL, device BLOB NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, uplink BLOB NOT NULL, node BLOB NOT NULL,
  decoder BLOB NOT NULL, version BLOB NOT NULL, fcnt INTEGER NOT NULL, has_fcnt INTEGER NOT NULL, session TEXT NOT NULL, data BLOB NOT NULL, warnings BLOB NOT NULL,
  PRIMARY KEY (tenant, device, at, fcnt, uplink)) WITHOUT ROWID;
--bun:split
INSERT INTO reading_rows SELECT tenant, device, at, id, uplink, node, decoder, version, fcnt, has_fcnt, session, data, warnings FROM readings;
--bun:split
DROP TABLE readings;
--bun:split
ALTER TABLE reading_rows RENAME TO readings;
--bun:split
CREATE UNIQUE INDEX readings_id ON readings (tenant, id);
CREATE INDEX readings_node ON readings (tenant, node, at, fcnt, uplink);
--bun:split
CREATE TABLE latest_rows (tenant BLOB NOT NULL, device BLOB NOT NULL, at INTEGER NOT NULL, fcnt INTEGER NOT NULL, uplink BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (tenant, device)) WITHOUT ROWID;
--bun:split
INSERT INTO latest_rows SELECT tenant, device, at, fcnt, uplink, id FROM (SELECT r.*, row_number() OVER (PARTITION BY r.tenant, r.device ORDER BY r.fcnt DESC, r.uplink DESC) AS nth
  FROM latest l JOIN readings r ON r.tenant = l.tenant AND r.device = l.device AND r.at = l.at) WHERE nth = 1;
--bun:split
DROP TABLE latest;
--bun:split
ALTER TABLE latest_rows RENAME TO latest;
