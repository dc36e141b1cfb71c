-- Whose the applications of the operator's connections are: records of the platform's.
CREATE TABLE mappings (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, expires INTEGER, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
--bun:split
CREATE UNIQUE INDEX mappings_label ON mappings (tenant, label);
--bun:split
CREATE INDEX mappings_owner ON mappings (tenant, owner);
