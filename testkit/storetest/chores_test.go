package storetest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// busy is a directory that tells jobs otherwise.
type busy struct {
	store.Directory
	chores func(d store.Directory, ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error)
}

func (b busy) Chores(ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
	return b.chores(b.Directory, ctx, now, after, limit)
}

// restless does something else than to rest.
type restless struct {
	store.Flow
	rest func(store.Flow, context.Context) error
}

func (r restless) Rest(ctx context.Context) error { return r.rest(r.Flow, ctx) }

func TestPlantedBugsOfChoresAreFound(t *testing.T) {
	told := func(chores func(d store.Directory, ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error)) func(store.Store) store.Store {
		return func(s store.Store) store.Store {
			return wrapped{Store: s, dir: func(d store.Directory) store.Directory { return busy{d, chores} }}
		}
	}
	some := func(fits func(w store.Waiting, now time.Time) bool) func(store.Store) store.Store {
		return told(func(d store.Directory, ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
			all, err := d.Chores(ctx, now, after, 100)
			var out []store.Waiting
			for _, w := range all {
				if fits(w, now) && len(out) < limit {
					out = append(out, w)
				}
			}
			return out, err
		})
	}
	resting := func(rest func(store.Flow, context.Context) error) func(store.Store) store.Store {
		return func(s store.Store) store.Store {
			return wrapped{Store: s, flow: func(f store.Flow) store.Flow { return restless{f, rest} }}
		}
	}
	late := false // a rest hides what was due before it, which is missed if it came meanwhile
	for bug, m := range map[string]struct {
		check  string
		faulty func(store.Store) store.Store
	}{
		"nobody has anything due":     {"JobsAreToldOfTenantsWithSomethingDueAlone", some(func(store.Waiting, time.Time) bool { return false })},
		"a tree that grew is not due": {"JobsAreToldOfTenantsWithSomethingDueAlone", some(func(w store.Waiting, _ time.Time) bool { return !w.Oldest.IsZero() })},
		"what is over is due no more": {"JobsAreToldOfTenantsWithSomethingDueAlone", some(func(w store.Waiting, _ time.Time) bool { return w.Oldest.IsZero() })},
		"what is due is due later":    {"JobsAreToldOfTenantsWithSomethingDueAlone", some(func(w store.Waiting, now time.Time) bool { return w.Oldest.Before(now) })},
		"the second tenant is nobody": {"JobsAreToldOfTenantsWithSomethingDueAlone", some(func(w store.Waiting, _ time.Time) bool { return w.Tenant != (ident.Tenant{0xb}) })},
		"jobs are never done":         {"JobsAreToldOfTenantsWithSomethingDueAlone", resting(func(store.Flow, context.Context) error { return nil })},
		"a page is a tenant's for ever": {"JobsAreToldOfTenantsWithSomethingDueAlone", told(func(d store.Directory, ctx context.Context, now time.Time, _ store.Waiting, limit int) ([]store.Waiting, error) {
			return d.Chores(ctx, now, store.Waiting{}, limit)
		})},
		"what will be due is due": {"JobsAreToldOfTenantsWithSomethingDueAlone", told(func(d store.Directory, ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
			all, err := d.Chores(ctx, now.Add(time.Second), after, limit)
			for i := range all {
				all[i].Oldest = time.Time{}
			}
			return all, err
		})},
		"a rest is for ever": {"NothingDueIsMissedWhileJobsRest", func(s store.Store) store.Store {
			return wrapped{
				Store: s, flow: func(f store.Flow) store.Flow {
					return restless{f, func(f store.Flow, ctx context.Context) error { late = true; return f.Rest(ctx) }}
				},
				dir: func(d store.Directory) store.Directory {
					return busy{d, func(d store.Directory, ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
						if late {
							return nil, nil
						}
						return d.Chores(ctx, now, after, limit)
					}}
				},
			}
		}},
	} {
		t.Run(strings.ReplaceAll(bug, " ", "_"), func(t *testing.T) {
			if !caught(t, m.check, m.faulty, nil) {
				t.Errorf("%s did not catch: %s", m.check, bug)
			}
		})
	}
}
