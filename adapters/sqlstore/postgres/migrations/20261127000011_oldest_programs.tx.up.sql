-- oldest program: 20261126000001
-- Which is the oldest program that still works on a schema, by the newest migration that it brings: said in the first line of each
-- migration, and kept here for programs that do not know the migration. Without an entry it is the one that brought it.
CREATE TABLE oldest_programs (migration text COLLATE "C" NOT NULL PRIMARY KEY, program text COLLATE "C" NOT NULL);
GRANT SELECT ON oldest_programs TO ringfence_runtime, ringfence_backup;
