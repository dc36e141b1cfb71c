//go:build services

package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/bus"
)

// next builds the next version of our binaries: this one's sources with some more in place of what they say, and more files.
func (d *deployment) next(files map[string]string, edits map[string][][2]string, binaries ...string) (dir string) {
	d.t.Helper()
	dir = d.t.TempDir()
	root, err := filepath.Abs("../../..")
	if err != nil {
		d.t.Fatal(err)
	}
	for file, changes := range edits {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			d.t.Fatal(err)
		}
		for _, c := range changes {
			if strings.Count(string(text), c[0]) != 1 {
				d.t.Fatalf("%s has not %q once", file, c[0])
			}
			text = []byte(strings.Replace(string(text), c[0], c[1], 1))
		}
		files[file] = string(text)
	}
	replace := map[string]string{}
	for file, text := range files {
		replace[filepath.Join(root, file)] = filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(replace[filepath.Join(root, file)], []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		d.t.Fatal(err)
	}
	args := []string{"build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir + "/"}
	for _, binary := range binaries {
		args = append(args, "github.com/ringfence/ringfence/cmd/"+binary)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		d.t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// of is a process by the binary of another folder, with more in its environment.
func (p *process) of(dir string, env ...string) *process {
	return with(&process{name: p.name, make: func() *exec.Cmd {
		c := p.make()
		c.Path = filepath.Join(dir, filepath.Base(c.Path))
		c.Args[0] = c.Path
		return c
	}}, env...)
}

// migrated brings the schema to a version, as an operator does.
func (d *deployment) migrated(dir, want string) {
	d.t.Helper()
	up := exec.Command(filepath.Join(dir, "ringfence"), "migrate", "up")
	up.Env = append(os.Environ(), "RINGFENCE_DATABASE_URL="+d.server.URL(d.name, "owner").Reveal())
	if out, err := up.CombinedOutput(); err != nil || !strings.Contains(string(out), want+"  applied") {
		d.t.Fatalf("migrate up: %v\n%s", err, out)
	}
}

// becomes replaces a process that runs, as a rolling upgrade does.
func (d *deployment) becomes(name string, p *process) {
	d.t.Helper()
	d.end(d.workers[name], syscall.SIGTERM)
	d.workers[name] = p
	if name != "platform-api" {
		d.run(name)
		return
	}
	d.api = p
	d.start(p)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
}

// Two versions of each binary, with different newest migrations and different newest records, on one PostgreSQL and one Kafka: the schema
// is migrated under the old ones, each is replaced in turn while the others are old, and the new records are written when all are new.
func TestTwoVersionsRunSideBySideWhileEventsFlow(t *testing.T) {
	d := deploy(t)
	const planted, later = "20991231000001", "20991231000002"
	var newest string
	if err := d.row("SELECT max(name) FROM bun_migrations").Scan(&newest); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"adapters/sqlstore/postgres/migrations/" + planted + "_planted.tx.up.sql": "-- oldest program: " + newest + "\nALTER TABLE uplinks ADD COLUMN planted bigint NOT NULL DEFAULT 7;\nALTER TABLE devices ADD COLUMN planted text NOT NULL DEFAULT 'x';\n"}
	record := map[string][][2]string{"core/uplink/event.go": {
		{"\tVersion       = 1", "\tVersion       = 2"},
		{"\tb = appendText(b, `\",\"via\":`, e.Via)\n", "\tname := `\",\"via\":`\n\tif version == 2 {\n\t\tname = `\",\"brought_by\":`\n\t}\n\tb = appendText(b, name, e.Via)\n"},
		{`		case "via":`, `		case map[uint64]string{1: "via", 2: "brought_by"}[version]:`},
	}}
	next := d.next(files, record, "platform-api", "event-worker", "mqtt-ingestion-worker", "ringfence")
	const mqtt, events = "mqtt-ingestion-worker", "event-worker"
	old := map[string]*process{}
	for _, name := range []string{mqtt, events} {
		d.run(name)
		old[name] = d.workers[name]
	}
	cs := d.customers(2, light)
	p := d.publisher(2)
	defer p.close()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var flowing sync.WaitGroup
	flowing.Go(func() { p.flood(ctx, cs, 100, 1<<30) })
	posted := 0
	flowing.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if status := d.sent(t.Context(), fmt.Sprint("posted ", posted)); status == 202 {
				posted++
			} else if status != 0 && status != 503 {
				t.Errorf("the API answers %d", status)
			}
			<-tick.C
		}
	})
	flows := func(when string) {
		t.Helper()
		before := d.count("SELECT count(*) FROM readings")
		d.await("events flow "+when, time.Minute, func() error {
			if n := d.count("SELECT count(*) FROM readings") - before; n < 100 {
				return fmt.Errorf("%d more readings", n)
			}
			return nil
		})
	}
	takesPart := func(name string) {
		t.Helper()
		d.await(name+" takes part", time.Minute, func() error {
			if d.metric(name, `ringfence_events_finished_total{state="processed"}`) == 0 {
				return errors.New("it has finished nothing")
			}
			return nil
		})
	}
	flows("before")
	d.migrated(next, planted)
	flows("on a newer schema")
	d.becomes(events, old[events].of(d.bin))
	flows("through an old worker that was started on a newer schema")
	d.becomes(mqtt, old[mqtt].of(next))
	flows("from a new worker to an old one")
	both := "the new " + events
	d.workers[both] = old[events].of(next)
	d.run(both)
	takesPart(both)
	flows("through a new worker and an old one")
	takesPart(events)
	d.end(d.workers[events], syscall.SIGTERM)
	delete(d.workers, events)
	d.becomes("platform-api", d.api.of(next))
	flows("through new ones")
	written := func(version string) (n int) {
		for part := range 4 {
			lags, err := d.carrier.Lags(t.Context(), "nobody", "rf.uplinks")
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lags {
				if l.Partition != part {
					continue
				}
				rs, err := d.carrier.Browse(t.Context(), "rf.uplinks", part, l.First, int(l.End-l.First))
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rs {
					for _, h := range r.Headers {
						if h.Name == bus.VersionHeader && string(h.Value) == version {
							n++
						}
					}
				}
			}
		}
		return n
	}
	if n := written("2"); n != 0 {
		t.Errorf("%d records are of the new version before anybody said so", n)
	}
	const raised = "RINGFENCE_KAFKA_WRITE_VERSION=2"
	d.becomes(mqtt, old[mqtt].of(next, raised))
	flows("in both versions")
	d.becomes("platform-api", d.api.of(next, raised))
	flows("in the new version")
	end()
	flowing.Wait()
	p.through(time.Minute)
	of := written("1")
	d.whole(int(p.acked.Load())+posted, time.Minute)
	t.Logf("%d events by MQTT and %d by HTTP, %d records of the old version and %d of the new one", p.acked.Load(), posted, of, written("2"))
	if of == 0 || written("2") == 0 {
		t.Error("records want to be of both versions")
	}
	if lags, err := d.carrier.Lags(t.Context(), "nobody", "rf.uplinks.dead"); err != nil {
		t.Error(err)
	} else {
		for _, l := range lags {
			if l.End != 0 {
				t.Errorf("%d dead letters", l.End)
			}
		}
	}

	// A migration that no old program works with: the new ones go on, an old one is not started on it.
	files["adapters/sqlstore/postgres/migrations/"+later+"_planted.tx.up.sql"] = "-- oldest program: " + planted + "\nALTER TABLE devices DROP COLUMN planted;\n"
	d.migrated(d.next(files, nil, "ringfence"), later)
	d.becomes("platform-api", d.api.of(next, raised))
	for _, name := range []string{mqtt, events} {
		p := old[name].of(d.bin)
		d.start(p)
		d.await("an old "+name+" ends", time.Minute, func() error {
			select {
			case <-p.done:
				return nil
			default:
				return errors.New("it runs")
			}
		})
		if code := p.cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(p.log.String(), "migration "+later+" needs a newer one; use the program that the schema was made for") {
			t.Errorf("an old %s ended with %d:\n%s", name, code, p.log)
		}
	}
}
