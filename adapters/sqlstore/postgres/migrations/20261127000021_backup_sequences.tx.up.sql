-- oldest program: 20261126000001
-- pg_dump reads how far sequences have counted, those of bun's own tables too.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO ringfence_backup;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO ringfence_backup;
