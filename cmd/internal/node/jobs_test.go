//go:build services

package node_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

const jobsEvery = time.Minute // platform-api's

// Three processes share what is due in 1,000 tenants. One is killed and one frozen in the middle of its turn: within two periods
// each counter has become one entry with its count, and each tree is signed as it is, once.
func TestJobsOfManyTenantsAreDoneOnceWhoeverFalls(t *testing.T) { anew(t, jobsAreDoneOnce) }

func jobsAreDoneOnce(t *testing.T) (missed error) {
	const tenants = 1000
	d := bare(t)
	d.end(d.api, syscall.SIGTERM)
	st, err := postgres.Open(t.Context(), postgres.Options{URL: secret.New(d.runtime), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	scope := func(n int) access.Scope {
		return new(storetest.World).Scope(ident.Tenant{0x50, byte(n >> 8), byte(n)}, 0)
	}
	hour := time.Now().Truncate(time.Hour).Add(-time.Hour)
	var wg sync.WaitGroup
	for hand := range 8 {
		wg.Go(func() {
			for n := hand; n < tenants; n += 8 {
				ev := audit.Event{ID: ident.Entry{1, byte(n >> 8), byte(n)}, Action: audit.NodeCreated, Target: audit.Target{Kind: "node"}, Outcome: audit.OK}
				err := st.Change(t.Context(), scope(n), func(context.Context, store.Writer) ([]audit.Event, error) { return []audit.Event{ev}, nil })
				if err == nil {
					err = st.Ingest(t.Context(), scope(n), func(ctx context.Context, f store.Flow) error {
						return f.Fold(ctx, store.Fold{Kind: "quarantine", Key: "source unknown_device", Node: ident.Node{1}, Bucket: hour, Until: hour.Add(time.Hour)}, int64(n+1))
					})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	made, three := d.api.make, [3]*process{}
	for i := range three {
		listen := servers.Free(t)
		three[i] = &process{name: fmt.Sprint("api-", i), make: func() *exec.Cmd {
			c := made()
			c.Env = append(c.Env, "RINGFENCE_LISTEN="+listen, "RINGFENCE_METRICS_LISTEN="+servers.Free(t), "RINGFENCE_DATABASE_URL="+d.runtime+"&application_name=api-"+fmt.Sprint(i))
			return c
		}}
		d.workers[three[i].name] = three[i]
		d.start(three[i])
	}
	of := "substr(tenant, 1, 1) = '\\x50'"
	// caught stops a process while it has the turn of a tenant.
	caught := func(p *process) {
		t.Helper()
		d.await(p.name+" has a turn", time.Minute, func() error {
			_ = p.cmd.Process.Signal(syscall.SIGSTOP)
			for range 2 { // what was under way in the database has ended by the second look
				if d.count("SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND a.state = 'idle in transaction' AND a.application_name = '"+p.name+"'") < 1 {
					_ = p.cmd.Process.Signal(syscall.SIGCONT)
					return fmt.Errorf("%d of %d are done", tenants-d.count("SELECT count(*) FROM folds WHERE "+of), tenants)
				}
			}
			return nil
		})
	}
	caught(three[1])
	began := time.Now()
	caught(three[2])
	_ = three[2].cmd.Process.Kill()
	left := d.count("SELECT count(*) FROM folds WHERE " + of)
	if left < 100 {
		t.Errorf("%d of %d were left when the last of the two fell", left, tenants)
	}
	d.await("all is done", 3*jobsEvery, func() error {
		folds := d.count("SELECT count(*) FROM folds WHERE " + of)
		signed := d.count("SELECT count(*) FROM audit_heads h WHERE " + of + " AND size = 2 AND size = (SELECT max(size) FROM audit_checkpoints c WHERE c.tenant = h.tenant)")
		if resting := d.count("SELECT count(*) FROM known WHERE due = 9223372036854775807 AND " + of); folds != 0 || signed != tenants || resting != tenants {
			return fmt.Errorf("%d counters are left, %d trees are signed, %d tenants have nothing due", folds, signed, resting)
		}
		return nil
	})
	took := time.Since(began)
	t.Logf("%d were left when two fell, and all was done after %v", left, took.Round(time.Second))
	_ = three[1].cmd.Process.Signal(syscall.SIGCONT) // what it had begun has gone to another
	d.await("the frozen one goes on", time.Minute, func() error {
		return d.ready("http://" + strings.TrimPrefix(address(three[1], "RINGFENCE_LISTEN="), "http://"))
	})
	for n := range tenants {
		err := st.View(t.Context(), scope(n), func(ctx context.Context, r store.Reader) error {
			page, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{Action: string(audit.QuarantineFolded)})
			if err != nil {
				return err
			}
			if len(page.Items) != 1 || !strings.Contains(string(page.Items[0].Leaf), fmt.Sprintf(`"count":%d,`, n+1)) {
				t.Errorf("tenant %d: %d entries of its counter", n, len(page.Items))
			}
			kept, err := r.Audit().Checkpoints(ctx, 0, 10)
			if len(kept) != 1 {
				t.Errorf("tenant %d was signed %d times", n, len(kept))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if took > 2*jobsEvery+10*time.Second { // the second period's turn takes its time
		missed = fmt.Errorf("all was done after %v", took)
	}
	return missed
}

// address is what a process was last told of a setting.
func address(p *process, setting string) (value string) {
	for _, v := range p.cmd.Env {
		if said, is := strings.CutPrefix(v, setting); is {
			value = said
		}
	}
	return value
}
