-- A person's open links are found to be voided with what they would undo.
CREATE INDEX links_owner ON links (tenant, owner);
--bun:split
-- One-time links of before say nothing of who may use them, and live an hour at most.
DELETE FROM locations WHERE kind IN ('set', 'rst');
--bun:split
DELETE FROM links;
