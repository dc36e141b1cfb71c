-- A tenant's newest readings, of whatever device, are found without sorting all that it has. Nobody looks for a reading by its id.
DROP INDEX readings_id;
--bun:split
CREATE INDEX readings_time ON readings (tenant, at, fcnt, uplink);
