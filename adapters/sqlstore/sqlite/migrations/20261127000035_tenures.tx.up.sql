-- Who had the applications of the operator's connections last, whose mappings ended: records of the platform's. Of those that ended before
-- this was kept, or by an older program, nothing is known.
CREATE TABLE tenures (tenant BLOB NOT NULL, id BLOB NOT NULL, rev INTEGER NOT NULL, node BLOB, owner BLOB, label TEXT, state TEXT NOT NULL, body BLOB NOT NULL, expires INTEGER, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
