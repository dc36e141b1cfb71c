-- The last revision of a tenant's policy that may have narrowed a decision: what was decided before it is decided again.
ALTER TABLE audit_heads ADD COLUMN narrowed INTEGER NOT NULL DEFAULT 0;
--bun:split
UPDATE audit_heads SET narrowed = revision;
