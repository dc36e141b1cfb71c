package ingest

import (
	"cmp"
	"context"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// looked is what a process that does not finish events itself knows of a tenant's backlog.
type looked struct {
	at      time.Time
	waiting int
	later   []diverted // what this process put off since its start and nobody has read yet, oldest first
}

// diverted is how many events of one second were put off.
type diverted struct {
	at time.Time
	n  int
}

const (
	lookEvery  = time.Second
	lookWait   = 500 * time.Millisecond
	maxLooked  = 10_000 // tenants
	maxSeconds = 3_600  // beyond it the oldest two count as one
)

// replicas is how many processes of this kind there are.
func (g *Ingest) replicas() int {
	if g.durable == nil {
		return 1
	}
	return g.durable.Replicas
}

// share is this process's part of a rate that is granted for all processes of its kind together.
func (g *Ingest) share(n int) int {
	if g.replicas() == 1 {
		return n
	}
	return max(1, n/g.replicas())
}

// fuel is what a tenant's scripts may use here in a minute: this process's part of what was granted.
func (g *Ingest) fuel(granted tenant.Limits) int64 {
	return max(1, cmp.Or(granted.FuelPerMinute, g.limits.FuelPerMinute)/int64(g.replicas()))
}

// behind is how many of a tenant's events wait: those that are accepted in the store, whoever let them in, and over a bus those
// that were put off and that nobody has read, of which this process knows its own and takes the others to have as many. The store
// is asked once a second at most.
func (g *Ingest) behind(ctx context.Context, t ident.Tenant) (int, error) {
	if g.durable == nil {
		n, err := g.waiting(ctx, t)
		if err != nil {
			return 0, err
		}
		return int(n.Load()), nil
	}
	now := g.enter.Now()
	g.mu.Lock()
	l := g.looked[t]
	fresh := now.Sub(l.at) < lookEvery
	if !fresh { // others go on by what is known, while this one asks
		l.at = now
		g.look(t, l)
	}
	known := l.all(g.replicas())
	g.mu.Unlock()
	if fresh {
		return known, nil
	}
	var count int
	asking, end := context.WithTimeout(ctx, lookWait)
	defer end()
	err := g.store.View(asking, g.enter.System(t, "ingest", access.Origin{}), func(ctx context.Context, r store.Reader) (err error) {
		count, err = r.Uplinks().Backlog(ctx)
		return err
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if l = g.looked[t]; err == nil { // while the store is away, what was known last counts: acknowledging needs the bus alone
		l.waiting = count
		g.look(t, l)
	}
	return l.all(g.replicas()), nil
}

// look keeps what is known. Under mu.
func (g *Ingest) look(t ident.Tenant, l looked) {
	if _, ok := g.looked[t]; !ok && len(g.looked) >= maxLooked {
		for other, o := range g.looked { // any that has put nothing off
			if len(o.later) == 0 {
				delete(g.looked, other)
				break
			}
		}
	}
	g.looked[t] = l
}

func (l looked) all(replicas int) int {
	n := 0
	for _, d := range l.later {
		n += d.n
	}
	return l.waiting + replicas*n
}

// putOff notes that events of a tenant were published to be read later.
func (g *Ingest) putOff(t ident.Tenant, n int) {
	at := g.enter.Now().Truncate(time.Second)
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.looked[t]
	if k := len(l.later); k > 0 && l.later[k-1].at.Equal(at) {
		l.later[k-1].n += n
	} else {
		l.later = append(l.later, diverted{at, n})
	}
	if len(l.later) > maxSeconds {
		l.later[1].n += l.later[0].n
		l.later = l.later[1:]
	}
	g.look(t, l)
}

// ends is how far the topic of what is put off went at a moment, by partition.
type ends struct {
	at   time.Time
	next map[int]int64
}

// caughtUp forgets what was put off and is read by now: what was published before a moment is, once the readers have come to
// where the topic ended then.
func (g *Ingest) caughtUp(lags []bus.Lag) {
	now := ends{g.enter.Now(), map[int]int64{}}
	committed := map[int]int64{}
	for _, l := range lags {
		now.next[l.Partition], committed[l.Partition] = l.End, max(l.Committed, l.First)
	}
	read := func(e ends) bool {
		for partition, next := range e.next {
			if committed[partition] < next {
				return false
			}
		}
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ends = append(g.ends, now); len(g.ends) > maxSeconds {
		g.ends = g.ends[1:] // the next one says more
	}
	var upTo time.Time
	for len(g.ends) > 0 && read(g.ends[0]) {
		upTo, g.ends = g.ends[0].at.Truncate(time.Second), g.ends[1:]
	}
	for t, l := range g.looked {
		i := 0
		for i < len(l.later) && l.later[i].at.Before(upTo) {
			i++
		}
		if i > 0 {
			l.later = l.later[i:]
			g.looked[t] = l
		}
	}
}
