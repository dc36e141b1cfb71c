package isolation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// lend gives each record a field of the first in any tenant that has it to take. All else of the record is the caller's own.
func lend[V any](s spoiled, records []V, in func(context.Context, store.Reader) (store.Page[V], error), take func(own *V, theirs V) bool) {
	for i := range records {
		taken := false
		s.all(func(ctx context.Context, r store.Reader) error {
			page, err := in(ctx, r)
			for _, theirs := range page.Items {
				taken = taken || take(&records[i], theirs)
			}
			return err
		})
	}
}

// lent is a catalogue whose lists hold a field of another's.
type lent[K comparable, V any] struct {
	store.Catalogue[K, V]
	s    spoiled
	in   func(store.Reader) store.Catalogue[K, V]
	take func(own *V, theirs V) bool
}

func (l lent[K, V]) List(ctx context.Context, q store.Query) (store.Page[V], error) {
	page, err := l.Catalogue.List(ctx, q)
	lend(l.s, page.Items, func(ctx context.Context, r store.Reader) (store.Page[V], error) {
		return l.in(r).List(ctx, store.Query{Reach: access.Everywhere})
	}, l.take)
	return page, err
}

func address(own *principal.Member, theirs principal.Member) bool {
	own.Email = theirs.Email
	return strings.HasPrefix(theirs.Email, "canary") // not a guest's
}

func applications(own *source.Source, theirs source.Source) bool {
	own.Applications = theirs.Applications
	return len(theirs.Applications) > 0 && strings.HasPrefix(theirs.Applications[0], "canary") // not one that the sweep made
}

type uplinks struct {
	store.Uplinks
	s spoiled
}

func (u uplinks) Find(ctx context.Context, q store.Query, f store.UplinkFilter) (store.Page[uplink.Uplink], error) {
	page, err := u.Uplinks.Find(ctx, q, f)
	if u.s.noun == "payload" {
		lend(u.s, page.Items, func(ctx context.Context, r store.Reader) (store.Page[uplink.Uplink], error) {
			return r.Uplinks().Find(ctx, store.Query{Reach: access.Everywhere}, f)
		}, func(own *uplink.Uplink, theirs uplink.Uplink) bool {
			own.Payload = theirs.Payload
			return len(theirs.Payload) > 3 // not the one that all have
		})
	}
	return page, err
}

func (s spoiled) Uplinks() store.Uplinks { return uplinks{s.Reader.Uplinks(), s} }

type outcomes struct {
	store.Outcomes
	s spoiled
}

func (o outcomes) Find(ctx context.Context, q store.Query, f store.OutcomeFilter) (store.Page[uplink.Outcome], error) {
	page, err := o.Outcomes.Find(ctx, q, f)
	if o.s.noun == "message" {
		lend(o.s, page.Items, func(ctx context.Context, r store.Reader) (store.Page[uplink.Outcome], error) {
			return r.Outcomes().Find(ctx, store.Query{Reach: access.Everywhere}, f)
		}, func(own *uplink.Outcome, theirs uplink.Outcome) bool {
			own.Message = theirs.Message
			return theirs.Message != ""
		})
	}
	return page, err
}

func (s spoiled) Outcomes() store.Outcomes { return outcomes{s.Reader.Outcomes(), s} }

// heedless is a store in which whoever changes a session is the one that it belongs to.
type heedless struct{ store.Store }

func (h heedless) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	return h.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		return fn(ctx, anybodys{w, s.Actor().ID})
	})
}

type anybodys struct {
	store.Writer
	caller ident.Principal
}

func (a anybodys) Sessions() store.Records[ident.Session, credential.Session] {
	return callers{a.Writer.Sessions(), a.caller}
}

type callers struct {
	store.Records[ident.Session, credential.Session]
	caller ident.Principal
}

func (c callers) Get(ctx context.Context, id ident.Session) (credential.Session, error) {
	v, err := c.Records.Get(ctx, id)
	v.Principal = c.caller
	return v, err
}

// clinging is a store where who is removed from a tenant stays what they were in it.
type clinging struct{ store.Store }

func (c clinging) Across(ctx context.Context, platform, tenant access.Scope, fn func(ctx context.Context, p, t store.Writer) (pe, te []audit.Event, err error)) error {
	return c.Store.Across(ctx, platform, tenant, func(ctx context.Context, p, t store.Writer) (pe, te []audit.Event, err error) {
		return fn(ctx, keeping{p}, keeping{t})
	})
}

type keeping struct{ store.Writer }

type kept[K comparable, V any] struct{ store.Records[K, V] }

func (kept[K, V]) Delete(context.Context, K, uint64) error { return nil }

func (k keeping) Members() store.Records[ident.Principal, principal.Member] {
	return kept[ident.Principal, principal.Member]{k.Writer.Members()}
}

func (k keeping) Memberships() store.Records[ident.Membership, access.Membership] {
	return kept[ident.Membership, access.Membership]{k.Writer.Memberships()}
}

func (k keeping) Persons() store.Records[ident.Principal, principal.Person] {
	return loyal{k.Writer.Persons()}
}

type loyal struct {
	store.Records[ident.Principal, principal.Person]
}

func (l loyal) Put(ctx context.Context, p principal.Person) (principal.Person, error) {
	if was, err := l.Get(ctx, p.ID); err == nil && len(p.Tenants) < len(was.Tenants) {
		return was, nil
	}
	return l.Records.Put(ctx, p)
}

// forgotten answers a request that was made before, under a key, by what was answered then. What the key lacks it forgets.
func forgotten(next http.Handler, suffix string, key func(r *http.Request, body string) string) http.Handler {
	answers := map[string]*httptest.ResponseRecorder{} // one request at a time: the planted sweep has one worker
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, suffix) {
			next.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		at := key(r, string(body))
		res, ok := answers[at]
		if !ok {
			res = httptest.NewRecorder()
			next.ServeHTTP(res, r)
		}
		if at != "" && res.Code < 300 {
			answers[at] = res
		}
		w.Header().Set("Content-Type", res.Header().Get("Content-Type"))
		w.WriteHeader(res.Code)
		_, _ = w.Write(res.Body.Bytes())
	})
}

func TestPlantedLeaksOfFieldsAndBehindKeysAreFound(t *testing.T) {
	e := engine(t)
	for noun, object := range map[string]string{
		"log by actor": "entry", "log by target": "entry", "log by org": "entry", "log by request": "entry",
		"payload": "uplink", "message": "outcome", "member's address": "member", "source's applications": "source",
	} {
		planted(t, e, noun, object, func(s store.Store) store.Store { return leaky{Store: s, noun: noun} })
	}
	for _, object := range []string{"role", "group", "decoder", "member", "source"} {
		noun := object + " by a name of one's own"
		planted(t, e, noun, object, func(s store.Store) store.Store { return leaky{Store: s, noun: noun} })
	}
	for name, open := range map[string]func(testing.TB, *enter.Cache) opened{"SQLite": onSQLite, "memory": inMemory} {
		plantedIn(t, e, "writes that are said to be refused, on "+name, "group", open, func(s store.Store) store.Store { return unguarded{Store: s, silent: true} }, func(h http.Handler) http.Handler { return h })
	}
	planted(t, e, "a session is whose who ends it", "session", func(s store.Store) store.Store { return heedless{s} })
	planted(t, e, "who is removed stays", "device", func(s store.Store) store.Store { return clinging{s} })
	planted(t, e, "any tenant of the caller's will do", "role", func(s store.Store) store.Store { return leaky{Store: s, noun: "role", callers: true} })
	once := func(r *http.Request) string { return r.Header.Get("Idempotency-Key") }
	for _, c := range []struct {
		name, object, suffix string
		key                  func(r *http.Request, body string) string
	}{
		{"a key is anybody's", "device", "/devices", func(r *http.Request, _ string) string { return once(r) }},
		{"a key and its request are anybody's", "role", "/roles", func(r *http.Request, body string) string {
			if once(r) == "" {
				return ""
			}
			return once(r) + r.URL.Path + body
		}},
		{"an uplink is any source's duplicate", "uplink", "/ingest/plain", func(_ *http.Request, body string) string {
			var sent struct{ Device, ID string }
			_ = json.Unmarshal([]byte(body), &sent)
			return sent.Device + sent.ID
		}},
	} {
		plantedIn(t, e, c.name, c.object, inMemory, nil, func(h http.Handler) http.Handler { return forgotten(h, c.suffix, c.key) })
	}
}
