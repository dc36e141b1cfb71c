package ingest

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/bus"
)

// Others' events go on being put off, so that the topic is never read to its end: what was put off before is forgotten all the
// same.
func TestWhatWasPutOffIsForgottenOnceItIsRead(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	g := New(&enter.Enter{Recorder: enter.Recorder{Mint: ident.Mint{Now: func() time.Time { return now }}}}, nil, nil, nil, tenant.DefaultLimits, nil)
	acme := ident.Tenant{1}
	see := func(committed0, end0, committed1, end1 int64) int {
		g.caughtUp([]bus.Lag{{Partition: 0, Committed: committed0, End: end0}, {Partition: 1, Committed: committed1, End: end1}})
		return g.looked[acme].all(1)
	}
	g.putOff(acme, 3)
	now = now.Add(time.Second)
	for _, c := range []struct {
		what                 string
		c0, e0, c1, e1, want int64
	}{
		{"nothing is read", -1, 3, 0, 0, 3},
		{"a part is read, and others put more off", 2, 5, 0, 9, 3},
		{"all that stood there is read, and more has come", 3, 8, 1, 20, 0},
	} {
		if got := see(c.c0, c.e0, c.c1, c.e1); int64(got) != c.want {
			t.Errorf("%s: %d wait, want %d", c.what, got, c.want)
		}
		now = now.Add(time.Second)
	}
	g.putOff(acme, 2)
	if got := see(5, 8, 9, 20); got != 2 {
		t.Errorf("what was put off after it: %d wait", got)
	}
}
