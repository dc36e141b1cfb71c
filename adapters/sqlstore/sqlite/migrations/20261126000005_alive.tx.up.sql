-- How many records of a kind are alive: to count them would take as long as there are many, inside every change that adds one.
-- Eight bytes each, in the order of adapters/sqlstore/audit.go.
ALTER TABLE audit_heads ADD COLUMN alive BLOB NOT NULL DEFAULT x'';
--bun:split
UPDATE audit_heads SET alive = unhex(printf('%016x%016x%016x%016x%016x%016x%016x%016x',
  (SELECT count(*) FROM roles x WHERE x.tenant = audit_heads.tenant), (SELECT count(*) FROM groups x WHERE x.tenant = audit_heads.tenant),
  (SELECT count(*) FROM memberships x WHERE x.tenant = audit_heads.tenant), (SELECT count(*) FROM members x WHERE x.tenant = audit_heads.tenant),
  (SELECT count(*) FROM invitations x WHERE x.tenant = audit_heads.tenant), (SELECT count(*) FROM devices x WHERE x.tenant = audit_heads.tenant AND x.state <> 'deleted'),
  (SELECT count(*) FROM decoders x WHERE x.tenant = audit_heads.tenant), (SELECT count(*) FROM sources x WHERE x.tenant = audit_heads.tenant)));
