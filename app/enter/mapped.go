package enter

import (
	"context"
	"maps"
	"sync"
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
	lookWait       = 2 * time.Second  // for the store's answer, while messages wait
	wholeWait      = 30 * time.Second // for all that it has of a connection
)

// Mapped answers whose the messages are that one of the operator's connections brings of an application: fault.Missing() if
// they are nobody's. An application that is mapped costs no query while the platform's mappings stay as they are; one that is
// not is asked for once a second at most. Where more of a connection's are asked for than may be, be they many that are nobody's or
// all those of a process that has just been started, all of its mappings are read at once, so that no application waits for
// another's; then one that is not among them is nobody's without a question, for a second at least. While the store does not
// answer, one that was mapped is its tenant's as long as the gate lets in events by what it remembers, unless a change of that
// tenant's was announced meanwhile.
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
	made   time.Time // since when it is
	rev    uint64    // the platform's, of the snapshot
	told   uint64    // the last announcement that the snapshot cannot have missed
	at     time.Time // when it was read
}

// mapped keeps whose applications are. The platform's policy revision grows with each change of a mapping, and seldom
// otherwise: what was read at the present one holds. It is asked for when a change of the platform's was announced, which each
// sign-in is, or of the tenant's, of which a change of its mapping always is one, too: so while nobody can be asked it is known
// which mappings cannot have changed.
type mapped struct {
	most     int
	followed *followed
	now      func() time.Time
	revision func(context.Context) (uint64, error)
	load     func(context.Context, claimed) (owner, error)
	loadAll  func(ctx context.Context, connection string) (rev uint64, all map[claimed]owner, err error)

	mu      sync.Mutex
	told    uint64                  // how many changes were announced
	all     uint64                  // the last announcement that anything may have changed
	changed map[ident.Tenant]uint64 // the last one of each tenant since
	seen    uint64                  // the announcements that were there when the revision was asked for
	current uint64                  // the revision
	asked   bool
	asking  chan struct{} // closed when who asks has an answer
	known   map[claimed]owner
	unknown map[claimed]owner
	loading map[claimed]chan struct{}
	paid    map[string]time.Time // by connection: until when its questions for unknown ones are used up
	wholes  map[string]whole     // by connection
	reading map[string]chan struct{}
}

// whole says that all mappings of a connection are among the known: what is not was nobody's then.
type whole struct {
	rev uint64    // the platform's, of the snapshot
	at  time.Time // when it had been read
}

func newMapped(most int, f *followed) *mapped {
	return &mapped{
		most: most, followed: f, changed: map[ident.Tenant]uint64{}, known: map[claimed]owner{}, unknown: map[claimed]owner{},
		loading: map[claimed]chan struct{}{}, paid: map[string]time.Time{}, wholes: map[string]whole{}, reading: map[string]chan struct{}{},
	}
}

// revised is store.Revised.
func (m *mapped) revised(t ident.Tenant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told++
	if t.IsZero() || len(m.changed) >= m.most {
		clear(m.changed)
		m.all = m.told
		return
	}
	m.changed[t] = m.told
}

// since is the last announcement that a tenant may have changed. Under mu.
func (m *mapped) since(t ident.Tenant) uint64 { return max(m.all, m.changed[t]) }

// same is whose an application was, if it is known that it still is, but for what was not announced yet.
func (m *mapped) same(c claimed) (owner, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.known[c]
	if o.rev >= m.current { // the revision was asked for since
		o.told = max(o.told, m.seen)
	}
	return o, ok && o.told >= m.since(o.tenant)
}

// present answers the platform's revision: no older than the announcements at the call that concern an application.
func (m *mapped) present(ctx context.Context, c claimed) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for call := max(m.since(ident.Platform), m.since(m.known[c].tenant)); !m.asked || m.seen < call; {
		if err := m.question(ctx); err != nil {
			return 0, err
		}
	}
	return m.current, nil
}

// question asks for the revision, or waits while another caller does. Under mu, which it lets go meanwhile.
func (m *mapped) question(ctx context.Context) error {
	if wait := m.asking; wait != nil {
		m.mu.Unlock()
		defer m.mu.Lock()
		return until(ctx, wait)
	}
	done, told := make(chan struct{}), m.told
	m.asking = done
	m.mu.Unlock()
	rev, err := m.revision(ctx)
	m.mu.Lock()
	defer close(done)
	if m.asking = nil; err == nil {
		m.seen, m.current, m.asked = told, rev, true
	}
	return err
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
	if !m.followed.within(blindDoor) {
		m.revised(ident.Tenant{}) // for so long, anything may have changed
	}
	if !m.followed.within(blind) { // asking may take long, and each message would
		if o, ok := m.same(c); ok {
			return o.answer()
		}
	}
	o, err := m.ask(ctx, c, false)
	if err != nil { // the store is away, or who asks waits no longer for it
		if o, ok := m.same(c); ok {
			return o.answer()
		}
	}
	if err != nil {
		return ident.Tenant{}, ident.Source{}, err
	}
	return o.answer()
}

// ask answers from the store, or from what is known to be the same there. Where many that are nobody's are asked for, one that was
// mapped within the last second may be taken for one of them, unless who asks has to be sure.
func (m *mapped) ask(ctx context.Context, c claimed, sure bool) (owner, error) {
	rev, err := m.present(ctx, c)
	for err == nil {
		m.mu.Lock()
		now := m.now()
		if o, ok := m.remembered(c, rev, now); ok {
			m.mu.Unlock()
			return o, nil
		}
		if wait := m.loading[c]; wait != nil {
			m.mu.Unlock()
			err = until(ctx, wait)
			continue
		}
		if _, was := m.known[c]; !was && !m.pay(c.connection, now) { // who is known is read again as often as there are changes
			if now.Sub(m.wholes[c.connection].at).Abs() >= unknownFor {
				err = m.readWhole(ctx, c.connection)
				m.mu.Unlock()
				continue
			}
			if !sure {
				m.mu.Unlock()
				return owner{}, nil
			}
		}
		done, told := make(chan struct{}), m.told
		m.loading[c] = done
		m.mu.Unlock()
		o, lerr := m.load(ctx, c)
		o.told, o.at = told, now
		m.mu.Lock()
		if delete(m.loading, c); lerr == nil {
			m.keep(c, o)
		}
		m.mu.Unlock()
		close(done)
		if lerr == nil {
			return o, nil
		}
		err = lerr
	}
	return owner{}, err
}

func (o owner) answer() (ident.Tenant, ident.Source, error) {
	if o.tenant.IsZero() {
		return o.tenant, o.source, fault.Missing()
	}
	return o.tenant, o.source, nil
}

func (m *mapped) remembered(c claimed, rev uint64, now time.Time) (owner, bool) {
	if o, ok := m.known[c]; ok && o.rev >= rev {
		if o.rev >= m.current && o.told < m.seen {
			o.told = m.seen
			m.known[c] = o
		}
		return o, true
	}
	if w, ok := m.wholes[c.connection]; ok && w.rev >= rev && m.followed.within(blind) {
		return owner{}, true
	}
	o, ok := m.unknown[c]
	return o, ok && o.rev >= rev && now.Sub(o.at).Abs() < unknownFor
}

// readWhole reads all mappings of a connection, or waits while another caller does. Under mu, which it lets go meanwhile.
func (m *mapped) readWhole(ctx context.Context, connection string) error {
	if wait := m.reading[connection]; wait != nil {
		m.mu.Unlock()
		defer m.mu.Lock()
		return until(ctx, wait)
	}
	done, told := make(chan struct{}), m.told
	m.reading[connection] = done
	m.mu.Unlock()
	rev, all, err := m.loadAll(ctx, connection)
	m.mu.Lock()
	defer close(done)
	if delete(m.reading, connection); err != nil {
		return err
	}
	maps.DeleteFunc(m.known, func(c claimed, _ owner) bool { return c.connection == connection })
	for one := range m.known {
		if len(m.known)+len(all) <= m.most { // all that there are fit in: what does not are others' that are gone
			break
		}
		m.forget(one)
	}
	for c, o := range all {
		o.rev, o.told, o.at = rev, told, m.now()
		m.known[c] = o
	}
	if len(m.wholes) >= maxConnections {
		clear(m.wholes)
	}
	m.wholes[connection] = whole{rev, m.now()}
	return nil
}

// forget lets one go that is known, and with it that all of its connection's are.
func (m *mapped) forget(c claimed) {
	delete(m.known, c)
	delete(m.wholes, c.connection)
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
			if delete(to, one); !o.tenant.IsZero() {
				m.forget(one)
			}
			break
		}
	}
	to[c] = o
}

// pay counts a question for one that is not known, and answers whether there may be one more.
func (m *mapped) pay(connection string, now time.Time) bool {
	const most = unknownAtOnce * unknownEvery
	paid, there := m.paid[connection]
	if ahead := paid.Sub(now); ahead < 0 || ahead > most { // all was given back; or the clock was set back
		paid = now
	}
	if paid.Add(unknownEvery).Sub(now) > most {
		return false
	}
	if !there && len(m.paid) >= maxConnections {
		clear(m.paid)
	}
	m.paid[connection] = paid.Add(unknownEvery)
	return true
}

// platform looks at the platform's records for as long as who asks may wait.
func (e *Enter) platform(ctx context.Context, wait time.Duration, fn func(context.Context, store.Reader) error) error {
	within, end := context.WithTimeout(ctx, wait)
	defer end()
	err := e.store.View(within, e.System(ident.Platform, "mappings", access.Origin{}), fn)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fault.Wrap(err, fault.Unavailable, "store_unavailable", "The store does not answer at the moment. Try again.").WithRetry(time.Second)
	}
	return err
}

// mappings makes the cache read a store.
func (e *Enter) mappings(m *mapped) {
	m.now = e.Now
	m.revision = func(ctx context.Context) (rev uint64, err error) {
		err = e.platform(ctx, lookWait, func(ctx context.Context, r store.Reader) error {
			rev, err = r.Revision(ctx)
			return err
		})
		return rev, err
	}
	m.load = func(ctx context.Context, c claimed) (o owner, err error) {
		err = e.platform(ctx, lookWait, func(ctx context.Context, r store.Reader) error {
			if o.rev, err = r.Revision(ctx); err != nil {
				return err
			}
			found, err := r.Mappings().ByApplication(ctx, c.connection, c.name)
			if fault.Is(err, fault.NotFound) {
				err = nil
			}
			o.tenant, o.source, o.made = found.Tenant, found.Source, found.CreatedAt
			return err
		})
		return o, err
	}
	m.loadAll = func(ctx context.Context, connection string) (rev uint64, all map[claimed]owner, err error) {
		err = e.platform(ctx, wholeWait, func(ctx context.Context, r store.Reader) error {
			all = map[claimed]owner{}
			if rev, err = r.Revision(ctx); err != nil {
				return err
			}
			for q := (store.Query{Reach: access.Everywhere, Limit: store.MaxPage}); ; {
				page, err := r.Mappings().Find(ctx, q, store.MappingFilter{Connection: connection})
				if err != nil {
					return err
				}
				for _, v := range page.Items {
					all[claimed{v.Connection, v.Application}] = owner{tenant: v.Tenant, source: v.Source, made: v.CreatedAt}
				}
				if q.After = page.Next; q.After == "" {
					return nil
				}
			}
		})
		return rev, all, err
	}
}
