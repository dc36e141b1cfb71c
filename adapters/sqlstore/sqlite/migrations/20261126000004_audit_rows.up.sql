-- An entry's row holds the hashes that its append stored: the leaf's, and those of the subtrees that it completed, which are as
-- many as its number ends in ones in binary. A change then writes fewer pages, all the same to a reader.
ALTER TABLE audit_entries ADD COLUMN hashes BLOB NOT NULL DEFAULT x'';
--bun:split
DROP TRIGGER audit_entries_update;
--bun:split
CREATE TABLE audit_spans (tenant BLOB NOT NULL, seq INTEGER NOT NULL, first INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (tenant, seq)) WITHOUT ROWID;
--bun:split
INSERT INTO audit_spans WITH RECURSIVE span(tenant, seq, first, n, size) AS (
  SELECT tenant, 0, 0, 1, size FROM audit_heads WHERE size > 0
  UNION ALL SELECT tenant, seq + 1, first + n, 1 + CAST(log2((seq + 2) & ~(seq + 1)) AS INTEGER), size FROM span WHERE seq + 1 < size)
  SELECT tenant, seq, first, n FROM span;
--bun:split
UPDATE audit_entries SET hashes = (SELECT unhex(group_concat(hex(h.hash), '' ORDER BY h.idx)) FROM audit_spans s
  JOIN audit_hashes h ON h.tenant = s.tenant AND h.idx >= s.first AND h.idx < s.first + s.n WHERE s.tenant = audit_entries.tenant AND s.seq = audit_entries.seq);
--bun:split
DROP TABLE audit_spans;
--bun:split
DROP TABLE audit_hashes;
--bun:split
CREATE TRIGGER audit_entries_update BEFORE UPDATE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END;
--bun:split
ALTER TABLE audit_private RENAME TO audit_private_fields;
--bun:split
CREATE TABLE audit_private (tenant BLOB NOT NULL, seq INTEGER NOT NULL, fields BLOB NOT NULL, PRIMARY KEY (tenant, seq)) WITHOUT ROWID;
--bun:split
INSERT INTO audit_private SELECT tenant, seq, CAST(json_group_array(json_object('Field', field, 'New', json(iif(new, 'true', 'false')), 'Nonce', lower(hex(nonce)), 'Sealed', lower(hex(sealed)))) AS BLOB)
  FROM audit_private_fields GROUP BY tenant, seq;
--bun:split
DROP TABLE audit_private_fields;
