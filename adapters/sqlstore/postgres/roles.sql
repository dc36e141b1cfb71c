-- The six roles, made once by an administrator of the PostgreSQL cluster (psql -f roles.sql). Give each a password or another
-- way to sign in, and the database to ringfence_owner: CREATE DATABASE ringfence OWNER ringfence_owner.
--   ringfence_owner      owns the tables; ringfence migrate signs in as it, no service does
--   ringfence_runtime    what services sign in as: sees the rows of one tenant at a time, changes no schema
--   ringfence_reader     what MQTT workers sign in as: reads whose a message may be, one tenant at a time, and writes nothing
--   ringfence_retention  removes what has outlived its time
--   ringfence_relay      sends what is to go out over Kafka: reads and removes the rows of one table, of all tenants
--   ringfence_backup     reads everything and writes nothing
DO $$ DECLARE r text; BEGIN
  FOREACH r IN ARRAY ARRAY['ringfence_owner', 'ringfence_runtime', 'ringfence_reader', 'ringfence_retention', 'ringfence_relay', 'ringfence_backup'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
      EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', r);
    END IF;
  END LOOP;
  ALTER ROLE ringfence_backup BYPASSRLS;
END $$;
