package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/testkit/redacttest"
)

// journal is what was logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) bytes() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.b.Bytes())
}

// watched is the application as serve wires it, logging at debug level, with all that it leaves behind in view.
func watched(t *testing.T, bug redacttest.Bug) redacttest.Target {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	collector := otlptest.New(t)
	conf, err := loadConfig("/dev/null", []string{"data=" + t.TempDir(), "otlp_endpoint=" + collector.URL, "otlp_ratio=1", "log_level=debug", "principal_rate=100000", "principal_burst=100000", "source_rate=100000", "source_burst=100000", "ingest_rate=100000", "ingest_burst=100000", "mqtt=true", "mqtt_listen=127.0.0.1:0", "broker_auth_listen=127.0.0.1:0"},
		environment{lookup: asBrokers})
	must(err)
	warm(t, conf.str("data"))
	logs := &journal{}
	app, err := opened(t.Context(), conf, logs)
	must(err)
	t.Cleanup(func() { must(app.close(context.Background())) })
	trouble := redacttest.NewTrouble(app.store)
	if bug.Store != nil {
		bug.Store(trouble)
	}
	app.store = trouble
	passwords, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 64, Time: 1}, TestCost: true})
	must(err)
	must(app.rest(t.Context(), conf, passwords))
	link, err := app.signin.SetupLink(t.Context())
	must(err)
	var handler http.Handler = app.api
	if bug.Handler != nil {
		handler = bug.Handler(handler, app.log, app.metrics.Add)
	}
	config := configured(t, conf.dataFile("keys"))
	config["the brokers' secret"] = brokersSecret
	file := conf.dataFile("ringfence.db")
	return redacttest.Target{
		Handler: handler, SetupToken: link.Reveal(), Trouble: trouble,
		Settle: func() { app.settle(t) },
		Background: func(ctx context.Context) {
			var wg sync.WaitGroup
			wg.Go(func() { app.jobs(ctx) })
			wg.Go(func() { _ = app.ingest.Run(ctx, app.workers) }) // ends with the context
			wg.Wait()
		},
		Raise: func(on bool) {
			db, err := sql.Open("sqlite", "file:"+file)
			must(err)
			statement := "DROP TRIGGER spill"
			if on {
				statement = "CREATE TRIGGER spill BEFORE INSERT ON nodes BEGIN SELECT RAISE(FAIL, 'cannot keep ' || CAST(NEW.body AS TEXT)); END"
			}
			_, err = db.ExecContext(t.Context(), "PRAGMA busy_timeout = 5000; "+statement)
			must(errors.Join(err, db.Close()))
		},
		Logs: logs.bytes,
		Metrics: func() []byte {
			w := &page{header: http.Header{}}
			app.metrics.ServeHTTP(w, nil)
			return append(w.Bytes(), collector.Raw()...) // and what a collector was told
		},
		Dump: func(show func(table, column string, value []byte)) { must(dumped(t.Context(), file, show)) },
		Files: func() map[string][]byte {
			out := map[string][]byte{}
			for _, name := range []string{file, file + "-wal"} {
				raw, err := os.ReadFile(name)
				must(err)
				out[filepath.Base(name)] = raw
			}
			return out
		},
		Config: config, Brokers: app.atDoors(t, conf),
	}
}

// page is a ResponseWriter in memory.
type page struct {
	bytes.Buffer
	header http.Header
}

func (p *page) Header() http.Header { return p.header }
func (p *page) WriteHeader(int)     {}

// configured are the secrets in the folder of keys, by file.
func configured(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d keys in %s: %v", len(files), dir, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSpace(string(raw))
		if parts := strings.SplitN(text, "+", 5); strings.HasPrefix(text, "PRIVATE+KEY+") && len(parts) == 5 {
			text = parts[4] // the rest is public
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out["key file "+filepath.Base(name)], out["the key in "+filepath.Base(name)] = text, string(key)
	}
	return out
}

// dumped shows every value of every table that a database file holds.
func dumped(ctx context.Context, file string, show func(table, column string, value []byte)) (err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	var tables []string
	if err := rowsOf(ctx, db, "SELECT name FROM sqlite_master WHERE type = 'table'", func(_ []string, values []any) { tables = append(tables, fmt.Sprint(values...)) }); err != nil {
		return err
	}
	for _, table := range tables {
		err := rowsOf(ctx, db, `SELECT * FROM "`+table+`"`, func(columns []string, values []any) {
			for i, v := range values {
				switch v := v.(type) {
				case []byte:
					show(table, columns[i], v)
				case string:
					show(table, columns[i], []byte(v))
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func rowsOf(ctx context.Context, db *sql.DB, query string, do func(columns []string, values []any)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for err == nil && rows.Next() {
		if err = rows.Scan(into...); err == nil {
			do(columns, values)
		}
	}
	return errors.Join(err, rows.Err(), rows.Close())
}

// Secrets in every input stand in no log, metric, error, audit entry or row, in none of six encodings; names and payloads in
// their own columns and their owner's answers alone.
func TestNoSecretSlipsAndNoNameStrays(t *testing.T) {
	r := redacttest.Run(t, watched(t, redacttest.Bug{}))
	t.Logf("%d requests with %d secrets in %d places and %d names and payloads, which stood in their place: %v; answers: %v", r.Requests, r.Secrets, r.Places, r.Names, r.Stood, r.Statuses)
	if n := r.Statuses[429]; n > r.Requests/50 || r.Statuses[500] < 10 || r.Statuses[503] < 10 {
		t.Errorf("%d requests were held back, and the store failed under %d and %d only", n, r.Statuses[500], r.Statuses[503])
	}
	if r.Requests < 2000 || r.Secrets < 1000 || r.Names < 1000 {
		t.Errorf("%d requests, %d secrets, %d names and payloads were tried", r.Requests, r.Secrets, r.Names)
	}
}

func TestPlantedLeaksAreFound(t *testing.T) {
	for _, bug := range redacttest.Bugs() {
		t.Run(bug.Name, func(t *testing.T) {
			t.Parallel()
			r := redacttest.Check(t, watched(t, bug), redacttest.Part{Until: bug.Finding})
			if !strings.Contains(strings.Join(r.Findings, "\n"), bug.Finding) {
				t.Errorf("not found: %q in %d findings, such as %.400q", bug.Finding, len(r.Findings), r.Findings)
			}
		})
	}
}
