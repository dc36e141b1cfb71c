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
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

const kills = 20

// Clients repeat what was not acknowledged, under the same id.
func TestAcknowledgedIsKeptThroughKills(t *testing.T) {
	want := 20_000
	k := newChild(t, built(t), unlimited...)
	r := killed(t, k, want)
	t.Logf("%d acknowledged, %d kept, %d kills", r.acknowledged, r.kept, r.kills)
	if r.lost > 0 || r.doubled > 0 || r.gaps > 0 || r.acknowledged < want || r.kills < kills {
		t.Errorf("%+v", r)
	}
}

// An answer before COMMIT is the bug that this would miss with few clients. (The other one, a commit that is not synced, is
// not to be seen by killing a process: adapters/sqlstore/sqlite.TestAConnectionThatCouldLoseACommitIsRefused.)
func TestAnAcknowledgementBeforeTheCommitIsFound(t *testing.T) {
	k := &child{t: t, binary: os.Args[0], env: []string{plantedEnv + "=yes"}}
	k.begin(unlimited)
	if r := killed(t, k, 20_000); r.lost == 0 {
		t.Errorf("nothing that was acknowledged was lost: %+v", r)
	} else {
		t.Logf("found: %+v", r)
	}
}

// survey is what became of the events that were acknowledged.
type survey struct{ acknowledged, kept, lost, doubled, gaps, kills int }

// A server that is told to stop answers who is there, refuses nobody without a word, and ends well.
func TestAStoppedServerEndsWellAndKeepsWhatItAcknowledged(t *testing.T) {
	times := 8
	if os.Getenv("RINGFENCE_LONG") != "" {
		times = 50
	}
	k := newChild(t, built(t), unlimited...)
	c := newClients(t, k, 1_000_000)
	for stops := 1; stops <= times; stops++ {
		c.wait(500 * stops)
		if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- k.cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the stopped server ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the server does not stop")
		}
		if r := surveyed(t, k, c.told(), 0); r.lost > 0 || r.doubled > 0 || r.gaps > 0 || r.acknowledged < 500*stops {
			t.Errorf("stop %d: %+v", stops, r)
		}
		k.start()
	}
	c.stop()
	if len(c.odd) > 0 {
		t.Errorf("answers while it stopped, by their status: %v", c.odd)
	}
}

// clients are 64 that send events to a server until so many are acknowledged, each again until it is.
type clients struct {
	t     *testing.T
	s     *story
	ten   *demoTenant
	want  int
	end   context.CancelFunc
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked map[string]string // our id → event id
	odd   map[int]int       // answers that neither acknowledge nor say when to come again, by status
}

func newClients(t *testing.T, k *child, want int) *clients {
	t.Helper()
	s, admin := k.story()
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
	ctx, end := context.WithCancel(t.Context())
	c := &clients{t: t, s: s, ten: ten, want: want, end: end, acked: map[string]string{}, odd: map[int]int{}}
	t.Cleanup(c.stop)
	for i := range 64 {
		c.wg.Go(func() {
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			for n := 0; ctx.Err() == nil && c.count() < want; {
				id := fmt.Sprintf("%d-%d", i, n)
				event, status := submit(ctx, client, "http://"+k.address, key.str("secret"), id)
				if status != http.StatusAccepted {
					if status != 0 {
						c.mu.Lock()
						c.odd[status]++
						c.mu.Unlock()
					}
					select { // the server is down: try the same again
					case <-ctx.Done():
					case <-time.After(10 * time.Millisecond):
					}
					continue
				}
				c.mu.Lock()
				c.acked[id] = event
				c.mu.Unlock()
				n++
			}
		})
	}
	return c
}

func (c *clients) count() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.acked) }

// told is what was acknowledged so far.
func (c *clients) told() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.acked)
}

// wait returns when so many are acknowledged, or after a while.
func (c *clients) wait(enough int) {
	for limit := time.Now().Add(20 * time.Second); c.count() < min(enough, c.want) && time.Now().Before(limit); {
		<-time.After(time.Duration(1+rand.IntN(5)) * time.Millisecond) //nolint:gosec // when, not what
	}
}

func (c *clients) stop() { c.end(); c.wg.Wait() }

// killed lets clients send events and kills the server again and again, until something is lost.
func killed(t *testing.T, k *child, want int) survey {
	t.Helper()
	c := newClients(t, k, want)
	var r survey
	for ; r.kills < kills && r.lost == 0; r.kills++ {
		c.wait(c.count() + want/(kills+1))
		k.kill()
		r = surveyed(t, k, c.told(), r.kills)
		k.start()
	}
	if r.lost == 0 {
		c.wg.Wait()
	}
	c.stop()
	if c.s.get(c.ten.token, "/v1/tenants/"+c.ten.id+"/audit/checkpoint").status != http.StatusOK {
		t.Error("the log cannot be signed any more")
	}
	k.kill()
	if r.lost > 0 {
		return r
	}
	return surveyed(t, k, c.told(), r.kills)
}

// surveyed compares what was acknowledged with what the database of a killed server holds.
func surveyed(t *testing.T, k *child, acked map[string]string, kills int) survey {
	t.Helper()
	r := survey{acknowledged: len(acked), kills: kills}
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
	r.kept = len(kept)
	seen := map[string]bool{}
	for _, event := range acked {
		id, err := uplinkHex(event)
		if err != nil {
			t.Fatal(err)
		}
		if !kept[id] {
			r.lost++
		}
		if seen[id] {
			r.doubled++ // two events were acknowledged with one id
		}
		seen[id] = true
	}
	var again int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) - count(DISTINCT dedupe) FROM uplinks").Scan(&again); err != nil {
		t.Fatal(err)
	}
	r.doubled += again
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM audit_heads h WHERE h.size <> (SELECT count(*) FROM audit_entries e WHERE e.tenant = h.tenant) OR h.size <> (SELECT max(seq) + 1 FROM audit_entries e WHERE e.tenant = h.tenant)").Scan(&r.gaps); err != nil {
		t.Fatal(err)
	}
	return r
}

// submit answers the event's id, and the status: 0 without an answer that is whole, or if it says when to come again.
func submit(ctx context.Context, client *http.Client, base, key, id string) (event string, status int) {
	body := `{"device":"70b3d57ed0000001","payload":"CL4u","f_port":2,"id":"` + id + `"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/ingest/plain", bytes.NewReader([]byte(body)))
	if err != nil {
		return "", 0
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", 0
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusAccepted {
		if res.Header.Get("Retry-After") != "" {
			return "", 0
		}
		return "", res.StatusCode
	}
	var answer struct {
		EventID string `json:"event_id"`
	}
	if json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&answer) != nil {
		return "", 0
	}
	return answer.EventID, res.StatusCode
}

// uplinkHex is an event's id as the database has it.
func uplinkHex(event string) (string, error) {
	var id ident.Uplink
	err := id.UnmarshalText([]byte(event))
	return hex.EncodeToString(id[:]), err
}
