-- oldest program: 20261126000001
-- What an MQTT worker looks at, to know whose a message is and whether it may come in: it reads these and writes nothing at all.
GRANT SELECT ON known, due, audit_heads, tenants, limits, nodes, roles, groups, memberships, members, sources, source_keys, touched, mappings, bun_migrations, oldest_programs TO ringfence_reader;
