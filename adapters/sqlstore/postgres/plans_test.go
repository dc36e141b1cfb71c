//go:build services

package postgres_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/measure"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// stated is a statement that the store ran, with the arguments of its first run.
type stated struct {
	query string
	args  []any
}

var (
	constant = regexp.MustCompile(`'[^']*'(::[a-z]+)?|\$[0-9]+|\b[0-9]+\b`)
	listed   = regexp.MustCompile(`@(, ?@)+`)
)

// statements are what the store says to the database while the whole suite of the port runs: one of each form.
func statements(t *testing.T, server *pgtest.Server) map[string]stated {
	var mu sync.Mutex
	said := map[string]stated{}
	t.Run("script", func(t *testing.T) {
		heard := func(t testing.TB, o storetest.Options) store.Store {
			s, err := postgres.Open(t.Context(), postgres.Heard(postgres.Options{URL: server.URL(server.Database(t), "runtime"), Now: o.Now, Revised: o.Revised}, func(query string, args []any) {
				form := listed.ReplaceAllString(constant.ReplaceAllString(query, "@"), "@")
				mu.Lock()
				defer mu.Unlock()
				if _, there := said[form]; !there {
					said[form] = stated{query, args}
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		storetest.Run(t, heard)
		w := storetest.NewWorld(t, heard) // and what the suite asks otherwise
		if err := w.Store.View(t.Context(), w.A, func(ctx context.Context, r store.Reader) error {
			_, err := r.Outcomes().Find(ctx, store.Query{Reach: access.Everywhere}, store.OutcomeFilter{Uplink: ident.Uplink(born(t))})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	return said
}

// born is an id of the days that the database is filled with.
func born(t testing.TB) (id ident.Entry) {
	t.Helper()
	then := mint
	then.Now = func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }
	return ident.NewEntry(then)
}

// filled is a database of so many tenants, the suite's among them, with rows in every table of tenants: many of each of ten, few of
// each of 10,000. What a column holds follows from its name and type, so that no table is left out.
func filled(t testing.TB, server *pgtest.Server, tenants, rows int) (database string) {
	t.Helper()
	name := server.Database(t)
	db := connect(t, server.URL(name, ""))
	db.SetMaxOpenConns(1)
	ask := func(q string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	ask("SET session_replication_role = replica") // triggers would do row by row what is done at once below
	// Four days are enough, and each gets its rows.
	ask("DO $$ DECLARE n text; BEGIN FOR n IN SELECT name FROM partitions() WHERE starts < '2026-11-23Z' OR starts > '2026-11-26Z' LOOP EXECUTE format('DROP TABLE %I', n); END LOOP; END $$")
	ask("CREATE TABLE public.of (tenant bytea)")
	ask(fmt.Sprintf(`INSERT INTO public.of SELECT decode(rpad(CASE n WHEN 1 THEN '0a' WHEN 2 THEN '0b' WHEN 3 THEN '%x' ELSE 'f' || lpad(to_hex(n), 7, '0') END, 32, '0'), 'hex') FROM generate_series(1, %d) n`, ident.Platform[:], tenants))
	const moment = "1795392000000000 + (n::bigint * 86413 %% 345600) * 1000000" // from 2026-11-23, over four days
	columns, err := db.QueryContext(t.Context(), `SELECT c.relname, string_agg(quote_ident(a.attname), ',' ORDER BY a.attnum), string_agg(CASE
		WHEN a.attname = 'tenant' THEN 'o.tenant'
		WHEN c.relname IN ('uplinks', 'outcomes') AND a.attname = 'id' THEN 'decode(lpad(to_hex((`+strings.ReplaceAll(moment, "%%", "%")+`) / 1000), 12, ''0'') || substr(md5(n::text || o.tenant::text), 1, 20), ''hex'')'
		WHEN a.attname IN ('at', 'arrived') AND c.relname IN ('uplinks', 'outcomes', 'readings') THEN '`+strings.ReplaceAll(moment, "%%", "%")+`'
		WHEN a.attname = 'expires' THEN '1795500000000000 + n::bigint * 36000000000'
		WHEN a.attname = 'state' AND c.relname = 'uplinks' THEN '(ARRAY[''accepted'', ''quarantined'', ''processed'', ''processed'', ''processed'', ''processed''])[n % 6 + 1]'
		WHEN a.attname IN ('node', 'device', 'owner', 'source', 'decoder') AND NOT (c.relname IN ('latest', 'seen') AND a.attname = 'device') THEN 'decode(rpad(lpad(to_hex(n % 25 + 1), 2, ''0''), 32, ''0''), ''hex'')'
		WHEN a.attname = 'edge' OR a.attname = 'alive' THEN '''\x'''
		WHEN a.attname = 'warnings' THEN '''null'''
		WHEN a.attname IN ('dedupe', 'payload_hash', 'hash') THEN 'decode(md5(n::text) || md5(n || o.tenant::text), ''hex'')'
		WHEN a.atttypid = 'bytea'::regtype THEN 'decode(md5(''' || a.attname || ''' || n || o.tenant::text), ''hex'')'
		WHEN a.atttypid = 'text'::regtype THEN 'md5(''' || a.attname || ''' || n)'
		WHEN a.atttypid = 'boolean'::regtype THEN 'n % 2 = 0'
		WHEN a.atttypid = 'integer'::regtype THEN 'n % 200'
		ELSE 'n' END, ',' ORDER BY a.attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relrowsecurity GROUP BY c.relname`)
	if err != nil {
		t.Fatal(err)
	}
	var inserts []string
	for columns.Next() {
		var table, names, values string
		if err := columns.Scan(&table, &names, &values); err != nil {
			t.Fatal(err)
		}
		n := rows
		switch table {
		case "audit_heads":
			n = 1
		case "uplinks", "outcomes", "readings": // in four partitions each
			n = 4 * rows
		}
		inserts = append(inserts, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM public.of o, generate_series(1, %d) n ORDER BY n", table, names, values, n))
	}
	if err := columns.Err(); err != nil || len(inserts) < 30 {
		t.Fatalf("%d tables: %v", len(inserts), err)
	}
	for _, q := range inserts {
		ask(q)
	}
	ask("INSERT INTO due SELECT tenant, arrived, id, not_before FROM uplinks WHERE state = 'accepted'; INSERT INTO known SELECT tenant, pg_current_xact_id(), 9223372036854775807 FROM audit_heads")
	ask("INSERT INTO locations SELECT md5(n || tenant::text), tenant, 'pat', '\\x01' FROM public.of, generate_series(1, 10) n")
	ask("DROP TABLE public.of")
	ask("VACUUM ANALYZE")
	return name
}

// plan is a node of what EXPLAIN says.
type plan struct {
	Node     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Cond     string `json:"Index Cond"`
	Plans    []plan
}

func (p plan) each(do func(plan)) {
	do(p)
	for _, below := range p.Plans {
		below.each(do)
	}
}

// schema is what plans are judged by.
type schema struct {
	behind map[string]string // table or partition → its table, of those behind the wall
	single map[string]bool   // tables of one page, where there is nothing to choose
	keys   map[string]string // index → its columns
	on     map[string]string // index → its table, if it is behind the wall
}

func schemaOf(t testing.TB, q querier) (s schema) {
	t.Helper()
	s = schema{map[string]string{}, map[string]bool{}, map[string]string{}, map[string]string{}}
	rows, err := q.QueryContext(t.Context(), `SELECT c.relname, coalesce((SELECT parent FROM partitions() WHERE name = c.relname), c.relname), c.relkind = 'r' AND c.relpages <= 1, '', '' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity
		UNION ALL SELECT c.relname, '', false, (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid), CASE WHEN o.relrowsecurity THEN o.relname ELSE '' END
			FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class o ON o.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'i'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, table, key, on string
		var single bool
		if err := rows.Scan(&name, &table, &single, &key, &on); err != nil {
			t.Fatal(err)
		}
		if table == "" {
			s.keys[name], s.on[name] = key, on
			continue
		}
		s.behind[name], s.single[name] = table, single
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// hot are the queries that a busy server lives on, by words of theirs, with the index that each is to use (one of them).
var hot = []struct{ words, key string }{
	{"FROM readings WHERE tenant = @ AND device = @ ORDER BY", "tenant,device,at,fcnt,uplink"},
	{"FROM readings WHERE tenant = @ ORDER BY", "tenant,at,fcnt,uplink"},
	{"FROM latest WHERE", "tenant,device"},
	{"FROM uplinks WHERE tenant = @ AND id = @", "tenant,id"},
	{"FROM uplinks WHERE tenant = @ AND id = ANY(@)", "tenant,id"},
	{"FROM uplinks WHERE tenant = @ AND state = @ ORDER BY", "tenant,id"},
	{"UPDATE uplinks SET rev = rev + @, device", "tenant,id"},
	{"FROM outcomes WHERE tenant = @ AND uplink = @", "tenant,uplink"},
	{"FROM due WHERE tenant = @ AND not_before <= @", "tenant,arrived,id"},
	{"FROM device_addresses WHERE tenant = @ AND kind = @", "tenant,kind,value"},
	{"FROM audit_entries WHERE tenant = @ AND seq = @", "tenant,seq"},
	{"FROM dedupe WHERE tenant = @ AND key = @", "tenant,key"},
	{"FROM assignments WHERE", "tenant,device,since"},
	{"EXECUTE of_batch_plain", "tenant,key"},
	{"EXECUTE of_batch_part", "tenant,key"},
	{"EXECUTE of_batch_duplicates", "tenant,id"},
}

var parameter = regexp.MustCompile(`\$[0-9]+`)

// ofBatches are the statements of batches as a session asks them that has prepared them: for any arguments.
func ofBatches(t testing.TB, tx *sql.Tx) map[string]stated {
	t.Helper()
	texts, _ := postgres.BatchTexts()
	said := map[string]stated{}
	for name, text := range texts {
		if _, err := tx.ExecContext(t.Context(), "PREPARE of_batch_"+name+" AS "+text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		arguments := map[string]bool{}
		for _, p := range parameter.FindAllString(text, -1) {
			arguments[p] = true
		}
		query := "EXECUTE of_batch_" + name + " (" + strings.Repeat("NULL, ", len(arguments)-1) + "NULL)"
		said[query] = stated{query: query}
	}
	return said
}

// crowded are those that have an index to use where there are many tenants.
var crowded = []struct{ words, key string }{{"FROM known WHERE due <= @", "due,tenant"}, {"EXECUTE of_batch_sooner", "tenant"}}

// slow is what is wrong with how a database would answer the statements, as a service asks them.
func slow(t testing.TB, db *sql.DB, planted string, said map[string]stated, hot []struct{ words, key string }) (wrong []string) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	ask := func(q string) {
		t.Helper()
		if _, err := tx.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if planted != "" {
		ask(planted)
	}
	s := schemaOf(t, tx)
	ask("SET LOCAL ROLE ringfence_runtime")
	ask("SELECT set_config('app.tenant', '" + "0a" + strings.Repeat("00", 15) + "', true)")
	used, explained := map[string][]string{}, 0
	said, prepared := maps.Clone(said), ofBatches(t, tx)
	maps.Copy(said, prepared)
	_, set := postgres.BatchTexts()
	defer func() {
		for form := range prepared {
			ask("DEALLOCATE " + strings.Fields(form)[1])
		}
	}()
	for _, form := range slices.Sorted(maps.Keys(said)) {
		if verb, _, _ := strings.Cut(strings.TrimSpace(form), " "); !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "EXECUTE"}, strings.ToUpper(verb)) {
			continue
		}
		ask("SAVEPOINT one")
		if _, there := prepared[form]; there {
			ask(set)
		}
		var text string
		if err := tx.QueryRowContext(t.Context(), "EXPLAIN (FORMAT JSON) "+said[form].query, said[form].args...).Scan(&text); err != nil {
			wrong = append(wrong, fmt.Sprintf("cannot be run: %v: %s", err, form))
			ask("ROLLBACK TO one")
			continue
		}
		ask("ROLLBACK TO one")
		var plans []struct{ Plan plan }
		if err := json.Unmarshal([]byte(text), &plans); err != nil {
			t.Fatal(err)
		}
		explained++
		plans[0].Plan.each(func(p plan) {
			if p.Index != "" {
				used[form] = append(used[form], s.keys[p.Index])
			}
			table := s.behind[p.Relation]
			switch {
			case p.Node == "Seq Scan" && table != "" && !s.single[p.Relation]:
				wrong = append(wrong, table+": read from end to end: "+form)
			case s.on[p.Index] != "" && !(strings.HasPrefix(s.keys[p.Index]+",", "tenant,") && strings.Contains(p.Cond, "(tenant = ")):
				wrong = append(wrong, p.Index+": not one tenant's part: "+form)
			}
		})
	}
	for _, h := range hot {
		found := false
		for form, keys := range used {
			if strings.Contains(form, h.words) {
				found = true
				if !slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(strings.Split(h.key, "|"), key) }) {
					wrong = append(wrong, fmt.Sprintf("(%s) does not serve, %q does: %s", h.key, slices.Compact(keys), form))
				}
			}
		}
		if !found {
			wrong = append(wrong, "is not asked, or without an index: "+h.words)
		}
	}
	if explained < 80 {
		t.Fatalf("%d statements were explained", explained)
	}
	return wrong
}

// Every statement that the store makes, as the suite of the port makes it say them all, meets one tenant's part of an index.
func TestEveryPlanLooksAtOneTenantsPartOfAnIndex(t *testing.T) {
	said := statements(t, pgtest.New(pgtest.Oldest))
	for _, size := range []struct{ tenants, rows int }{{10, 300}, {10_000, 2}} {
		t.Run(fmt.Sprint(size.tenants, " tenants"), func(t *testing.T) {
			both(t, func(t *testing.T, server *pgtest.Server) {
				db := connect(t, server.URL(filled(t, server, size.tenants, size.rows), ""))
				expected := hot
				if size.tenants > 10 {
					expected = append(slices.Clone(hot), crowded...)
				}
				for _, line := range slow(t, db, "", said, expected) {
					t.Error(line)
				}
				if size.tenants > 10 {
					const planted = "DROP INDEX known_due"
					if wrong := slow(t, db, planted, said, crowded); len(wrong) != 1 || !strings.HasPrefix(wrong[0], "is not asked, or without an index: FROM known") && !strings.HasPrefix(wrong[0], "(due,tenant) does not serve") {
						t.Errorf("not found: %s, in %q", planted, wrong)
					}
					return
				}
				for want, planted := range map[string]string{
					"assignments: read from end to end":                   "ALTER TABLE assignments DROP CONSTRAINT assignments_pkey",
					"(tenant,kind,value) does not serve":                  "ALTER TABLE device_addresses DROP CONSTRAINT device_addresses_pkey",
					"readings: read from end to end":                      "DROP INDEX readings_node, readings_time; ALTER TABLE readings DROP CONSTRAINT readings_pkey",
					"(tenant,device,at,fcnt,uplink) does not serve":       "ALTER TABLE readings DROP CONSTRAINT readings_pkey",
					"(tenant,at,fcnt,uplink) does not serve":              "DROP INDEX readings_time",
					"(tenant,uplink) does not serve":                      "DROP INDEX outcomes_uplink",
					"sessions_owner_only: not one tenant's part":          "DROP INDEX sessions_owner; ALTER TABLE sessions DROP CONSTRAINT sessions_pkey; CREATE INDEX sessions_owner_only ON sessions (owner)",
					"is not asked, or without an index: FROM latest WHER": "ALTER TABLE latest DROP CONSTRAINT latest_pkey",
				} {
					if wrong := slow(t, db, planted, said, hot); !slices.ContainsFunc(wrong, func(line string) bool { return strings.HasPrefix(line, want) }) {
						t.Errorf("not found: %s, in %q", want, wrong)
					}
				}
			})
		})
	}
}

// BenchmarkReads is what the API asks most, a page of a device's readings, one by its id and a page of the device's uplinks, of a random tenant among 10 and among 10,000, in turn.
func BenchmarkReads(b *testing.B) {
	server := pgtest.New(pgtest.Oldest)
	way := func(name string, tenants, rows int) measure.Way {
		s := open(b, server.URL(filled(b, server, tenants, rows), "runtime"), storetest.Options{Now: time.Now}, 2)
		b.Cleanup(func() { _ = s.Close() })
		w := new(storetest.World)
		return measure.Way{Name: name, Do: func(n int) {
			for range n {
				k := rand.IntN(tenants-3) + 4 //nolint:gosec // which, not what
				scope := w.Scope(ident.Tenant{0xf0 | byte(k>>24), byte(k >> 16), byte(k >> 8), byte(k)}, 0)
				if err := s.View(b.Context(), scope, func(ctx context.Context, r store.Reader) error {
					d := ident.Device{2}
					page, err := r.Readings().Find(ctx, store.Query{Limit: 10, Reach: access.Everywhere}, store.ReadingFilter{Device: d})
					if err == nil && len(page.Items) != 1 {
						err = fmt.Errorf("%d readings", len(page.Items))
					}
					if err == nil {
						_, err = r.Readings().Latest(ctx, d, access.Everywhere)
					}
					if err == nil {
						_, err = r.Uplinks().Find(ctx, store.Query{Limit: 10, Reach: access.Everywhere}, store.UplinkFilter{Device: d})
					}
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		}}
	}
	costs := measure.InTurn(b, 11, 300*time.Millisecond, way("of-10", 10, 5), way("of-10000", 10_000, 5))
	measure.Report(b, costs)
	b.ReportMetric(costs[1].Against(costs[0]), "x-of-10-tenants")
}
