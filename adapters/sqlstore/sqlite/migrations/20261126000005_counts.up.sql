-- How many records of a kind are alive: to count them would take as long as there are many, inside every change that adds one.
CREATE TABLE counts (tenant BLOB NOT NULL, noun TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (tenant, noun)) WITHOUT ROWID;
--bun:split
INSERT INTO counts SELECT tenant, noun, count(*) FROM (
  SELECT tenant, 'roles' AS noun FROM roles WHERE state <> 'deleted' UNION ALL SELECT tenant, 'groups' FROM groups WHERE state <> 'deleted' UNION ALL
  SELECT tenant, 'memberships' FROM memberships WHERE state <> 'deleted' UNION ALL SELECT tenant, 'members' FROM members WHERE state <> 'deleted' UNION ALL
  SELECT tenant, 'invitations' FROM invitations WHERE state <> 'deleted' UNION ALL SELECT tenant, 'devices' FROM devices WHERE state <> 'deleted' UNION ALL
  SELECT tenant, 'decoders' FROM decoders WHERE state <> 'deleted' UNION ALL SELECT tenant, 'sources' FROM sources WHERE state <> 'deleted')
  GROUP BY tenant, noun;
