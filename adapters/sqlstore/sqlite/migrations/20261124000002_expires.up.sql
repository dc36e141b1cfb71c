-- When a record has outlived its time, so that removing those costs what is removed and not what is kept.
ALTER TABLE nodes       ADD COLUMN expires INTEGER;
ALTER TABLE roles       ADD COLUMN expires INTEGER;
ALTER TABLE groups      ADD COLUMN expires INTEGER;
ALTER TABLE memberships ADD COLUMN expires INTEGER;
ALTER TABLE members     ADD COLUMN expires INTEGER;
ALTER TABLE invitations ADD COLUMN expires INTEGER;
ALTER TABLE tokens      ADD COLUMN expires INTEGER;
ALTER TABLE devices     ADD COLUMN expires INTEGER;
ALTER TABLE imports     ADD COLUMN expires INTEGER;
ALTER TABLE decoders    ADD COLUMN expires INTEGER;
ALTER TABLE versions    ADD COLUMN expires INTEGER;
ALTER TABLE sources     ADD COLUMN expires INTEGER;
ALTER TABLE source_keys ADD COLUMN expires INTEGER;
ALTER TABLE tenants     ADD COLUMN expires INTEGER;
ALTER TABLE limits      ADD COLUMN expires INTEGER;
ALTER TABLE persons     ADD COLUMN expires INTEGER;
ALTER TABLE sessions    ADD COLUMN expires INTEGER;
ALTER TABLE bearers     ADD COLUMN expires INTEGER;
ALTER TABLE links       ADD COLUMN expires INTEGER;
ALTER TABLE claims      ADD COLUMN expires INTEGER;
--bun:split
UPDATE sessions SET expires = unixepoch(json_extract(CAST(body AS TEXT), '$.ExpiresAt')) * 1000000;
UPDATE bearers SET expires = unixepoch(json_extract(CAST(body AS TEXT), '$.ExpiresAt')) * 1000000;
UPDATE links SET expires = unixepoch(json_extract(CAST(body AS TEXT), '$.ExpiresAt')) * 1000000;
UPDATE claims SET expires = unixepoch(json_extract(CAST(body AS TEXT), '$.ExpiresAt')) * 1000000;
--bun:split
CREATE INDEX sessions_expires ON sessions (tenant, expires) WHERE expires IS NOT NULL;
CREATE INDEX bearers_expires  ON bearers  (tenant, expires) WHERE expires IS NOT NULL;
CREATE INDEX links_expires    ON links    (tenant, expires) WHERE expires IS NOT NULL;
CREATE INDEX claims_expires   ON claims   (tenant, expires) WHERE expires IS NOT NULL;
DROP INDEX dedupe_expires;
CREATE INDEX dedupe_expires ON dedupe (tenant, expires);
