package redacttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// Trouble is a store that goes wrong when told to, in words that hold a secret: an adapter's driver may repeat whatever it
// choked on.
type Trouble struct {
	store.Store
	mu   sync.Mutex
	kind string
	text string
	calm int // calls that go well before
	met  int // calls that went wrong

	// Spoil, if set, makes the events and the records of a change other than the use case meant. It is for planted bugs.
	Spoil func(store.Writer, []audit.Event) (store.Writer, []audit.Event)
	// Spill, if set, does the same to what is written without an entry.
	Spill func(store.Flow) store.Flow
	// Blurt, if set, makes another error of one of the store's.
	Blurt func(error) error
}

// NewTrouble is a store that does as the given one until it is told otherwise.
func NewTrouble(s store.Store) *Trouble { return &Trouble{Store: s} }

// troubles are the ways to go wrong.
func troubles() []string {
	return []string{"an error", "an error in an error", "a fault", "an absence", "a joined error", "an error inside", "a panic", "a panic with an error", "a panic inside"}
}

func (t *Trouble) begin(kind, text string, calm int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kind, t.text, t.calm, t.met = kind, text, calm, 0
}

// end answers how often something went wrong.
func (t *Trouble) end() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kind = ""
	return t.met
}

func (t *Trouble) now() (kind string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kind == "" {
		return "", nil
	}
	if t.calm > 0 {
		t.calm--
		return "", nil
	}
	t.met++
	return t.kind, errors.New("driver: cannot store " + t.text)
}

// outside is how a call goes wrong before anything is done.
func (t *Trouble) outside() (inside func(), err error) {
	kind, cause := t.now()
	switch kind {
	case "an error":
		return nil, cause
	case "an error in an error":
		return nil, fmt.Errorf("while writing: %w", cause)
	case "a fault":
		return nil, fault.Wrap(cause, fault.Internal, "store", "The record could not be written.")
	case "an absence":
		return nil, fault.Wrap(cause, fault.Unavailable, "store_unavailable", "The store cannot be reached at the moment. Try again.").WithRetry(time.Second)
	case "a joined error":
		return nil, errors.Join(cause, errors.New("and "+cause.Error()))
	case "a panic":
		panic(cause.Error())
	case "a panic with an error":
		panic(cause)
	case "an error inside":
		return func() { panic(inner{cause}) }, nil
	case "a panic inside":
		return func() { panic(cause.Error()) }, nil
	}
	return nil, nil
}

// inner carries an error out of a function that the store runs.
type inner struct{ error }

func within(inside func(), fn func() error) (err error) {
	if inside != nil {
		defer func() {
			switch p := recover().(type) {
			case nil:
			case inner:
				err = p.error
			default:
				panic(p)
			}
		}()
		inside()
	}
	return fn()
}

func (t *Trouble) said(err error) error {
	if err != nil && t.Blurt != nil {
		return t.Blurt(err)
	}
	return err
}

// View goes wrong, or does as the store beneath.
func (t *Trouble) View(ctx context.Context, s access.Scope, fn func(context.Context, store.Reader) error) error {
	inside, err := t.outside()
	if err != nil {
		return t.said(err)
	}
	return t.said(t.Store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		return within(inside, func() error { return fn(ctx, r) })
	}))
}

// Change goes wrong, or does as the store beneath.
func (t *Trouble) Change(ctx context.Context, s access.Scope, fn func(context.Context, store.Writer) ([]audit.Event, error)) error {
	inside, err := t.outside()
	if err != nil {
		return t.said(err)
	}
	return t.said(t.Store.Change(ctx, s, func(ctx context.Context, w store.Writer) (es []audit.Event, err error) {
		if t.Spoil != nil {
			w, _ = t.Spoil(w, nil)
		}
		err = within(inside, func() error {
			es, err = fn(ctx, w)
			return err
		})
		if err == nil && t.Spoil != nil {
			_, es = t.Spoil(w, es)
		}
		return es, err
	}))
}

// Ingest goes wrong, or does as the store beneath.
func (t *Trouble) Ingest(ctx context.Context, s access.Scope, fn func(context.Context, store.Flow) error) error {
	inside, err := t.outside()
	if err != nil {
		return t.said(err)
	}
	return t.said(t.Store.Ingest(ctx, s, func(ctx context.Context, f store.Flow) error {
		if t.Spill != nil {
			f = t.Spill(f)
		}
		return within(inside, func() error { return fn(ctx, f) })
	}))
}

// IngestBatch goes wrong as a whole, or does as the store beneath.
func (t *Trouble) IngestBatch(ctx context.Context, parts []store.Part) []error {
	_, err := t.outside()
	if err != nil {
		errs := make([]error, len(parts))
		for i := range errs {
			errs[i] = t.said(err)
		}
		return errs
	}
	errs := t.Store.IngestBatch(ctx, parts)
	for i := range errs {
		errs[i] = t.said(errs[i])
	}
	return errs
}

// Across goes wrong, or does as the store beneath.
func (t *Trouble) Across(ctx context.Context, platform, tenant access.Scope, fn func(ctx context.Context, p, t store.Writer) (pe, te []audit.Event, err error)) error {
	inside, err := t.outside()
	if err != nil {
		return t.said(err)
	}
	return t.said(t.Store.Across(ctx, platform, tenant, func(ctx context.Context, p, w store.Writer) (pe, te []audit.Event, err error) {
		if t.Spoil != nil {
			p, _ = t.Spoil(p, nil)
			w, _ = t.Spoil(w, nil)
		}
		err = within(inside, func() error {
			pe, te, err = fn(ctx, p, w)
			return err
		})
		return pe, te, err
	}))
}

// Directory goes wrong, or does as the one beneath.
func (t *Trouble) Directory() store.Directory { return directory{t.Store.Directory(), t} }

type directory struct {
	store.Directory
	t *Trouble
}

// asked has no inside: the directory runs no function of its caller's.
func asked[V any](t *Trouble, fn func() (V, error)) (v V, err error) {
	if _, err = t.outside(); err == nil {
		v, err = fn()
	}
	return v, t.said(err)
}

func (d directory) Locate(ctx context.Context, accessor string) (store.Location, error) {
	return asked(d.t, func() (store.Location, error) { return d.Directory.Locate(ctx, accessor) })
}

func (d directory) Waiting(ctx context.Context, now time.Time, limit int) ([]store.Waiting, error) {
	return asked(d.t, func() ([]store.Waiting, error) { return d.Directory.Waiting(ctx, now, limit) })
}

func (d directory) Chores(ctx context.Context, now time.Time, after store.Waiting, limit int) ([]store.Waiting, error) {
	return asked(d.t, func() ([]store.Waiting, error) { return d.Directory.Chores(ctx, now, after, limit) })
}

func (d directory) Tenants(ctx context.Context, after ident.Tenant, limit int) ([]ident.Tenant, error) {
	return asked(d.t, func() ([]ident.Tenant, error) { return d.Directory.Tenants(ctx, after, limit) })
}
