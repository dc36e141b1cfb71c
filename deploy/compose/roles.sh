#!/bin/sh
# Makes the roles, gives all but the backup the passwords of their files, and the database to its owner. Again: the same.
set -eu
PGPASSWORD=$(cat /run/secrets/postgres)
export PGPASSWORD PGHOST=postgres PGUSER=postgres PGDATABASE=postgres
psql -qX -v ON_ERROR_STOP=1 -f /etc/ringfence/roles.sql
for role in owner runtime reader retention relay; do
  # psql quotes it: a password is never part of the text that is parsed.
  psql -qX -v ON_ERROR_STOP=1 -v role="ringfence_$role" -v password="$(cat "/run/secrets/$role")" <<'SQL'
ALTER ROLE :"role" PASSWORD :'password';
SQL
done
psql -qX -v ON_ERROR_STOP=1 <<'SQL'
SELECT 'CREATE DATABASE ringfence OWNER ringfence_owner' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'ringfence') \gexec
REVOKE CONNECT ON DATABASE ringfence FROM PUBLIC;
GRANT CONNECT ON DATABASE ringfence TO ringfence_owner, ringfence_runtime, ringfence_reader, ringfence_retention, ringfence_relay, ringfence_backup;
SQL
