package ingest

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
)

// backlogs is what a process over a bus knows of tenants' backlogs.
type backlogs struct {
	mu    sync.Mutex
	known map[ident.Tenant]*looked
	line  []ident.Tenant // of whom the store is to be asked, in turn
	ends  []ends         // of the topic of what is put off, that were not read when they were seen
	last  map[int]int64  // how far it went when it was last seen
}

// looked is what is known of one tenant's.
type looked struct {
	waiting int        // in the store, when that was last asked; none before it was
	asked   bool       // it stands in line
	later   []diverted // what this process put off since its start and nobody has read yet, oldest first
	unread  int        // all of later
}

// diverted is how many events of one second were put off.
type diverted struct {
	at time.Time
	n  int
}

const (
	lookEvery  = time.Second
	lookWait   = 2 * time.Second
	lookMost   = 200    // tenants that the store is asked of at once: with more of them it is each one's turn less often
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
// that were put off and that nobody has read, of which this process knows those that it put off itself and takes the others of its
// kind to have as many. Over a bus it goes by what is known and waits for nobody: FollowBacklogs asks the store. Until it has
// asked of a tenant for the first time none wait, so that what comes is let in at its rate for a moment.
func (g *Ingest) behind(ctx context.Context, t ident.Tenant) (int, error) {
	if g.durable == nil {
		n, err := g.waiting(ctx, t)
		if err != nil {
			return 0, err
		}
		return int(n.Load()), nil
	}
	b := &g.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(t)
	if !l.asked {
		l.asked, b.line = true, append(b.line, t)
	}
	return l.all(g.replicas()), nil
}

// FollowBacklogs asks the store once a second how many events wait, until the context ends: of tenants that something came for
// since, and of those that had some when it was last asked, so that nothing is dropped for what was true long ago.
func (g *Ingest) FollowBacklogs(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.look(ctx)
	}
}

// look asks of those who are next in line, of one after the other, however many there are. While nobody says what changed the store
// is away, or slow: what is known counts on.
func (g *Ingest) look(ctx context.Context) {
	b := &g.backlogs
	b.mu.Lock()
	n := min(len(b.line), lookMost)
	b.mu.Unlock()
	for ; n > 0 && ctx.Err() == nil && g.enter.Following() == nil; n-- {
		b.mu.Lock()
		t := b.line[0]
		b.mu.Unlock()
		asking, end := context.WithTimeout(ctx, lookWait)
		count, err := g.count(asking, t)
		end()
		b.mu.Lock()
		l := b.known[t] // who stands in line is not forgotten
		if b.line = b.line[1:]; err == nil {
			l.waiting = count
		}
		if l.asked = err != nil || count > 0; l.asked {
			b.line = append(b.line, t)
		}
		b.mu.Unlock()
	}
}

// count asks the store how many of a tenant's events wait.
func (g *Ingest) count(ctx context.Context, t ident.Tenant) (n int, err error) {
	err = g.store.View(ctx, g.enter.System(t, "ingest", access.Origin{}), func(ctx context.Context, r store.Reader) (err error) {
		n, err = r.Uplinks().Backlog(ctx)
		return err
	})
	return n, err
}

// of is what is known of a tenant. Under mu.
func (b *backlogs) of(t ident.Tenant) *looked {
	l := b.known[t]
	if l != nil {
		return l
	}
	if len(b.known) >= maxLooked {
		for other, o := range b.known { // any of whom nothing is to be known
			if !o.asked && o.unread == 0 {
				delete(b.known, other)
				break
			}
		}
	}
	if b.known == nil {
		b.known = map[ident.Tenant]*looked{}
	}
	l = &looked{}
	b.known[t] = l
	return l
}

func (l *looked) all(replicas int) int { return l.waiting + replicas*l.unread }

// putOff notes that events of a tenant were published to be read later.
func (g *Ingest) putOff(t ident.Tenant, n int) {
	at := g.enter.Now().Truncate(time.Second)
	b := &g.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(t)
	l.unread += n
	if k := len(l.later); k > 0 && l.later[k-1].at.Equal(at) {
		l.later[k-1].n += n
	} else {
		l.later = append(l.later, diverted{at, n})
	}
	if len(l.later) > maxSeconds {
		l.later[1].n += l.later[0].n
		l.later = l.later[1:]
	}
}

// ends is how far the topic of what is put off went at a moment, by partition.
type ends struct {
	at   time.Time
	next map[int]int64
}

// caughtUp forgets what was put off and is read by now: what was published before a moment is, once the readers have come to
// where the topic ended then. All of it is forgotten once the topic was made anew, which is seen by an end that went back: it is gone.
func (g *Ingest) caughtUp(lags []bus.Lag) {
	now := ends{g.enter.Now(), map[int]int64{}}
	committed := map[int]int64{}
	for _, l := range lags {
		now.next[l.Partition], committed[l.Partition] = l.End, max(l.Committed, l.First)
		if l.Committed > l.End { // a mark in the topic that was there before
			committed[l.Partition] = l.First
		}
	}
	read := func(e ends) bool {
		for partition, next := range e.next {
			if committed[partition] < next {
				return false
			}
		}
		return true
	}
	b := &g.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()
	for partition, next := range b.last {
		if end, ok := now.next[partition]; !ok || end < next {
			b.ends = nil
			for _, l := range b.known {
				l.later, l.unread = nil, 0
			}
			break
		}
	}
	b.last = now.next
	if b.ends = append(b.ends, now); len(b.ends) > maxSeconds {
		b.ends = b.ends[1:] // the next one says more
	}
	var upTo time.Time
	for len(b.ends) > 0 && read(b.ends[0]) {
		upTo, b.ends = b.ends[0].at.Truncate(time.Second), b.ends[1:]
	}
	for _, l := range b.known {
		i := 0
		for i < len(l.later) && l.later[i].at.Before(upTo) {
			l.unread -= l.later[i].n
			i++
		}
		if i > 0 {
			l.later = l.later[i:]
		}
	}
}
