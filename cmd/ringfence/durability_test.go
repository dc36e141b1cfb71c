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
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// TestAcknowledgedIsKeptThroughKills sends events from 64 clients and kills the server again and again. Clients repeat what
// was not acknowledged, under the same id.
func TestAcknowledgedIsKeptThroughKills(t *testing.T) {
	kills, want := 20, 20_000
	k := newChild(t, built(t), unlimited...)
	address := k.address
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
