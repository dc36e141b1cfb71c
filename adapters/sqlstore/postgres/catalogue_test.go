//go:build services

package postgres_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
)

func TestEveryTableStandsBehindTheWall(t *testing.T) {
	both(t, func(t *testing.T, server *pgtest.Server) {
		db := connect(t, server.URL(server.Database(t), ""))
		if wrong := catalogue(t, db, ""); len(wrong) > 0 {
			t.Errorf("%q", wrong)
		}
		var tables int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relrowsecurity").Scan(&tables); err != nil || tables < 30 {
			t.Errorf("%d tables behind the wall: %v", tables, err)
		}
		// The list stands here once more: whoever adds a table before the wall says so twice.
		var before string
		if err := db.QueryRowContext(t.Context(), "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relrowsecurity").Scan(&before); err != nil || before != "bun_migration_locks bun_migrations due known locations oldest_programs" {
			t.Errorf("without row-level security: %s: %v", before, err)
		}
		const notes = "SET ROLE ringfence_owner; CREATE TABLE notes (tenant bytea NOT NULL, id bytea NOT NULL, PRIMARY KEY (tenant, id)); "
		for want, planted := range map[string]string{
			"notes: row-level security is not forced":                     notes,
			"notes: has not the one policy":                               notes + "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; ALTER TABLE notes FORCE ROW LEVEL SECURITY",
			"notes: has no tenant, or may be without":                     "SET ROLE ringfence_owner; CREATE TABLE notes (id bytea PRIMARY KEY)",
			"drafts: has no primary key":                                  "SET ROLE ringfence_owner; CREATE TABLE drafts (tenant bytea NOT NULL)",
			"readings_at: an index that does not begin with the tenant":   "CREATE INDEX readings_at ON readings (at)",
			"devices: row-level security is not forced":                   "ALTER TABLE devices NO FORCE ROW LEVEL SECURITY",
			"tokens: has not the one policy":                              "DROP POLICY tenant ON tokens; CREATE POLICY tenant ON tokens USING (true) WITH CHECK (true)",
			"groups: has not the one policy":                              "ALTER POLICY tenant ON groups WITH CHECK (true)",
			"roles: has not the one policy":                               "ALTER POLICY tenant ON roles TO ringfence_runtime",
			"nodes: more than one policy":                                 "CREATE POLICY also ON nodes FOR SELECT USING (true)",
			"outbox: more than one policy":                                "DROP POLICY relay ON outbox; CREATE POLICY relay ON outbox USING (true) WITH CHECK (false)",
			"outbox: has not the one policy":                              "DROP POLICY tenant ON outbox",
			"outbox: ringfence_relay has INSERT":                          "GRANT INSERT ON outbox TO ringfence_relay",
			"readings: ringfence_relay has SELECT":                        "GRANT SELECT ON readings TO ringfence_relay",
			"sources: ringfence_reader has INSERT":                        "GRANT INSERT ON sources TO ringfence_reader",
			"devices: ringfence_reader has SELECT":                        "GRANT SELECT ON devices TO ringfence_reader",
			"outbox: ringfence_runtime has DELETE":                        "GRANT DELETE ON outbox TO ringfence_runtime",
			"ringfence_relay: may more than a service should":             "ALTER ROLE ringfence_relay BYPASSRLS",
			"outbox_event: an index that does not begin with the tenant":  "CREATE INDEX outbox_event ON outbox (event)",
			"peek: runs with its owner's rights":                          "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM devices'",
			"everything: a view with its owner's rights":                  "CREATE VIEW everything AS SELECT * FROM devices",
			"cached: a materialized view, which no policy guards":         "CREATE MATERIALIZED VIEW cached AS SELECT * FROM devices",
			"afar: a foreign table, which no policy guards":               "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; CREATE FOREIGN TABLE afar (tenant bytea NOT NULL) SERVER nowhere",
			"devices: ringfence_relay has SELECT on column id":            "GRANT SELECT (id) ON devices TO ringfence_relay",
			"readings_20261124: everybody has UPDATE on column tenant":    "GRANT UPDATE (tenant) ON readings_20261124 TO PUBLIC",
			"aside.notes: stands in another schema":                       "CREATE SCHEMA aside; CREATE TABLE aside.notes (id bytea PRIMARY KEY)",
			"aside.peek: stands in another schema":                        "CREATE SCHEMA aside; CREATE FUNCTION aside.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.devices'",
			"devices: ringfence_runtime has TRUNCATE":                     "GRANT TRUNCATE ON devices TO ringfence_runtime",
			"devices: belongs to ringfence_runtime":                       "GRANT CREATE ON SCHEMA public TO ringfence_runtime; ALTER TABLE devices OWNER TO ringfence_runtime",
			"ringfence_runtime: makes tables":                             "GRANT CREATE ON SCHEMA public TO ringfence_runtime",
			"ringfence_runtime: may more than a service should":           "ALTER ROLE ringfence_runtime BYPASSRLS",
			"ringfence_retention: may more than a service should":         "GRANT ringfence_owner TO ringfence_retention",
			"devices: ringfence_backup writes":                            "GRANT DELETE ON devices TO ringfence_backup",
			"expire_partition: can be led astray":                         "ALTER FUNCTION expire_partition(text, timestamptz) SET search_path = public",
			"expire_partition: ringfence_runtime may run it":              "GRANT EXECUTE ON FUNCTION expire_partition(text, timestamptz) TO ringfence_runtime",
			"add_partition: ringfence_retention may run it":               "GRANT EXECUTE ON FUNCTION add_partition(text, date) TO PUBLIC",
			"seen: ringfence_retention has DELETE":                        "GRANT DELETE ON seen TO ringfence_retention",
			"readings_20261124: row-level security is not forced":         "ALTER TABLE readings_20261124 NO FORCE ROW LEVEL SECURITY",
			"readings_20261125: row-level security is not forced":         "ALTER TABLE readings_20261125 DISABLE ROW LEVEL SECURITY",
			"readings_20261124: ringfence_runtime has SELECT on a part":   "GRANT SELECT ON readings_20261124 TO ringfence_runtime",
			"readings_20261124: everybody has SELECT on a partition":      "GRANT SELECT ON readings_20261124 TO PUBLIC",
			"readings_20261124: ringfence_backup has INSERT on a parti":   "GRANT INSERT ON readings_20261124 TO ringfence_backup",
			"uplinks_20261124: ringfence_runtime has UPDATE on a parti":   "GRANT UPDATE ON uplinks_20261124 TO ringfence_runtime",
			"outcomes_20261124: row-level security is not forced":         "ALTER TABLE outcomes_20261124 NO FORCE ROW LEVEL SECURITY",
			"readings_20261124: has not the one policy":                   "ALTER POLICY tenant ON readings_20261124 USING (true)",
			"readings_20261125: has not the one policy":                   "DROP POLICY tenant ON readings_20261125",
			"readings_20261126: more than one policy":                     "CREATE POLICY also ON readings_20261126 FOR SELECT USING (true)",
			"readings_20261124_at_idx: an index that does not begin with": "CREATE INDEX ON readings_20261124 (at)",
			"readings_rest: takes what no partition was made for":         "CREATE TABLE readings_rest PARTITION OF readings DEFAULT",
			"readings_old: is none of the days' partitions":               "CREATE TABLE readings_old PARTITION OF readings FOR VALUES FROM (0) TO (86400000000)",
			"readings_19700102: is none of the days' partitions":          "CREATE TABLE readings_19700102 PARTITION OF readings FOR VALUES FROM (0) TO (86400000000)",
			"seen_device_fkey: a reference that does not begin with the ": "ALTER TABLE devices ADD UNIQUE (id); ALTER TABLE seen ADD FOREIGN KEY (device) REFERENCES devices (id)",
		} {
			if wrong := catalogue(t, db, planted); !slices.ContainsFunc(wrong, func(line string) bool { return strings.HasPrefix(line, want) }) {
				t.Errorf("not found: %s, in %q", want, wrong)
			}
		}
	})
}

// catalogue is what is wrong with the schema after planted was executed, which is then rolled back.
func catalogue(t *testing.T, db *sql.DB, planted string) (wrong []string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, statement := range strings.Split(planted, "; ") {
		if statement == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if _, err := tx.ExecContext(ctx, "RESET ROLE"); err != nil {
		t.Fatal(err)
	}
	if wrong, err = postgres.FlawsIn(ctx, tx); err != nil {
		t.Fatal(err)
	}
	return wrong
}
