//go:build services

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
)

// An operator's day: the alarm, the command that ends it, several of them at once and again, and what is over is dropped.
func TestMaintainPreparesTheDaysToComeAndDropsThoseThatAreOver(t *testing.T) {
	now := pgtest.Day()
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	dir := t.TempDir()
	file := func(role string) string {
		path := filepath.Join(dir, role+".url")
		if err := os.WriteFile(path, []byte(server.URL(name, role).Reveal()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	owner, retention := file("owner"), file("retention")
	ask := func(args ...string) (int, string, string) {
		var out, told bytes.Buffer
		code := run(t.Context(), args, environment{lookup: func(string) (string, bool) { return "", false }, stdout: &out, stderr: &told})
		return code, out.String(), told.String()
	}
	day := func(back int) string { return now.AddDate(0, 0, -back).Format("20060102") }
	for _, back := range []int{0, 1, 2} { // it was forgotten for longer than it prepares for
		if err := server.Ask(t.Context(), name, "DROP TABLE IF EXISTS readings_"+day(back)+", uplinks_"+day(back)+", outcomes_"+day(back)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := postgres.Prepare(t.Context(), server.URL(name, "owner"), now.AddDate(0, 0, -3), now.AddDate(0, 0, -3)); err != nil {
		t.Fatal(err)
	}
	tomorrow, old := "readings_"+day(-1), now.AddDate(-2, 0, 0)
	if err := server.Ask(t.Context(), name, "DROP TABLE "+tomorrow); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Prepare(t.Context(), server.URL(name, "owner"), old, old); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"maintain", "--check", "--url-file", owner}, {"migrate", "status", "--url-file", owner}} {
		if code, out, told := ask(args...); code != exitNo || !strings.Contains(out, "ALARM: partitions are there for 0 days ahead") || !strings.Contains(out, "run ringfence maintain") {
			t.Errorf("%v: %d %s %s", args, code, out, told)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if code, out, told := ask("maintain", "--url-file", owner); code != exitDone || !strings.Contains(out, "for 7 days ahead") || strings.Contains(out, "dropped") {
				t.Errorf("%d %s %s", code, out, told)
			}
		})
	}
	wg.Wait()
	for _, back := range []int{0, 1, 2} {
		if err := server.Ask(t.Context(), name, "SELECT count(*) FROM uplinks_"+day(back)+", readings_"+day(back)); err != nil {
			t.Errorf("a day that was passed over: %v", err)
		}
	}
	if code, out, told := ask("maintain", "--json", "--url-file", owner, "--retention-url-file", retention, "--readings-days", "700", "--uplinks-days", "698"); code != exitDone ||
		!strings.HasPrefix(out, `{"made":[],"dropped":["uplinks_`+old.Format("20060102")+`"`) || !strings.Contains(out, `"days_ahead":7`) {
		t.Errorf("%d %s %s", code, out, told)
	}
	if code, _, told := ask("maintain", "--url-file", owner, "--uplinks-days", "29"); code != exitUsage || !strings.Contains(told, "at least 30 days") {
		t.Errorf("29 days: %d %s", code, told)
	}
	if code, out, told := ask("maintain", "--check", "--url-file", owner); code != exitDone {
		t.Errorf("after: %d %s %s", code, out, told)
	}
	if code, _, told := ask("maintain"); code != exitUsage || !strings.Contains(told, "RINGFENCE_DATABASE_URL") {
		t.Errorf("without a URL: %d %s", code, told)
	}
}

// With --loop it goes on until it is told to stop.
func TestMaintainGoesOnUntilItIsStopped(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	url := server.URL(server.Database(t), "owner").Reveal()
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"maintain", "--loop"}, environment{lookup: func(name string) (string, bool) {
			return map[string]string{databaseVariable: url}[name], name == databaseVariable
		}, stdout: in, stderr: io.Discard})
	}()
	if n, err := out.Read(make([]byte, 100)); err != nil || n == 0 {
		t.Fatal(err)
	}
	select {
	case code := <-ended:
		t.Fatalf("it ended by itself: %d", code)
	default:
	}
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("exit code %d", code)
	}
}
