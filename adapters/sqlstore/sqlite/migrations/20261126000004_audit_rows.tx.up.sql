-- All that a change appends to the log is one row: the entry, the hashes that its append stored (the leaf's, and those of the
-- subtrees that it completed, which are as many as its number ends in ones in binary) and its private values, the one column
-- that may be overwritten. The rows stand in the order of their writing, with a narrow index by tenant and number: a table
-- without rowid keeps whole rows inside its tree, which is then as deep as they are wide.
CREATE TABLE audit_spans (tenant BLOB NOT NULL, seq INTEGER NOT NULL, first INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (tenant, seq)) WITHOUT ROWID;
--bun:split
INSERT INTO audit_spans WITH RECURSIVE span(tenant, seq, first, n, size) AS (
  SELECT tenant, 0, 0, 1, size FROM audit_heads WHERE size > 0
  UNION ALL SELECT tenant, seq + 1, first + n, 1 + CAST(log2((seq + 2) & ~(seq + 1)) AS INTEGER), size FROM span WHERE seq + 1 < size)
  SELECT tenant, seq, first, n FROM span;
--bun:split
CREATE TABLE audit_rows (
  tenant BLOB NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, kind TEXT NOT NULL,
  target TEXT NOT NULL, path TEXT NOT NULL, outcome TEXT NOT NULL, request TEXT NOT NULL, leaf BLOB NOT NULL, hashes BLOB NOT NULL, private BLOB, PRIMARY KEY (tenant, seq));
--bun:split
INSERT INTO audit_rows SELECT e.tenant, e.seq, e.id, e.at, e.actor, e.action, e.kind, e.target, e.path, e.outcome, e.request, e.leaf,
  (SELECT unhex(group_concat(hex(h.hash), '' ORDER BY h.idx)) FROM audit_spans s
    JOIN audit_hashes h ON h.tenant = s.tenant AND h.idx >= s.first AND h.idx < s.first + s.n WHERE s.tenant = e.tenant AND s.seq = e.seq),
  (SELECT CAST(json_group_array(json_object('Field', field, 'New', json(iif(new, 'true', 'false')), 'Nonce', lower(hex(nonce)), 'Sealed', lower(hex(sealed)))) AS BLOB)
    FROM audit_private p WHERE p.tenant = e.tenant AND p.seq = e.seq HAVING count(*) > 0)
  FROM audit_entries e ORDER BY e.at, e.tenant, e.seq;
--bun:split
DROP TABLE audit_spans;
--bun:split
DROP TABLE audit_hashes;
--bun:split
DROP TABLE audit_private;
--bun:split
DROP TABLE audit_entries;
--bun:split
ALTER TABLE audit_rows RENAME TO audit_entries;
--bun:split
CREATE INDEX audit_entries_actor ON audit_entries (tenant, actor, seq);
CREATE INDEX audit_entries_target ON audit_entries (tenant, target, seq);
CREATE INDEX audit_entries_action ON audit_entries (tenant, action, seq);
--bun:split
CREATE TRIGGER audit_entries_update BEFORE UPDATE OF tenant, seq, id, at, actor, action, kind, target, path, outcome, request, leaf, hashes ON audit_entries
  BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END;
--bun:split
CREATE TRIGGER audit_entries_delete BEFORE DELETE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted'); END;
