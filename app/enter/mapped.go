package enter

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/store"
)

// What is remembered of applications, and how often the store is asked for those that are nobody's: whoever can make one at a
// network server can have it asked for.
const (
	maxUnknown     = 10_000
	unknownFor     = time.Second
	unknownEvery   = 5 * time.Millisecond // a connection, on average
	unknownAtOnce  = 1_000
	maxConnections = 1_000
)

// Mapped answers whose the messages are that one of the operator's connections brings of an application: fault.Missing() if
// they are nobody's. An application that is mapped costs no query while the platform's mappings stay as they are; one that is
// not is asked for once a second at most, and of all of a connection's so many, beyond which the answer is a fault of kind
// Exhausted: it is not known yet.
func (e *Enter) Mapped(ctx context.Context, connection, application string) (ident.Tenant, ident.Source, error) {
	c := claimed{connection, application}
	if source.CheckConnection(connection) != nil || source.CheckApplication(application) != nil {
		return ident.Tenant{}, ident.Source{}, fault.Missing()
	}
	return e.cache.mapped.get(ctx, c)
}

// claimed is one application of a connection.
type claimed struct{ connection, name string }

// owner is whose an application is, as it was read: nobody's if the tenant is zero.
type owner struct {
	tenant ident.Tenant
	source ident.Source
	rev    uint64    // the platform's, of the snapshot
	at     time.Time // when it was read
}

// mapped keeps whose applications are. The platform's policy revision grows with each change of a mapping, and seldom
// otherwise: what was read at the present one holds. It is asked for when a change of the platform's was announced, which each
// sign-in is.
type mapped struct {
	most     int
	now      func() time.Time
	revision func(context.Context) (uint64, error)
	load     func(context.Context, claimed) (owner, error)

	news atomic.Uint64 // how many changes were announced

	mu      sync.Mutex
	seen    uint64 // the news that were there when the revision was asked for
	current uint64 // the revision
	asked   bool
	asking  chan struct{} // closed when who asks has an answer
	known   map[claimed]owner
	unknown map[claimed]owner
	loading map[claimed]chan struct{}
	paid    map[string]time.Time // by connection: until when its questions for unknown ones are used up
}

func newMapped(most int) *mapped {
	return &mapped{most: most, known: map[claimed]owner{}, unknown: map[claimed]owner{}, loading: map[claimed]chan struct{}{}, paid: map[string]time.Time{}}
}

// revised is store.Revised.
func (m *mapped) revised(t ident.Tenant) {
	if t.IsZero() || t == ident.Platform {
		m.news.Add(1)
	}
}

// present answers the platform's revision: no older than the news at the call.
func (m *mapped) present(ctx context.Context) (uint64, error) {
	call := m.news.Load()
	for {
		m.mu.Lock()
		if m.asked && m.seen >= call {
			defer m.mu.Unlock()
			return m.current, nil
		}
		if wait := m.asking; wait != nil {
			m.mu.Unlock()
			if err := until(ctx, wait); err != nil {
				return 0, err
			}
			continue
		}
		done, news := make(chan struct{}), m.news.Load()
		m.asking = done
		m.mu.Unlock()
		rev, err := m.revision(ctx)
		m.mu.Lock()
		if m.asking = nil; err == nil {
			m.seen, m.current, m.asked = news, rev, true
		}
		m.mu.Unlock()
		close(done)
		if err != nil {
			return 0, err
		}
	}
}

// until waits for another caller.
func until(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return nil
	}
}

func (m *mapped) get(ctx context.Context, c claimed) (ident.Tenant, ident.Source, error) {
	rev, err := m.present(ctx)
	for err == nil {
		m.mu.Lock()
		now := m.now()
		if o, ok := m.remembered(c, rev, now); ok {
			m.mu.Unlock()
			return o.answer()
		}
		if wait := m.loading[c]; wait != nil {
			m.mu.Unlock()
			err = until(ctx, wait)
			continue
		}
		if _, was := m.known[c]; !was { // who is known is read again as often as there are changes
			if wait := m.pay(c.connection, now); wait > 0 {
				m.mu.Unlock()
				return ident.Tenant{}, ident.Source{}, fault.New(fault.Exhausted, "limited_mappings", "Too many applications of the connection that are nobody's are asked for. Ask again later.").WithRetry(wait)
			}
		}
		done := make(chan struct{})
		m.loading[c] = done
		m.mu.Unlock()
		o, lerr := m.load(ctx, c)
		o.at = now
		m.mu.Lock()
		if delete(m.loading, c); lerr == nil {
			m.keep(c, o)
		}
		m.mu.Unlock()
		close(done)
		if lerr == nil {
			return o.answer()
		}
		err = lerr
	}
	return ident.Tenant{}, ident.Source{}, err
}

func (o owner) answer() (ident.Tenant, ident.Source, error) {
	if o.tenant.IsZero() {
		return o.tenant, o.source, fault.Missing()
	}
	return o.tenant, o.source, nil
}

func (m *mapped) remembered(c claimed, rev uint64, now time.Time) (owner, bool) {
	if o, ok := m.known[c]; ok && o.rev >= rev {
		return o, true
	}
	o, ok := m.unknown[c]
	return o, ok && o.rev >= rev && now.Sub(o.at).Abs() < unknownFor
}

// keep makes room by letting any one go: which, nobody outside can choose.
func (m *mapped) keep(c claimed, o owner) {
	to, other, most := m.known, m.unknown, m.most
	if o.tenant.IsZero() {
		to, other, most = m.unknown, m.known, maxUnknown
	}
	delete(other, c)
	if _, there := to[c]; !there && len(to) >= most {
		for one := range to {
			delete(to, one)
			break
		}
	}
	to[c] = o
}

// pay counts a question for one that is not known, and answers how long it has to wait.
func (m *mapped) pay(connection string, now time.Time) (wait time.Duration) {
	const most = unknownAtOnce * unknownEvery
	paid, there := m.paid[connection]
	if ahead := paid.Sub(now); ahead < 0 || ahead > most { // all was given back; or the clock was set back
		paid = now
	}
	if wait = paid.Add(unknownEvery).Sub(now) - most; wait > 0 {
		return wait
	}
	if !there && len(m.paid) >= maxConnections {
		clear(m.paid)
	}
	m.paid[connection] = paid.Add(unknownEvery)
	return 0
}

// mappings makes the cache read a store.
func (e *Enter) mappings(m *mapped) {
	m.now = e.Now
	m.revision = func(ctx context.Context) (rev uint64, err error) {
		err = e.store.View(ctx, e.System(ident.Platform, "mappings", access.Origin{}), func(ctx context.Context, r store.Reader) error {
			rev, err = r.Revision(ctx)
			return err
		})
		return rev, err
	}
	m.load = func(ctx context.Context, c claimed) (o owner, err error) {
		err = e.store.View(ctx, e.System(ident.Platform, "mappings", access.Origin{}), func(ctx context.Context, r store.Reader) error {
			if o.rev, err = r.Revision(ctx); err != nil {
				return err
			}
			found, err := r.Mappings().ByApplication(ctx, c.connection, c.name)
			if fault.Is(err, fault.NotFound) {
				err = nil
			}
			o.tenant, o.source = found.Tenant, found.Source
			return err
		})
		return o, err
	}
}
