package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// killed is a server of its own process that can be killed like a power cut kills it, less the page cache.
type killed struct {
	t              *testing.T
	binary, dir    string
	address, setup string
	cmd            *exec.Cmd
}

// output is what a server prints, read while it prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (k *killed) start() {
	k.t.Helper()
	told := &output{}
	k.cmd = exec.CommandContext(context.WithoutCancel(k.t.Context()), k.binary, "--config", os.DevNull, "--set", "data="+k.dir, "--set", "listen="+k.address, "--set", "metrics_listen=", "--set", "log_level=error",
		"--set", "source_rate=1000000", "--set", "source_burst=1000000", "--set", "ingest_rate=1000000", "--set", "ingest_burst=1000000", "--set", "ingest_in_flight=1000", "--set", "ingest_backlog=1000000", "serve")
	k.cmd.Stdout, k.cmd.Stderr = told, told
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		text := told.text()
		res, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, "http://"+k.address+"/readyz", nil)
		if err != nil {
			k.t.Fatal(err)
		}
		if r, err := (&http.Client{Timeout: time.Second}).Do(res); err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK && (k.setup != "" || regexp.MustCompile(`rf_set_[0-9A-Za-z]{71}`).MatchString(text)) {
				if k.setup == "" {
					k.setup = regexp.MustCompile(`rf_set_[0-9A-Za-z]{71}`).FindString(text)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("the server did not come up: %s", text)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (k *killed) kill() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}

// TestAcknowledgedIsKeptThroughKills sends events from 64 clients and kills the server again and again. Clients repeat what
// was not acknowledged, under the same id.
func TestAcknowledgedIsKeptThroughKills(t *testing.T) {
	kills, want := 20, 20_000
	dir := t.TempDir()
	binary := filepath.Join(dir, "ringfence")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	k := &killed{t: t, binary: binary, dir: filepath.Join(dir, "data"), address: address}
	k.start()
	s := &story{ctx: t.Context(), dir: dir, base: "http://" + address, out: io.Discard, client: &http.Client{Timeout: 20 * time.Second}}
	admin, err := s.platform(k.setup)
	if err != nil {
		t.Fatal(err)
	}
	ten, err := s.tenant(admin, "Acme Water", "ana@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.must(s.post(ten.token, "/v1/tenants/"+ten.id+"/sources", obj{"name": "plain", "format": "plain"}), 201)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.must(s.post(ten.token, "/v1/tenants/"+ten.id+"/sources/"+src.str("id")+"/keys", obj{"name": "first"}), 201)
	if err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	acked := map[string]string{} // our id → event id
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for c := range 64 {
		wg.Go(func() {
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			for n := 0; ctx.Err() == nil && count() < want; {
				id := fmt.Sprintf("%d-%d", c, n)
				event, ok := submit(ctx, client, "http://"+address, key.str("secret"), id)
				if !ok {
					select { // the server is down: try the same again
					case <-ctx.Done():
					case <-time.After(10 * time.Millisecond):
					}
					continue
				}
				mu.Lock()
				acked[id] = event
				mu.Unlock()
				n++
			}
		})
	}
	for range kills {
		before := count()
		for limit := time.Now().Add(20 * time.Second); count() < before+want/(kills+1) && count() < want && time.Now().Before(limit); {
			<-time.After(time.Duration(1+rand.IntN(5)) * time.Millisecond) //nolint:gosec // when, not what
		}
		k.kill()
		k.start()
	}
	wg.Wait()
	stop()
	bundle := s.get(ten.token, "/v1/tenants/"+ten.id+"/audit/checkpoint")
	k.kill()

	db, err := sql.Open("sqlite", "file:"+filepath.Join(k.dir, "ringfence.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	kept := map[string]bool{}
	rows, err := db.QueryContext(t.Context(), "SELECT lower(hex(id)) FROM uplinks")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		kept[id] = true
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	lost, seen := 0, map[string]bool{}
	for _, event := range acked {
		id, err := uplinkHex(event)
		if err != nil {
			t.Fatal(err)
		}
		if !kept[id] {
			lost++
		}
		if seen[id] {
			t.Errorf("two events were acknowledged with one id")
		}
		seen[id] = true
	}
	var doubled, gaps int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) - count(DISTINCT dedupe) FROM uplinks").Scan(&doubled); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM audit_heads h WHERE h.size <> (SELECT count(*) FROM audit_entries e WHERE e.tenant = h.tenant) OR h.size <> (SELECT max(seq) + 1 FROM audit_entries e WHERE e.tenant = h.tenant)").Scan(&gaps); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d acknowledged, %d kept, %d kills; checkpoint %d", len(acked), len(kept), kills, bundle.status)
	if lost > 0 || doubled > 0 || gaps > 0 || len(acked) < want {
		t.Errorf("%d acknowledged, %d lost, %d doubled, %d audit logs with gaps", len(acked), lost, doubled, gaps)
	}
}

func submit(ctx context.Context, client *http.Client, base, key, id string) (string, bool) {
	body := `{"device":"70b3d57ed0000001","payload":"CL4u","f_port":2,"id":"` + id + `"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/ingest/plain", bytes.NewReader([]byte(body)))
	if err != nil {
		return "", false
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", false
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		EventID string `json:"event_id"`
	}
	if json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&answer) != nil || res.StatusCode != http.StatusAccepted {
		return "", false
	}
	return answer.EventID, true
}

// uplinkHex is an event's id as the database has it.
func uplinkHex(event string) (string, error) {
	var id ident.Uplink
	err := id.UnmarshalText([]byte(event))
	return hex.EncodeToString(id[:]), err
}
