-- What goes out to tenants' own topics on a bus, until a relay has sent it.
CREATE TABLE outbox (tenant BLOB NOT NULL, shard INTEGER NOT NULL, id INTEGER NOT NULL, event BLOB NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tenant, shard, id)) WITHOUT ROWID;
