package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

func TestAConnectionThatCouldLoseACommitIsRefused(t *testing.T) {
	file := "file:" + filepath.Join(t.TempDir(), "ringfence.db")
	for name, c := range map[string]struct{ pragma, set, finding string }{
		"as it is":           {},
		"no syncs":           {"synchronous", "OFF", "synchronous = 0"},
		"syncs now and then": {"synchronous", "NORMAL", "synchronous = 1"},
		"no log":             {"journal_mode", "MEMORY", "journal_mode = memory"},
		"a misspelt mode":    {"journal_mode", "WALL", "journal_mode = delete"},
		"loose references":   {"foreign_keys", "0", "foreign_keys = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := written("5000")
			for i := range s {
				if s[i].pragma == c.pragma {
					s[i].set = c.set
				}
			}
			db, err := pool(file+strings.ReplaceAll(name, " ", "-"), s, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.PingContext(t.Context())
			if c.finding == "" && err != nil || c.finding != "" && (err == nil || !strings.Contains(err.Error(), c.finding)) {
				t.Errorf("%v, want %q", err, c.finding)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each connection of both pools is looked at: as many as there can be are held open at once.
func TestEveryConnectionHasItsSettings(t *testing.T) {
	file := "file:" + filepath.Join(t.TempDir(), "ringfence.db")
	for name, s := range map[string]settings{"written": written("5000"), "read": read()} {
		db, err := pool(file, s, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			for _, p := range s {
				var got string
				if err := conn.QueryRowContext(t.Context(), "PRAGMA "+p.pragma).Scan(&got); err != nil || got != p.want {
					t.Errorf("%s: %s = %s, %v; want %s", name, p.pragma, got, err, p.want)
				}
			}
		}
		defer func() { _ = db.Close() }()
	}
}

const tracedEnv, changes = "RINGFENCE_SQLITE_TRACED", 50

// A change is synced once before it is answered; a setting says so, and the system's own trace is believed.
func TestAChangeIsSyncedOnce(t *testing.T) {
	if os.Getenv(tracedEnv) != "" {
		change(t)
		return
	}
	strace, err := exec.LookPath("strace")
	if err == nil {
		err = exec.CommandContext(t.Context(), strace, "-qq", "-o", os.DevNull, os.Args[0], "-test.list=^$").Run() //nolint:gosec // ourselves
	}
	if err != nil {
		t.Log("strace cannot be had here: the settings of each connection are all that is checked")
		change(t)
		return
	}
	log := filepath.Join(t.TempDir(), "calls")
	traced := exec.CommandContext(t.Context(), strace, "-f", "-ttt", "-qq", "-e", "trace=fsync,fdatasync,write", "-o", log, os.Args[0], "-test.run=^TestAChangeIsSyncedOnce$") //nolint:gosec // ourselves
	traced.Env = append(os.Environ(), tracedEnv+"=yes")
	if out, err := traced.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	began, between, ok1 := strings.Cut(string(text), "changes begin")
	between, _, ok2 := strings.Cut(between, "changes end")
	if !ok1 || !ok2 {
		t.Fatal("the marks are not in the trace")
	}
	at := func(of string) (seconds float64) { // of the last line
		if _, err := fmt.Sscanf(of[strings.LastIndexByte(strings.TrimSuffix(of, "\n"), '\n')+1:], "%d %f", new(int), &seconds); err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	syncs, took := len(regexp.MustCompile(`(?m)^\d+ +[\d.]+ +f(data)?sync\(`).FindAllString(between, -1)), at(between)-at(began)
	t.Logf("%d syncs for %d changes", syncs, changes)
	if syncs < changes || float64(syncs) > changes*5/4+3*took { // some of what tidies up, by the second
		t.Errorf("%d syncs for %d changes, want about one each", syncs, changes)
	}
}

// change makes changes one after another, between two marks in the trace.
func change(t *testing.T) {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ringfence.db"), Now: time.Now, Version: "test", Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	scope := new(storetest.World).Scope(ident.Tenant{1}, 0)
	fmt.Fprintln(os.Stderr, "changes begin")
	for range changes {
		e := audit.Event{Action: audit.SensitiveRead, Target: audit.Target{Kind: "audit", ID: "query"}, Outcome: audit.OK}
		ident.Fresh(mint, &e.ID)
		err = errors.Join(err, s.Change(t.Context(), scope, func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{e}, nil }))
	}
	fmt.Fprintln(os.Stderr, "changes end")
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
