-- Uplinks are wide rows that come in the order of their ids: they stand in that order, with a narrow index, as the log's do.
CREATE TABLE uplink_rows (
  tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, source BLOB NOT NULL, device BLOB NOT NULL, node BLOB NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL, address_kind TEXT NOT NULL, address TEXT NOT NULL, application TEXT NOT NULL,
  session TEXT NOT NULL, fport INTEGER NOT NULL, fcnt INTEGER NOT NULL, has_fcnt INTEGER NOT NULL, payload BLOB NOT NULL,
  dedupe BLOB NOT NULL, payload_hash BLOB NOT NULL, arrived INTEGER NOT NULL, network INTEGER NOT NULL, received INTEGER NOT NULL,
  attempts INTEGER NOT NULL, not_before INTEGER NOT NULL, updated INTEGER NOT NULL, released INTEGER NOT NULL, PRIMARY KEY (tenant, id));
--bun:split
INSERT INTO uplink_rows SELECT tenant, id, rev, source, device, node, state, reason, address_kind, address, application, session, fport, fcnt, has_fcnt, payload,
  dedupe, payload_hash, arrived, network, received, attempts, not_before, updated, released FROM uplinks ORDER BY id, tenant;
--bun:split
DROP TABLE uplinks;
--bun:split
ALTER TABLE uplink_rows RENAME TO uplinks;
--bun:split
CREATE INDEX uplinks_queue ON uplinks (tenant, arrived, id, not_before) WHERE state = 'accepted';
CREATE INDEX uplinks_quarantine ON uplinks (tenant, id) WHERE state = 'quarantined';
CREATE INDEX uplinks_device ON uplinks (tenant, device, id) WHERE device <> x'00000000000000000000000000000000';
