-- Marks of the keys that the database is used with: no other key opens what is in it.
CREATE TABLE marks (tenant BLOB NOT NULL, name TEXT NOT NULL, mark BLOB NOT NULL, PRIMARY KEY (tenant, name)) WITHOUT ROWID;
