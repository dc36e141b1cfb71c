package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/store"
)

// built is this program as it is shipped: without cgo and without the race detector.
func built(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ringfence")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// settle processes what was accepted, until nothing waits.
func (app *application) settle(t testing.TB) {
	t.Helper()
	for waiting := true; waiting; {
		all, err := app.store.Directory().Waiting(t.Context(), time.Now(), 100)
		for _, w := range all {
			if err == nil {
				_, err = app.ingest.Process(t.Context(), w.Tenant)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting = len(all) > 0
	}
}

// plantedEnv makes this test binary a server with a bug: its tests are then not run.
const plantedEnv = "RINGFENCE_PLANTED"

func TestMain(m *testing.M) {
	if os.Getenv(plantedEnv) != "" {
		os.Exit(hasty(context.Background(), os.Args[1:]))
	}
	code := m.Run()
	if dir, err := compiled(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// compiled is a folder with the engine's machine code. Making it takes longer than most tests, under the race detector many
// times so: it is made once, and each data folder begins with a copy.
var compiled = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ringfence-engine")
	if err != nil {
		return "", err
	}
	engine, err := quickjssandbox.New(context.Background(), quickjssandbox.Options{Instances: 1, CompileDir: dir})
	if err == nil {
		err = engine.Close(context.Background())
	}
	return dir, err
})

// warm puts the engine's machine code into a data folder to be.
func warm(t testing.TB, data string) {
	t.Helper()
	dir, err := compiled()
	engine := filepath.Join(data, "engine")
	if err == nil {
		err = os.MkdirAll(engine, 0o700)
	}
	if err == nil {
		err = os.CopyFS(engine, os.DirFS(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hasty serves as serve does, on a store with one of two bugs.
func hasty(ctx context.Context, args []string) int {
	env := environment{lookup: os.LookupEnv, names: settings.EnvironNames, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	var sets []string
	for i, a := range args {
		if a == "--set" {
			sets = append(sets, args[i+1])
		}
	}
	err := func() error {
		c, err := loadConfig(os.DevNull, sets, env)
		if err != nil {
			return err
		}
		app, err := opened(ctx, c, env.stderr)
		if err != nil {
			return err
		}
		if os.Getenv(plantedEnv) == "apart" {
			app.store = apart{app.store}
		} else {
			app.store = early{app.store}
		}
		passwords, err := openPasswords(c)
		if err != nil {
			return err
		}
		if err := app.rest(ctx, c, passwords); err != nil {
			return err
		}
		return app.serve(ctx, c, env.stdout, nil)
	}()
	fmt.Fprintln(env.stderr, err)
	return 1
}

// early answers an Ingest when fn has run, and commits in its own time.
type early struct{ store.Store }

func (e early) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	ran := make(chan error, 2)
	go func() {
		ran <- e.Store.Ingest(context.WithoutCancel(ctx), s, func(ctx context.Context, f store.Flow) error {
			err := fn(ctx, f)
			select {
			case ran <- err:
			default: // it runs once more
			}
			return err
		})
	}()
	return <-ran
}

// apart commits a change's entries, and then the change (with its entries as refusals, since without any it is not taken).
type apart struct{ store.Store }

func (a apart) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	var said []audit.Event
	tried := errors.New("tried")
	err := a.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) (evs []audit.Event, err error) {
		if said, err = fn(ctx, w); err == nil {
			err = tried
		}
		return nil, err
	})
	if !errors.Is(err, tried) {
		return err
	}
	if err := a.Store.Change(ctx, s, func(context.Context, store.Writer) ([]audit.Event, error) { return said, nil }); err != nil {
		return err
	}
	return a.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		evs, err := fn(ctx, w)
		evs = slices.Clone(evs)
		for i := range evs {
			evs[i].ID, evs[i].Outcome = ident.NewEntry(ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}), audit.Denied
		}
		return evs, err
	})
}

// unlimited are settings that leave the limits to those who measure them.
var unlimited = []string{
	"source_rate=1000000", "source_burst=1000000", "ingest_rate=1000000", "ingest_burst=1000000", "ingest_in_flight=1000", "ingest_backlog=100000000",
	"fuel_per_minute=1000000000000", "principal_rate=1000000", "principal_burst=1000000", "tenant_rate=1000000",
}

// child is a server in a process of its own.
type child struct {
	t              testing.TB
	binary, dir    string
	flags, env     []string
	address, setup string
	cmd            *exec.Cmd
}

// newChild starts a server on a data folder of its own; it ends with the test.
func newChild(t testing.TB, binary string, settings ...string) *child {
	t.Helper()
	c := &child{t: t, binary: binary}
	c.begin(settings)
	return c
}

func (c *child) begin(settings []string) {
	t := c.t
	t.Helper()
	c.dir, c.address = filepath.Join(t.TempDir(), "data"), servers.Free(t)
	warm(t, c.dir)
	c.flags = []string{"--config", os.DevNull}
	for _, s := range append([]string{"data=" + c.dir, "listen=" + c.address, "metrics_listen=", "log_level=warn"}, settings...) {
		c.flags = append(c.flags, "--set", s)
	}
	c.start()
	t.Cleanup(c.kill)
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

func (c *child) start() {
	c.t.Helper()
	told := &output{}
	c.cmd = exec.CommandContext(context.WithoutCancel(c.t.Context()), c.binary, append(c.flags, "serve")...)
	c.cmd.Env = append(os.Environ(), c.env...)
	c.cmd.Stdout, c.cmd.Stderr = told, told
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	token := regexp.MustCompile(`rf_set_[0-9A-Za-z]{71}`)
	client := &http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.address+"/readyz", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		if r, err := client.Do(req); err == nil {
			_ = r.Body.Close()
			if c.setup == "" {
				c.setup = token.FindString(told.text())
			}
			if r.StatusCode == http.StatusOK && c.setup != "" {
				return
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the server did not come up: %s", told.text())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// kill ends the server as a power cut would, less the page cache.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// story is a client of the server that has set it up, and the administrator's token.
func (c *child) story() (*story, string) {
	c.t.Helper()
	s := &story{ctx: c.t.Context(), dir: filepath.Dir(c.dir), base: "http://" + c.address, out: io.Discard, client: &http.Client{Timeout: 20 * time.Second}}
	admin, err := s.platform(c.setup)
	if err != nil {
		c.t.Fatal(err)
	}
	return s, admin
}
