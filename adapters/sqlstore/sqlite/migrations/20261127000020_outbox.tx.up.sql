-- What goes out to tenants' own topics on a bus, until a relay has sent it.
CREATE TABLE outbox (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, tenant BLOB NOT NULL, shard INTEGER NOT NULL, event BLOB NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL);
--bun:split
CREATE INDEX outbox_shards ON outbox (shard, tenant, id);
