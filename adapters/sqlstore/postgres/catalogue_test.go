//go:build services

package postgres_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
)

// lookups are the tables that are asked before a tenant is known (ARCHITECTURE.md, The directory's door), and bun's own: all
// that stand before the wall.
var lookups = []string{"locations", "due", "known", "bun_migrations", "bun_migration_locks", "oldest_programs"}

// canonical is the one policy of a table of tenants, as the database prints it.
const canonical = "(tenant = ( SELECT decode(NULLIF(current_setting('app.tenant'::text, true), ''::text), 'hex'::text) AS decode))"

// What is wrong with the schema, a line each; @lookups is the array of look-up tables.
var wrongs = []string{
	// The tenant leads every key, unique or not, and is never absent.
	`SELECT c.relname || ': has no tenant, or may be without' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups)
		AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant' AND a.attnotnull AND a.atttypid = 'bytea'::regtype)`,
	`SELECT c.relname || ': has no primary key' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups)
		AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)`,
	`SELECT n.relname || ': an index that does not begin with the tenant' FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class n ON n.oid = i.indexrelid
		WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relname = ANY (@lookups) AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = i.indkey[0]) IS DISTINCT FROM 'tenant'`,
	`SELECT k.conname || ': a reference that does not begin with the tenant' FROM pg_constraint k WHERE k.contype = 'f' AND ((SELECT attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1]) <> 'tenant'
		OR (SELECT attname FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1]) <> 'tenant')`,
	// The wall stands around every table of tenants, its owner included.
	`SELECT c.relname || ': row-level security is not forced' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups) AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`,
	`SELECT c.relname || ': has not the one policy' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups)
		AND (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}' AND pg_get_expr(p.polqual, p.polrelid) = '` + strings.ReplaceAll(canonical, "'", "''") + `'
			AND pg_get_expr(p.polwithcheck, p.polrelid) = pg_get_expr(p.polqual, p.polrelid)) <> 1`,
	`SELECT c.relname || ': more than one policy' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) > 1`,
	// Nothing leads around it.
	`SELECT p.proname || ': runs with its owner''s rights' FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND p.proname <> 'expire_partition'`,
	`SELECT p.proname || ': can be led astray' FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND NOT coalesce(p.proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}'`,
	`SELECT p.proname || ': ' || r.rolname || ' may run it' FROM pg_proc p, pg_roles r WHERE p.pronamespace = 'public'::regnamespace AND (p.prosecdef OR p.proname = 'add_partition') AND r.rolname LIKE 'ringfence\_%' AND r.rolname <> 'ringfence_owner'
		AND NOT (p.proname = 'expire_partition' AND r.rolname = 'ringfence_retention') AND has_function_privilege(r.rolname, p.oid, 'EXECUTE')`,
	// A partition is read and written through its parent alone, by whoever is not the backup.
	`SELECT c.relname || ': ' || coalesce(g.rolname, 'everybody') || ' has ' || a.privilege_type || ' on a partition' FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
		WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner AND (g.rolname = 'ringfence_backup' AND a.privilege_type = 'SELECT') IS NOT TRUE`,
	`SELECT c.relname || ': ringfence_retention has ' || v.p FROM pg_class c, (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) v(p) WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND has_table_privilege('ringfence_retention', c.oid, v.p)`,
	`SELECT c.relname || ': takes what no partition was made for' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'`,
	`SELECT c.relname || ': is none of the days'' partitions' FROM pg_class c LEFT JOIN partitions() p ON p.name = c.relname WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND c.relkind IN ('r', 'p')
		AND (p.ends - p.starts = interval '1 day' AND c.relname = p.parent || '_' || to_char(p.starts AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NOT TRUE`,
	`SELECT c.relname || ': a view with its owner''s rights' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND NOT coalesce(c.reloptions, '{}') && '{security_invoker=true,security_invoker=on}'`,
	`SELECT c.relname || ': a materialized view, which no policy guards' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'm'`,
	`SELECT rolname || ': may more than a service should' FROM pg_roles r WHERE rolname IN ('ringfence_runtime', 'ringfence_retention') AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
		OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid))`,
	`SELECT c.relname || ': ' || r.rolname || ' has ' || v.p FROM pg_class c, pg_roles r, (VALUES ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) v(p)
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND r.rolname IN ('ringfence_runtime', 'ringfence_retention', 'ringfence_backup') AND has_table_privilege(r.rolname, c.oid, v.p)`,
	`SELECT c.relname || ': belongs to ' || pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND pg_get_userbyid(c.relowner) <> 'ringfence_owner'`,
	`SELECT r.rolname || ': makes tables' FROM pg_roles r WHERE r.rolname IN ('ringfence_runtime', 'ringfence_retention', 'ringfence_backup') AND has_schema_privilege(r.rolname, 'public', 'CREATE')`,
	`SELECT c.relname || ': ringfence_backup writes' FROM pg_class c, (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) v(p) WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND has_table_privilege('ringfence_backup', c.oid, v.p)`,
	`SELECT c.relname || ': is no look-up table that is known here' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND NOT c.relname = ANY (@lookups)`,
}

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
			"peek: runs with its owner's rights":                          "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM devices'",
			"everything: a view with its owner's rights":                  "CREATE VIEW everything AS SELECT * FROM devices",
			"cached: a materialized view, which no policy guards":         "CREATE MATERIALIZED VIEW cached AS SELECT * FROM devices",
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
	for _, q := range wrongs {
		rows, err := tx.QueryContext(ctx, strings.ReplaceAll(q, "@lookups", "'{"+strings.Join(lookups, ",")+"}'::text[]"))
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			wrong = append(wrong, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return wrong
}
