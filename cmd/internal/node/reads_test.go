//go:build services

package node_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	random "math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/testkit/measure"
)

// model is a tenant with an owner, a token of theirs, devices and readings, made as users make them; others are copied from it.
type model struct {
	tenant, person, token string
	devices               []string
}

const perDevice = 5 // readings

func (d *deployment) model() model {
	d.t.Helper()
	const mail = "model@copies.example"
	made := d.ask("POST", "/v1/platform/tenants", object{"name": "Copies", "owner_email": mail}, 201)
	m := model{tenant: str(made, "id")}
	admin := d.token
	d.token = ""
	d.ask("POST", "/v1/auth/invitations/accept", object{"token": str(made, "owner_invitation", "secret"), "name": "Owner", "password": personsPassword}, 201)
	d.token = str(d.ask("POST", "/v1/auth/login", object{"email": mail, "password": personsPassword, "mode": "token"}, 200), "access_token")
	m.person = str(d.ask("GET", "/v1/me", nil, 200), "id")
	at := "/v1/tenants/" + m.tenant
	dec := str(d.ask("POST", at+"/decoders", object{"name": "level"}, 201), "id")
	version := str(d.ask("POST", at+"/decoders/"+dec+"/versions", object{"source": light}, 201), "id")
	d.ask("POST", at+"/decoders/"+dec+"/activate", object{"version_id": version, "-rev": str(d.ask("GET", at+"/decoders/"+dec, nil, 200), "-etag")}, 200)
	for n := range pumps {
		m.devices = append(m.devices, str(d.ask("POST", at+"/devices", object{"name": fmt.Sprint("pump ", n), "decoder_id": dec, "addresses": []object{{"kind": "serial", "value": fmt.Sprint("pump-", n)}}}, 201), "id"))
	}
	src := str(d.ask("POST", at+"/sources", object{"name": "gateway", "format": "plain"}, 201), "id")
	key := str(d.ask("POST", at+"/sources/"+src+"/keys", object{"name": "first"}, 201), "secret")
	m.token = str(d.ask("POST", at+"/tokens", object{"name": "reader", "permissions": []string{"device:read", "reading:read"}}, 201), "secret")
	d.token = key
	for n := range pumps * perDevice {
		d.ask("POST", "/v1/ingest/plain", object{"id": fmt.Sprint(n), "device": fmt.Sprint("pump-", n%pumps), "address_kind": "serial", "payload": "AA=="}, 202)
	}
	d.token = admin
	d.whole(pumps*perDevice, time.Minute)
	return m
}

// copied makes more tenants like the model in a database, each with an owner and a token of its own: every row of the model's, with
// these in their places. It answers the tokens.
func (d *deployment) copied(database string, m model, tenants int) (of []reading) {
	d.t.Helper()
	ctx := d.t.Context()
	must := func(err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	keys, err := keyring.Read(filepath.Join(d.dir, "keys"), keyring.Peppers)
	must(err)
	_, pepper := keys.Current()
	verifier := func(t credential.Token) string {
		v := credential.Verifier(pepper, t.Whole)
		raw, err := json.Marshal(v)
		must(err)
		return string(raw)
	}
	was, err := credential.Parse(m.token)
	must(err)
	tenant, err := ident.ParseTenant(m.tenant)
	must(err)
	var person ident.Principal
	must(person.UnmarshalText([]byte(m.person)))
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	rows := make([][]any, tenants)
	for n := range rows {
		var t ident.Tenant
		var p ident.Principal
		ident.Fresh(mint, &t)
		ident.Fresh(mint, &p)
		var bits [credential.RandomLen]byte
		_, _ = rand.Read(bits[:])
		token := credential.Mint(credential.KindPersonal, bits)
		rows[n] = []any{fmt.Sprint(n), t[:], t.String(), p[:], p.String(), token.Accessor, verifier(token)}
		of = append(of, reading{tenant: t.String(), token: token.Whole.Reveal()})
	}
	conn, err := pgx.Connect(ctx, database)
	must(err)
	defer func() { _ = conn.Close(ctx) }()
	ask := func(q string, args ...any) {
		d.t.Helper()
		if _, err := conn.Exec(ctx, q, args...); err != nil {
			d.t.Fatalf("%s: %v", q, err)
		}
	}
	ask("SET session_replication_role = replica") // triggers would do row by row what is done at once below
	ask("CREATE TEMPORARY TABLE copies (n text, tenant bytea, tenant_text text, person bytea, person_text text, accessor text, verifier text)")
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"copies"}, []string{"n", "tenant", "tenant_text", "person", "person_text", "accessor", "verifier"}, pgx.CopyFromRows(rows))
	must(err)
	other := func(x string) string {
		for _, pair := range [][2]string{{m.tenant, "o.tenant_text"}, {m.person, "o.person_text"}, {was.Accessor, "o.accessor"}, {verifier(was), "o.verifier"}, {"model@", "o.n || '@'"}} {
			x = fmt.Sprintf("replace(%s, '%s', %s)", x, pair[0], pair[1])
		}
		return x
	}
	tables, err := conn.Query(ctx, `SELECT c.relname, array_agg(quote_ident(a.attname) ORDER BY a.attnum), array_agg(a.atttypid::regtype::text ORDER BY a.attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND (c.relrowsecurity OR c.relname = 'locations') GROUP BY c.relname`)
	must(err)
	var inserts []string
	for tables.Next() {
		var table string
		var columns, types []string
		must(tables.Scan(&table, &columns, &types))
		values := slices.Clone(columns)
		for i, column := range columns {
			switch {
			case column == "body":
				values[i] = "convert_to(" + other("convert_from(m.body, 'UTF8')") + ", 'UTF8')"
			case types[i] == "text":
				values[i] = other("m." + column)
			case types[i] == "bytea":
				values[i] = fmt.Sprintf(`CASE m.%[1]s WHEN '\x%[2]x' THEN o.tenant WHEN '\x%[3]x' THEN o.person ELSE m.%[1]s END`, column, tenant[:], person[:])
			default:
				values[i] = "m." + column
			}
		}
		which := fmt.Sprintf(`m.tenant = '\x%x'`, tenant[:])
		switch table {
		case "persons", "tenants":
			which += fmt.Sprintf(` OR m.id IN ('\x%x', '\x%x')`, tenant[:], person[:])
		case "locations":
			which += fmt.Sprintf(` AND m.accessor = '%s'`, was.Accessor)
		}
		inserts = append(inserts, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s m, copies o WHERE %s", table, strings.Join(columns, ", "), strings.Join(values, ", "), table, which))
	}
	must(tables.Err())
	for _, q := range inserts {
		ask(q)
	}
	ask("INSERT INTO known SELECT tenant, pg_current_xact_id() FROM copies")
	ask("VACUUM ANALYZE")
	return of
}

// reading is a tenant and who reads it.
type reading struct{ tenant, token string }

// clients ask an API for what it answers most: lists of readings and of devices, and a device's latest reading.
type clients struct {
	base    string
	devices []string
	of      []reading
	rounds  []float64 // what a request took in the middle, in microseconds, each time that they asked
	client  *http.Client
}

const hands = 4 // that ask at the same time

// ask asks so often, each time for one of them.
func (r *clients) ask(t testing.TB, n int, one func(int) reading) {
	t.Helper()
	took := make([]float64, n)
	var asking sync.WaitGroup
	for hand := range hands {
		asking.Go(func() {
			for k := hand; k < n; k += hands {
				by := one(k)
				at, device := r.base+"/v1/tenants/"+by.tenant, r.devices[random.IntN(len(r.devices))]
				began := time.Now()
				if err := by.ask(t.Context(), r.client, []string{at + "/readings?limit=10&device_id=" + device, at + "/devices/" + device + "/latest", at + "/devices?limit=10"}[k/hands%3]); err != nil {
					t.Error(err)
					return
				}
				took[k] = float64(time.Since(began).Microseconds())
			}
		})
	}
	asking.Wait()
	r.rounds = append(r.rounds, middle(took))
}

// BenchmarkReads is a real API over PostgreSQL, asked over HTTP by tokens of tenants: of a database of 10 tenants, of ten of one of
// 10,000, and of all of that.
func BenchmarkReads(b *testing.B) {
	const rounds = 7
	d := deploy(b)
	d.run("event-worker")
	m := d.model()
	for _, name := range []string{"event-worker", "platform-api"} {
		d.end(d.workers[name], syscall.SIGTERM)
	}
	larger := d.copyDatabase()
	few, all := d.copied(d.database, m, 10), d.copied(larger, m, 10_000)
	listen := servers.Free(b)
	other := &process{name: "platform-api 2", make: func() *exec.Cmd {
		c := d.api.make()
		c.Env = append(c.Env, "RINGFENCE_LISTEN="+listen, "RINGFENCE_DATABASE_URL="+renamed(b, d.runtime, larger))
		return c
	}}
	d.workers[other.name] = other
	ways, asked := []measure.Way{}, map[string]*clients{}
	for _, w := range []struct {
		name, base string
		of         []reading
	}{{"of-10", d.base, few}, {"of-10-in-10000", "http://" + listen, all[:10]}, {"of-10000", "http://" + listen, all}} {
		r := &clients{base: w.base, devices: m.devices, of: w.of, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: hands}}}
		asked[w.name] = r
		ways = append(ways, measure.Way{Name: w.name, Do: func(n int) { r.ask(b, n, func(int) reading { return r.of[random.IntN(len(r.of))] }) }})
	}
	d.start(d.api)
	d.start(other)
	for _, r := range asked {
		d.await("the API", time.Minute, func() error { return d.ready(r.base) })
		r.ask(b, len(r.of), func(k int) reading { return r.of[k] }) // each tenant's policy is known
	}
	costs := measure.InTurn(b, rounds, 3*time.Second, ways...)
	measure.Report(b, costs)
	for i, w := range ways {
		r := asked[w.Name]
		r.rounds = r.rounds[len(r.rounds)-rounds:] // less what was asked to warm up
		b.ReportMetric(middle(r.rounds), w.Name+"-p50-us")
		if i == 0 {
			continue
		}
		against := make([]float64, rounds)
		for n := range against {
			against[n] = r.rounds[n] / asked["of-10"].rounds[n]
		}
		b.ReportMetric(costs[i].Against(costs[0]), w.Name+"-x")
		b.ReportMetric(middle(against), w.Name+"-p50-x")
		b.Logf("%s: medians %.2f", w.Name, against)
	}
}

// ask asks for something and wants it to be there.
func (r reading) ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !strings.Contains(string(text), `"id"`)) {
		err = fmt.Errorf("%s: %d %s", url, res.StatusCode, text)
	}
	return err
}

// renamed is the URL of a database as that of another.
func renamed(t testing.TB, of, like string) string {
	t.Helper()
	a, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	b, err := url.Parse(like)
	if err != nil {
		t.Fatal(err)
	}
	a.Path = b.Path
	return a.String()
}

// copyDatabase is a copy of the deployment's database, beside it.
func (d *deployment) copyDatabase() (at string) {
	d.t.Helper()
	u, err := url.Parse(d.database)
	if err != nil {
		d.t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(d.t.Context(), u.String())
	if err == nil {
		_, err = conn.Exec(d.t.Context(), "CREATE DATABASE "+name+"_copy OWNER ringfence_owner TEMPLATE "+name)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	_ = conn.Close(d.t.Context())
	u.Path = "/" + name + "_copy"
	return u.String()
}
