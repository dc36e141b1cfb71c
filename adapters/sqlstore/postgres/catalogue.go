package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/ringfence/ringfence/core/secret"
)

// lookups are the tables that are asked before a tenant is known (ARCHITECTURE.md, The directory's door), and bun's own: all
// that stand before the wall.
const lookups = "'{locations,due,known,bun_migrations,bun_migration_locks,oldest_programs}'::text[]"

// canonical is the one policy of a table of tenants, as the database prints it.
const canonical = "(tenant = ( SELECT decode(NULLIF(current_setting('app.tenant'::text, true), ''::text), 'hex'::text) AS decode))"

// relays is the one policy that is none of tenants', as the database has it: what it lets through is bounded by what the role may do.
const relays = "c.relname = 'outbox' AND p.polname = 'relay' AND p.polroles = ARRAY[(SELECT r.oid FROM pg_roles r WHERE r.rolname = 'ringfence_relay')] AND pg_get_expr(p.polwithcheck, p.polrelid) = 'false'"

// Flaws are what is wrong with the wall between tenants as the database itself says, a line each; none: it stands around every
// table. Any of the roles may ask.
func Flaws(ctx context.Context, url secret.Text) ([]string, error) {
	db, err := connect(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	tx, err := db.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("look at the schema: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	var tables int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = 'audit_entries'").Scan(&tables); err != nil {
		return nil, fmt.Errorf("look at the schema: %w", err)
	}
	if tables == 0 {
		return []string{"there is no schema of ours: run ringfence migrate up"}, nil
	}
	return flaws(ctx, tx)
}

func flaws(ctx context.Context, tx *sql.Tx) (found []string, err error) {
	for _, q := range flawed() {
		rows, err := tx.QueryContext(ctx, strings.ReplaceAll(q, "@lookups", lookups))
		if err != nil {
			return nil, fmt.Errorf("look at the schema: %w", err)
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				return nil, err
			}
			found = append(found, line)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// flawed are the queries for what is wrong with the schema, a line each; @lookups is the array of look-up tables.
func flawed() []string {
	return []string{
		// The tenant leads every key, unique or not, and is never absent.
		`SELECT c.relname || ': has no tenant, or may be without' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups)
		AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant' AND a.attnotnull AND a.atttypid = 'bytea'::regtype)`,
		`SELECT c.relname || ': has no primary key' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups)
		AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)`,
		`SELECT n.relname || ': an index that does not begin with the tenant' FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class n ON n.oid = i.indexrelid
		WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relname = ANY (@lookups) AND (n.relname <> 'outbox_shards' OR i.indisunique) AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = i.indkey[0]) IS DISTINCT FROM 'tenant'`,
		`SELECT k.conname || ': a reference that does not begin with the tenant' FROM pg_constraint k WHERE k.contype = 'f' AND ((SELECT attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1]) <> 'tenant'
		OR (SELECT attname FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1]) <> 'tenant')`,
		// The wall stands around every table of tenants, its owner included.
		`SELECT c.relname || ': row-level security is not forced' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups) AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`,
		`SELECT c.relname || ': has not the one policy' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY (@lookups)
		AND (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}' AND pg_get_expr(p.polqual, p.polrelid) = '` + strings.ReplaceAll(canonical, "'", "''") + `'
			AND pg_get_expr(p.polwithcheck, p.polrelid) = pg_get_expr(p.polqual, p.polrelid)) <> 1`,
		`SELECT c.relname || ': more than one policy' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND NOT (` + relays + `)) > 1`,
		// A relay sees the outbox of all tenants, and nothing else of anybody; it takes away what was sent, and writes nothing.
		`SELECT c.relname || ': ringfence_relay has ' || v.p FROM pg_class c, (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) v(p) WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
		AND has_table_privilege('ringfence_relay', c.oid, v.p) AND NOT (c.relname = 'outbox' AND v.p IN ('SELECT', 'DELETE')) AND NOT (c.relname IN ('bun_migrations', 'oldest_programs') AND v.p = 'SELECT')`,
		// An MQTT worker reads what lets a message in, and no event, no person, no secret.
		`SELECT c.relname || ': ringfence_reader has ' || v.p FROM pg_class c, (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) v(p) WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
		AND has_table_privilege('ringfence_reader', c.oid, v.p) AND NOT (v.p = 'SELECT' AND c.relname IN ('known', 'due', 'audit_heads', 'tenants', 'limits', 'nodes', 'roles', 'groups', 'memberships', 'members', 'sources', 'source_keys', 'touched', 'mappings', 'bun_migrations', 'oldest_programs'))`,
		`SELECT c.relname || ': ringfence_runtime has ' || v.p FROM pg_class c, (VALUES ('SELECT'), ('UPDATE'), ('DELETE')) v(p) WHERE c.relnamespace = 'public'::regnamespace AND c.relname = 'outbox' AND has_table_privilege('ringfence_runtime', c.oid, v.p)`,
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
		`SELECT c.relname || CASE c.relkind WHEN 'm' THEN ': a materialized view' ELSE ': a foreign table' END || ', which no policy guards' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('m', 'f')`,
		// Nothing of ours is granted by the column, so that a right to a table is all that must be looked at.
		`SELECT c.relname || ': ' || coalesce(g.rolname, 'everybody') || ' has ' || x.privilege_type || ' on column ' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid CROSS JOIN LATERAL aclexplode(a.attacl) x LEFT JOIN pg_roles g ON g.oid = x.grantee
		WHERE c.relnamespace = 'public'::regnamespace AND x.grantee <> c.relowner`,
		// What stands in another schema is looked at by none of these, and an extension's is none of ours.
		`SELECT n.nspname || '.' || o.name || ': stands in another schema' FROM (SELECT tableoid, oid, relnamespace, relname::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') UNION ALL SELECT tableoid, oid, pronamespace, proname::text FROM pg_proc WHERE prosecdef) o(of, id, place, name)
		JOIN pg_namespace n ON n.oid = o.place WHERE n.nspname NOT IN ('public', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.of AND d.objid = o.id AND d.deptype = 'e')`,
		`SELECT rolname || ': may more than a service should' FROM pg_roles r WHERE rolname IN ('ringfence_runtime', 'ringfence_reader', 'ringfence_retention', 'ringfence_relay') AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
		OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid))`,
		`SELECT c.relname || ': ' || r.rolname || ' has ' || v.p FROM pg_class c, pg_roles r, (VALUES ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) v(p)
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND r.rolname IN ('ringfence_runtime', 'ringfence_reader', 'ringfence_retention', 'ringfence_relay', 'ringfence_backup') AND has_table_privilege(r.rolname, c.oid, v.p)`,
		`SELECT c.relname || ': belongs to ' || pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND pg_get_userbyid(c.relowner) <> 'ringfence_owner'`,
		`SELECT r.rolname || ': makes tables' FROM pg_roles r WHERE r.rolname IN ('ringfence_runtime', 'ringfence_reader', 'ringfence_retention', 'ringfence_relay', 'ringfence_backup') AND has_schema_privilege(r.rolname, 'public', 'CREATE')`,
		`SELECT c.relname || ': ringfence_backup writes' FROM pg_class c, (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) v(p) WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND has_table_privilege('ringfence_backup', c.oid, v.p)`,
		`SELECT c.relname || ': is no look-up table that is known here' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND NOT c.relname = ANY (@lookups)`,
	}
}
