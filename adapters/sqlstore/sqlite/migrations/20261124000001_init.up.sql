-- Every table of a tenant's leads its keys with the tenant. Records of administration share one shape: what is looked for
-- has a column, the rest is the body. What is many (uplinks, readings, outcomes, audit) has columns of its own.

CREATE TABLE nodes       (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE roles       (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE groups      (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE memberships (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE members     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE invitations (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE tokens      (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE devices     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE imports     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE decoders    (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE versions    (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE sources     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE source_keys (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE tenants     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE limits      (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE persons     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE sessions    (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE bearers     (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE links       (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE claims      (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
--bun:split
CREATE UNIQUE INDEX roles_label    ON roles    (tenant, label);
CREATE UNIQUE INDEX groups_label   ON groups   (tenant, label);
CREATE UNIQUE INDEX decoders_label ON decoders (tenant, label);
CREATE UNIQUE INDEX sources_label  ON sources  (tenant, label);
CREATE UNIQUE INDEX persons_label  ON persons  (tenant, label);
CREATE INDEX devices_label     ON devices     (tenant, label);
CREATE INDEX devices_node      ON devices     (tenant, node);
CREATE INDEX memberships_owner ON memberships (tenant, owner);
CREATE INDEX memberships_node  ON memberships (tenant, node);
CREATE INDEX sources_node      ON sources     (tenant, node);
CREATE INDEX tokens_owner      ON tokens      (tenant, owner);
CREATE INDEX versions_owner    ON versions    (tenant, owner);
CREATE INDEX source_keys_owner ON source_keys (tenant, owner);
CREATE INDEX sessions_owner    ON sessions    (tenant, owner);
CREATE INDEX bearers_owner     ON bearers     (tenant, owner);
--bun:split
CREATE TABLE device_addresses (tenant BLOB NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, device BLOB NOT NULL, PRIMARY KEY (tenant, kind, value)) WITHOUT ROWID;
CREATE INDEX device_addresses_device ON device_addresses (tenant, device);
CREATE TABLE assignments (tenant BLOB NOT NULL, device BLOB NOT NULL, since INTEGER NOT NULL, node BLOB NOT NULL, PRIMARY KEY (tenant, device, since)) WITHOUT ROWID;
CREATE TABLE seen (tenant BLOB NOT NULL, device BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (tenant, device)) WITHOUT ROWID;
CREATE TABLE touched (tenant BLOB NOT NULL, accessor TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (tenant, accessor)) WITHOUT ROWID;
--bun:split
CREATE TABLE uplinks (
  tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, source BLOB NOT NULL, device BLOB NOT NULL, node BLOB NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL, address_kind TEXT NOT NULL, address TEXT NOT NULL, application TEXT NOT NULL,
  session TEXT NOT NULL, fport INTEGER NOT NULL, fcnt INTEGER NOT NULL, has_fcnt INTEGER NOT NULL, payload BLOB NOT NULL,
  dedupe BLOB NOT NULL, payload_hash BLOB NOT NULL, arrived INTEGER NOT NULL, network INTEGER NOT NULL, received INTEGER NOT NULL,
  attempts INTEGER NOT NULL, not_before INTEGER NOT NULL, updated INTEGER NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE INDEX uplinks_queue ON uplinks (tenant, arrived, id, not_before) WHERE state = 'accepted';
CREATE INDEX uplinks_quarantine ON uplinks (tenant, id) WHERE state = 'quarantined';
CREATE INDEX uplinks_device ON uplinks (tenant, device, id) WHERE device <> x'00000000000000000000000000000000';
CREATE TABLE dedupe (tenant BLOB NOT NULL, key BLOB NOT NULL, uplink BLOB NOT NULL, payload_hash BLOB NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (tenant, key)) WITHOUT ROWID;
CREATE INDEX dedupe_expires ON dedupe (expires);
CREATE TABLE readings (
  tenant BLOB NOT NULL, device BLOB NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, uplink BLOB NOT NULL, node BLOB NOT NULL,
  decoder BLOB NOT NULL, version BLOB NOT NULL, fcnt INTEGER NOT NULL, session TEXT NOT NULL, data BLOB NOT NULL, warnings BLOB NOT NULL,
  PRIMARY KEY (tenant, device, at, id)) WITHOUT ROWID;
CREATE UNIQUE INDEX readings_id ON readings (tenant, id);
CREATE INDEX readings_node ON readings (tenant, node, at, id);
CREATE TABLE latest (tenant BLOB NOT NULL, device BLOB NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY (tenant, device)) WITHOUT ROWID;
CREATE TABLE outcomes (
  tenant BLOB NOT NULL, id BLOB NOT NULL, uplink BLOB NOT NULL, device BLOB NOT NULL, node BLOB NOT NULL, decoder BLOB NOT NULL,
  version BLOB NOT NULL, hash BLOB NOT NULL, engine TEXT NOT NULL, category TEXT NOT NULL, fuel INTEGER NOT NULL, duration INTEGER NOT NULL,
  message TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE INDEX outcomes_uplink ON outcomes (tenant, uplink);
CREATE INDEX outcomes_device ON outcomes (tenant, device, id);
CREATE TABLE folds (tenant BLOB NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, node BLOB NOT NULL, bucket INTEGER NOT NULL, until INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (tenant, kind, key, node, bucket)) WITHOUT ROWID;
CREATE TABLE failures (tenant BLOB NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (tenant, key)) WITHOUT ROWID;
--bun:split
CREATE TABLE audit_heads (tenant BLOB NOT NULL PRIMARY KEY, size INTEGER NOT NULL, last INTEGER NOT NULL, edge BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE audit_entries (
  tenant BLOB NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, kind TEXT NOT NULL,
  target TEXT NOT NULL, path TEXT NOT NULL, outcome TEXT NOT NULL, request TEXT NOT NULL, leaf BLOB NOT NULL, PRIMARY KEY (tenant, seq)) WITHOUT ROWID;
CREATE INDEX audit_entries_actor ON audit_entries (tenant, actor, seq);
CREATE INDEX audit_entries_target ON audit_entries (tenant, target, seq);
CREATE INDEX audit_entries_action ON audit_entries (tenant, action, seq);
CREATE TABLE audit_hashes (tenant BLOB NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (tenant, idx)) WITHOUT ROWID;
CREATE TABLE audit_private (tenant BLOB NOT NULL, seq INTEGER NOT NULL, field TEXT NOT NULL, new INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (tenant, seq, field, new)) WITHOUT ROWID;
CREATE TABLE audit_checkpoints (tenant BLOB NOT NULL, size INTEGER NOT NULL, note BLOB NOT NULL, PRIMARY KEY (tenant, size)) WITHOUT ROWID;
--bun:split
CREATE TRIGGER audit_entries_update BEFORE UPDATE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END;
--bun:split
CREATE TRIGGER audit_entries_delete BEFORE DELETE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted'); END;
--bun:split
CREATE TRIGGER audit_hashes_update BEFORE UPDATE ON audit_hashes BEGIN SELECT RAISE(ABORT, 'audit hashes are never changed'); END;
--bun:split
CREATE TRIGGER audit_hashes_delete BEFORE DELETE ON audit_hashes BEGIN SELECT RAISE(ABORT, 'audit hashes are never deleted'); END;
--bun:split
-- The directory: look-up keys only, no secret, no name, no payload. It is asked before a tenant is known.
CREATE TABLE locations (accessor TEXT NOT NULL PRIMARY KEY, tenant BLOB NOT NULL, kind TEXT NOT NULL, id BLOB NOT NULL) WITHOUT ROWID;
