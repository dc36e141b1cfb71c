package isolation_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/isolation"
)

// leaky is a store with one bug: the queries of one noun forget the tenant.
type leaky struct {
	store.Store
	noun    string
	callers bool // they look into the tenants alone where the caller is a member
}

func (l leaky) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	return l.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		all := l.everywhere
		if l.callers {
			all = func(look func(context.Context, store.Reader) error) {
				l.everywhere(func(ctx context.Context, r store.Reader) error {
					if _, err := r.Members().Get(ctx, s.Actor().ID); err != nil {
						return err
					}
					return look(ctx, r)
				})
			}
		}
		return fn(ctx, spoiled{Reader: r, noun: l.noun, all: all})
	})
}

// everywhere looks into every tenant.
func (l leaky) everywhere(look func(context.Context, store.Reader) error) {
	tenants, err := l.Store.Directory().Tenants(context.Background(), ident.Tenant{}, 100)
	if err != nil {
		return
	}
	for _, t := range tenants {
		s := access.Grant(t, access.Actor{Kind: access.System, System: "planted"}, access.Origin{}, access.Decision{Allowed: true}, nil, access.Subject{}, time.Time{})
		_ = l.Store.View(context.Background(), s, look)
	}
}

type spoiled struct {
	store.Reader
	noun string
	all  func(func(context.Context, store.Reader) error)
}

// forgetful is a shelf whose queries forget the tenant.
type forgetful[K comparable, V any] struct {
	store.Shelf[K, V]
	in  func(store.Reader) store.Shelf[K, V]
	all func(func(context.Context, store.Reader) error)
}

func (f forgetful[K, V]) Get(ctx context.Context, id K) (V, error) {
	v, err := f.Shelf.Get(ctx, id)
	if err != nil {
		f.all(func(ctx context.Context, r store.Reader) error {
			if found, ferr := f.in(r).Get(ctx, id); ferr == nil {
				v, err = found, nil
			}
			return nil
		})
	}
	return v, err
}

func (f forgetful[K, V]) List(context.Context, store.Query) (page store.Page[V], err error) {
	f.all(func(ctx context.Context, r store.Reader) error {
		p, err := f.in(r).List(ctx, store.Query{Reach: access.Everywhere})
		page.Items = append(page.Items, p.Items...)
		return err
	})
	return page, nil
}

func spoil[K comparable, V any](s spoiled, noun string, in func(store.Reader) store.Shelf[K, V]) store.Shelf[K, V] {
	if s.noun != noun {
		return in(s.Reader)
	}
	return forgetful[K, V]{in(s.Reader), in, s.all}
}

// counted is a shelf whose records are another's.
type counted[K comparable, V any] struct {
	store.Counted[K, V]
	shelf store.Shelf[K, V]
}

func (c counted[K, V]) Get(ctx context.Context, id K) (V, error) { return c.shelf.Get(ctx, id) }

func (c counted[K, V]) List(ctx context.Context, q store.Query) (store.Page[V], error) {
	return c.shelf.List(ctx, q)
}

// catalogue is a shelf whose records are another's, or found by name in every tenant.
type catalogue[K comparable, V any] struct {
	counted[K, V]
	s    spoiled
	noun string
	in   func(store.Reader) store.Catalogue[K, V]
}

func (c catalogue[K, V]) Named(ctx context.Context, name string, q store.Query) (store.Page[V], error) {
	page, err := c.in(c.s.Reader).Named(ctx, name, q)
	if c.s.noun == c.noun+" by name" || (c.s.noun == c.noun+" by a name of one's own" && len(page.Items) > 0) {
		c.s.all(func(ctx context.Context, r store.Reader) error {
			p, err := c.in(r).Named(ctx, name, store.Query{Reach: access.Everywhere})
			page.Items = append(page.Items, p.Items...)
			return err
		})
	}
	return page, err
}

func listed[K comparable, V any](s spoiled, noun string, in func(store.Reader) store.Catalogue[K, V]) store.Catalogue[K, V] {
	return catalogue[K, V]{counted[K, V]{in(s.Reader), spoil(s, noun, func(r store.Reader) store.Shelf[K, V] { return in(r) })}, s, noun, in}
}

func (s spoiled) Roles() store.Catalogue[ident.Role, access.Role] {
	return listed(s, "role", store.Reader.Roles)
}

func (s spoiled) Groups() store.Catalogue[ident.Group, access.Group] {
	return listed(s, "group", store.Reader.Groups)
}

func (s spoiled) Decoders() store.Catalogue[ident.Decoder, decoder.Decoder] {
	return listed(s, "decoder", store.Reader.Decoders)
}

func (s spoiled) Members() store.Catalogue[ident.Principal, principal.Member] {
	if s.noun == "member's address" {
		return lent[ident.Principal, principal.Member]{s.Reader.Members(), s, store.Reader.Members, address}
	}
	return listed(s, "member", store.Reader.Members)
}

func (s spoiled) Sources() store.Catalogue[ident.Source, source.Source] {
	if s.noun == "source's applications" {
		return lent[ident.Source, source.Source]{s.Reader.Sources(), s, store.Reader.Sources, applications}
	}
	return listed(s, "source", store.Reader.Sources)
}

func (s spoiled) Invitations() store.Counted[ident.Link, principal.Invitation] {
	return counted[ident.Link, principal.Invitation]{s.Reader.Invitations(), spoil(s, "invitation", func(r store.Reader) store.Shelf[ident.Link, principal.Invitation] { return r.Invitations() })}
}

type nodes struct {
	store.Nodes
	shelf store.Shelf[ident.Node, org.Node]
}

func (n nodes) List(ctx context.Context, q store.Query) (store.Page[org.Node], error) {
	return n.shelf.List(ctx, q)
}

func (s spoiled) Nodes() store.Nodes {
	return nodes{s.Reader.Nodes(), spoil(s, "node", func(r store.Reader) store.Shelf[ident.Node, org.Node] { return r.Nodes() })}
}

type memberships struct {
	store.Memberships
	shelf store.Shelf[ident.Membership, access.Membership]
}

func (m memberships) List(ctx context.Context, q store.Query) (store.Page[access.Membership], error) {
	return m.shelf.List(ctx, q)
}

func (s spoiled) Memberships() store.Memberships {
	return memberships{s.Reader.Memberships(), spoil(s, "membership", func(r store.Reader) store.Shelf[ident.Membership, access.Membership] { return r.Memberships() })}
}

type tokens struct {
	store.Owned[ident.Token, credential.PAT]
	shelf store.Shelf[ident.Token, credential.PAT]
}

func (t tokens) List(ctx context.Context, q store.Query) (store.Page[credential.PAT], error) {
	return t.shelf.List(ctx, q)
}

func (s spoiled) Tokens() store.Owned[ident.Token, credential.PAT] {
	return tokens{s.Reader.Tokens(), spoil(s, "token", func(r store.Reader) store.Shelf[ident.Token, credential.PAT] { return r.Tokens() })}
}

type versions struct {
	store.Versions
	s spoiled
}

func (v versions) Get(ctx context.Context, id ident.Version) (decoder.Version, error) {
	return spoil(v.s, "version", func(r store.Reader) store.Shelf[ident.Version, decoder.Version] { return r.Versions() }).Get(ctx, id)
}

func (v versions) Of(ctx context.Context, d ident.Decoder, q store.Query) (store.Page[decoder.Version], error) {
	page, err := v.Versions.Of(ctx, d, q)
	if v.s.noun == "versions of a decoder" {
		v.s.all(func(ctx context.Context, r store.Reader) error {
			p, err := r.Versions().List(ctx, store.Query{Reach: access.Everywhere})
			page.Items = append(page.Items, p.Items...)
			return err
		})
	}
	return page, err
}

func (s spoiled) Versions() store.Versions { return versions{s.Reader.Versions(), s} }

type devicesOf struct {
	store.Devices
	s spoiled
}

func (d devicesOf) Find(ctx context.Context, q store.Query, f store.DeviceFilter) (store.Page[device.Device], error) {
	page, err := d.Devices.Find(ctx, q, f)
	if d.s.noun == "device" {
		d.s.all(func(ctx context.Context, r store.Reader) error {
			p, err := r.Devices().Find(ctx, store.Query{Reach: access.Everywhere}, f)
			page.Items = append(page.Items, p.Items...)
			return err
		})
	}
	return page, err
}

func (s spoiled) Devices() store.Devices { return devicesOf{s.Reader.Devices(), s} }

type readings struct {
	store.Readings
	s spoiled
}

func (l readings) Find(ctx context.Context, q store.Query, f store.ReadingFilter) (store.Page[uplink.Reading], error) {
	page, err := l.Readings.Find(ctx, q, f)
	if l.s.noun == "reading" {
		l.s.all(func(ctx context.Context, r store.Reader) error {
			p, err := r.Readings().Find(ctx, store.Query{Reach: access.Everywhere}, f)
			page.Items = append(page.Items, p.Items...)
			return err
		})
	}
	return page, err
}

func (l readings) Latest(ctx context.Context, d ident.Device, reach access.Reach) (uplink.Reading, error) {
	v, err := l.Readings.Latest(ctx, d, reach)
	if err != nil && l.s.noun == "latest reading" {
		l.s.all(func(ctx context.Context, r store.Reader) error {
			if found, ferr := r.Readings().Latest(ctx, d, access.Everywhere); ferr == nil {
				v, err = found, nil
			}
			return nil
		})
	}
	return v, err
}

func (s spoiled) Readings() store.Readings { return readings{s.Reader.Readings(), s} }

type log struct {
	store.Audit
	s spoiled
}

func (l log) Entry(ctx context.Context, seq uint64) (e audit.Entry, err error) {
	e, err = l.Audit.Entry(ctx, seq)
	if l.s.noun == "entry" {
		l.s.all(func(ctx context.Context, r store.Reader) error {
			if found, ferr := r.Audit().Entry(ctx, 1); ferr == nil {
				e = found
			}
			return nil
		})
	}
	return e, err
}

func (l log) Find(ctx context.Context, q store.Query, f store.AuditFilter) (store.Page[audit.Entry], error) {
	page, err := l.Audit.Find(ctx, q, f)
	if (l.s.noun == "log by actor" && f.Actor != "") || (l.s.noun == "log by target" && f.Target != "") || (l.s.noun == "log by org" && !f.Org.IsZero()) || (l.s.noun == "log by request" && f.Request != "") {
		l.s.all(func(ctx context.Context, r store.Reader) error {
			p, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, f)
			page.Items = append(page.Items, p.Items...)
			return err
		})
	}
	return page, err
}

func (s spoiled) Audit() store.Audit { return log{s.Reader.Audit(), s} }

// unguarded is a store whose writes of one kind go to whichever tenant has the record.
type unguarded struct {
	store.Store
	silent bool // and are answered as if they had been refused: the rows alone tell
}

func (u unguarded) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	err := u.Store.Change(ctx, s, fn)
	if err == nil {
		return nil
	}
	tenants, derr := u.Directory().Tenants(context.Background(), ident.Tenant{}, 100)
	if derr != nil {
		return err
	}
	for _, t := range tenants {
		o := access.Grant(t, s.Actor(), s.Origin(), access.Decision{Allowed: true}, s.Policy(), s.Subject(), s.At())
		if t != s.Tenant() && t != ident.Platform && u.Store.Change(ctx, o, fn) == nil {
			if u.silent {
				return err
			}
			return nil
		}
	}
	return err
}

// credulous is a store that knows every decoder which a change asks for.
type credulous struct{ store.Store }

func (c credulous) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	return c.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) { return fn(ctx, believing{w}) })
}

type believing struct{ store.Writer }

func (b believing) Decoders() store.Records[ident.Decoder, decoder.Decoder] {
	return anyDecoder{b.Writer.Decoders()}
}

type anyDecoder struct {
	store.Records[ident.Decoder, decoder.Decoder]
}

func (a anyDecoder) Get(ctx context.Context, id ident.Decoder) (decoder.Decoder, error) {
	if d, err := a.Records.Get(ctx, id); err == nil {
		return d, nil
	}
	return decoder.Decoder{ID: id}, nil
}

// asOwner is a store that takes every scope for one of the first other tenant's. It is of no revision: by
// one of the wrong tenant's the store would refuse as stale what it has to be shown to leak.
type asOwner struct{ store.Store }

func (a asOwner) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	if s.Actor().Kind == access.System {
		return a.Store.View(ctx, s, fn)
	}
	tenants, err := a.Directory().Tenants(context.Background(), ident.Tenant{}, 100)
	if err == nil && len(tenants) > 3 && s.Tenant() == tenants[2] {
		d := s.Decision()
		d.Revision = 0
		s = access.Grant(tenants[1], s.Actor(), s.Origin(), d, s.Policy(), s.Subject(), s.At())
	}
	return a.Store.View(ctx, s, fn)
}

// generous is a store whose sources' accounts may do what operators may.
type generous struct{ store.Store }

func (g generous) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	return g.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error { return fn(ctx, promoting{r}) })
}

type promoting struct{ store.Reader }

func (p promoting) Policy(ctx context.Context) (access.Records, error) {
	records, err := p.Reader.Policy(ctx)
	for _, m := range slices.Clone(records.Memberships) {
		if m.Role == access.SourceAccount {
			m.ID[0], m.Role = ^m.ID[0], access.Operator
			records.Memberships = append(records.Memberships, m)
		}
	}
	return records, err
}

// What an actor may do in its own tenant is no leak, and found by itself.
func TestPlantedRightsAtHomeAreFound(t *testing.T) {
	e := engine(t)
	for name, c := range map[string]struct {
		spoil func(store.Store) store.Store
		wrong func(http.Handler) http.Handler
		want  string
	}{
		"sources' accounts are operators": {func(s store.Store) store.Store { return generous{s} }, func(h http.Handler) http.Handler { return h }, "a key that is for events alone was not refused"},
		"who may not read a member is told that there is one": {nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				res := httptest.NewRecorder()
				h.ServeHTTP(res, r)
				maps.Copy(w.Header(), res.Header())
				if strings.Contains(r.URL.Path, "/members/usr_") && res.Code == http.StatusNotFound {
					res.Code = http.StatusForbidden
				}
				w.WriteHeader(res.Code)
				_, _ = w.Write(res.Body.Bytes())
			})
		}, "is not told like one that never was"},
	} {
		t.Run(name, func(t *testing.T) {
			target, _ := server(t, e, inMemory, c.spoil)
			target.Handler = c.wrong(target.Handler)
			r := isolation.Sweep(t, target, isolation.Plan{Quit: true})
			if !slices.ContainsFunc(r.Findings, func(f isolation.Finding) bool { return strings.Contains(f.What, c.want) }) {
				t.Errorf("%d requests did not find it: %.2000v", r.Requests, r.Findings)
			}
		})
	}
}

func TestPlantedLeaksAreFound(t *testing.T) {
	e := engine(t)
	for _, noun := range []string{"role", "group", "decoder", "invitation", "member", "node", "membership", "token", "version", "versions of a decoder", "device", "source", "reading", "latest reading", "entry", "role by name", "source by name"} {
		object := map[string]string{"versions of a decoder": "version", "latest reading": "reading", "role by name": "role", "source by name": "source"}[noun]
		if object == "" {
			object = noun
		}
		planted(t, e, noun, object, func(s store.Store) store.Store { return leaky{Store: s, noun: noun} })
	}
	planted(t, e, "writes that forget the tenant", "role", func(s store.Store) store.Store { return unguarded{Store: s} })
	planted(t, e, "a row of an import that names another's decoder", "import", func(s store.Store) store.Store { return credulous{s} })
	planted(t, e, "reads in another's name", "device", func(s store.Store) store.Store { return asOwner{s} })
}

// planted runs on the store in memory, since what is spoiled stands before any store.
func planted(t *testing.T, e sandbox.Engine, name, object string, spoil func(store.Store) store.Store) {
	t.Helper()
	plantedIn(t, e, name, object, inMemory, spoil, func(h http.Handler) http.Handler { return h })
}

func plantedIn(t *testing.T, e sandbox.Engine, name, object string, open func(testing.TB, *enter.Cache) opened, spoil func(store.Store) store.Store, wrap func(http.Handler) http.Handler) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		target, _ := server(t, e, open, spoil)
		target.Handler = wrap(target.Handler)
		r := isolation.Sweep(t, target, isolation.Plan{Objects: []string{object}, Quit: true})
		if len(r.Findings) == 0 {
			t.Fatalf("%d requests found nothing", r.Requests)
		}
		t.Logf("%d requests: %s", r.Requests, r.Findings[0])
	})
}
