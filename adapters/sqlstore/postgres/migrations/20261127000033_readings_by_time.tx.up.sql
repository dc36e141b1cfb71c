-- oldest program: 20261126000001
-- A tenant's newest readings, of whatever device, are found without sorting all that it has. While the index is made, a second or two
-- for a million readings, what is read goes on and what is written waits on the bus.
SET LOCAL lock_timeout = '5s';
CREATE INDEX readings_time ON readings (tenant, at, fcnt, uplink);
