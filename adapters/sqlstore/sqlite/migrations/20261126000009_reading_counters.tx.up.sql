ALTER TABLE readings ADD COLUMN has_fcnt INTEGER NOT NULL DEFAULT 1;
--bun:split
UPDATE readings SET has_fcnt = 0 WHERE fcnt = 0 AND EXISTS (SELECT 1 FROM uplinks WHERE uplinks.tenant = readings.tenant AND uplinks.id = readings.uplink AND uplinks.has_fcnt = 0); -- a plain event has no counter, and its reading none
