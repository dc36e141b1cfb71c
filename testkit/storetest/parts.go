package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// alike takes nothing and an empty slice for the same.
func alike(a, b any) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

// home is one record of each noun that rows are decided from.
type home struct {
	node    org.Node
	source  source.Source
	key     credential.IngestionKey
	device  device.Device
	decoder decoder.Decoder
}

func (w *World) home(t testing.TB, s access.Scope) (h home) {
	t.Helper()
	h = home{org.Node{Kind: org.Site, Name: "n"}, source.Source{Name: "s", State: source.Active}, credential.IngestionKey{Stored: credential.Stored{Accessor: "accessor" + s.Tenant().String()[:12] + s.Tenant().String()[4:]}},
		device.Device{Name: "pump", State: device.Active, UpdatedAt: w.now, Addresses: []device.Address{{Kind: device.Serial, Value: "a"}}}, decoder.Decoder{Name: "d"}}
	set(w, &h.node.ID)
	set(w, &h.source.ID)
	set(w, &h.key.ID)
	set(w, &h.device.ID)
	set(w, &h.decoder.ID)
	h.key.Source = h.source.ID
	w.change(t, s, func(ctx context.Context, wr store.Writer) error { return h.put(ctx, wr, 0, 1, 2, 3, 4) })
	return h
}

// kinds of a home's records, by the numbers that put knows them by.
const homeKinds = 5

// put writes some of the records, as they are.
func (h *home) put(ctx context.Context, wr store.Writer, which ...int) error {
	for _, n := range which {
		var err error
		switch n {
		case 0:
			h.node, err = wr.Nodes().Put(ctx, h.node)
		case 1:
			h.source, err = wr.Sources().Put(ctx, h.source)
		case 2:
			h.key, err = wr.Keys().Put(ctx, h.key)
		case 3:
			h.device, err = wr.Devices().Put(ctx, h.device)
		case 4:
			h.decoder, err = wr.Decoders().Put(ctx, h.decoder)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// seen is what there is of them now, and how often they were changed in all.
func (h home) seen(ctx context.Context, r store.Reader) (store.Seen, uint64, error) {
	rev, err := r.Revision(ctx)
	src, err2 := r.Sources().Get(ctx, h.source.ID)
	key, err3 := r.Keys().Get(ctx, h.key.ID)
	dev, err4 := r.Devices().Get(ctx, h.device.ID)
	dec, err5 := r.Decoders().Get(ctx, h.decoder.ID)
	return store.Seen{
		Revision: rev, Sources: map[ident.Source]uint64{src.ID: src.Rev}, Keys: map[ident.Key]uint64{key.ID: key.Rev},
		Devices: map[ident.Device]uint64{dev.ID: dev.Rev}, Decoders: map[ident.Decoder]uint64{dec.ID: dec.Rev},
	}, rev + src.Rev + key.Rev + dev.Rev + dec.Rev, errors.Join(err, err2, err3, err4, err5)
}

func (w *World) seenOf(t testing.TB, s access.Scope, h home) (seen store.Seen, times uint64) {
	t.Helper()
	w.view(t, s, func(ctx context.Context, r store.Reader) (err error) { seen, times, err = h.seen(ctx, r); return err })
	return seen, times
}

func batchStale(t testing.TB, w *World) {
	h, b := w.home(t, w.A), w.device(t, w.B, ident.Node{1}, "x")
	written := 0
	try := func(what string, seen store.Seen, stale bool) {
		t.Helper()
		told := len(w.tellings())
		errs := w.Store.IngestBatch(w.ctx, []store.Part{{Scope: w.A, Seen: seen, Rows: []store.Finished{w.row(h.device.ID, 0, "p"), w.held(0, "q")}}, {Scope: w.B, Seen: w.seen(t, w.B), Rows: []store.Finished{w.row(b.ID, 0, "p")}}})
		if stale {
			wantIs(t, errs[0], store.ErrStale, what)
			if !slices.Contains(w.tellings()[told:], w.A.Tenant()) {
				t.Errorf("%s: Revised was not told", what)
			}
		} else if written++; errs[0] != nil {
			t.Errorf("%s: %v", what, errs[0])
		}
		if errs[1] != nil {
			t.Errorf("%s: another tenant's part: %v", what, errs[1])
		}
		w.trace(t, w.A).is(t, what, 2*written, written, written, min(written, 1))
	}
	w.overs(t, &h, try)
}

func batchFails(t testing.TB, w *World) {
	a, b := w.device(t, w.A, ident.Node{1}, "x"), w.device(t, w.B, ident.Node{1}, "x")
	scopes, devices := []access.Scope{w.A, w.B}, []ident.Device{a.ID, b.ID}
	part := func(n int, rows ...store.Finished) store.Part {
		return store.Part{Scope: scopes[n], Seen: w.seen(t, scopes[n]), Rows: rows}
	}
	for bad := range 2 {
		good := 1 - bad
		twice := []store.Finished{w.row(devices[bad], 1, "p"), w.row(devices[bad], 2, "q"), w.held(3, "r")}
		twice[1].Outcome.ID = twice[0].Outcome.ID
		refused := access.Grant(scopes[bad].Tenant(), access.Actor{Kind: access.Anonymous}, access.Origin{}, access.Decision{Reason: "no"}, nil, access.Subject{}, w.now)
		many := make([]store.Finished, store.MaxRows+1)
		for i := range many {
			many[i] = w.held(0, "p")
		}
		old := w.row(devices[bad], 0, "p")
		old.Uplink.Rev = 1
		others := w.row(devices[bad], 0, "p")
		others.Reading.Uplink = w.held(0, "p").Uplink.ID
		failed := w.row(devices[bad], 0, "p")
		failed.Uplink.State = uplink.Failed
		for _, row := range []store.Finished{others, failed} {
			wantKind(t, w.Store.IngestBatch(w.ctx, []store.Part{part(bad, row)})[0], fault.Invalid, "a reading of another uplink, or of one that failed")
		}
		errs := w.Store.IngestBatch(w.ctx, []store.Part{part(bad, twice...), part(good, w.row(devices[good], 0, "p")), {Scope: refused, Rows: []store.Finished{w.held(0, "p")}}, part(bad, many...), part(bad, old), {Rows: []store.Finished{w.held(0, "p")}}, part(good, w.row(devices[good], 0, "p"))})
		if len(errs) != 7 || errs[1] != nil || errs[6] != nil {
			t.Fatalf("the good parts: %v", errs)
		}
		wantKind(t, errs[0], fault.Invalid, "a part with an outcome that is there already")
		wantIs(t, errs[2], store.ErrDenied, "a part with the scope of a refusal")
		wantKind(t, errs[3], fault.Invalid, "a part of too many rows")
		wantKind(t, errs[4], fault.Invalid, "a part with an uplink that is not new")
		wantIs(t, errs[5], store.ErrScope, "a part without a scope")
		w.trace(t, scopes[bad]).is(t, "of the bad parts", 2*bad, 2*bad, 2*bad, 0)
		w.trace(t, scopes[good]).is(t, "of the good ones", 2, 2, 2, 0)
	}
}

func batchBounds(t testing.TB, w *World) {
	d := w.device(t, w.A, ident.Node{1}, "x")
	rows := make([]store.Finished, store.MaxRows)
	for i := range rows {
		rows[i] = w.row(d.ID, 0, "p")
	}
	w.batch(t, w.A, rows...)
	n := 0
	w.view(t, w.A, func(ctx context.Context, r store.Reader) error {
		for q := (store.Query{Reach: access.Everywhere}); ; {
			page, err := r.Readings().Find(ctx, q, store.ReadingFilter{})
			n += len(page.Items)
			if q.After = page.Next; err != nil || q.After == "" {
				return err
			}
		}
	})
	if n != store.MaxRows {
		t.Errorf("%d of %d readings are there", n, store.MaxRows)
	}
	if errs := w.Store.IngestBatch(w.ctx, nil); len(errs) != 0 {
		t.Errorf("a batch of nothing: %v", errs)
	}
	parts := make([]store.Part, store.MaxParts+1)
	for i := range parts {
		parts[i] = store.Part{Scope: w.Scope(ident.Tenant{0x40, byte(i >> 8), byte(i)}, 0), Rows: []store.Finished{w.held(1, "p")}}
	}
	errs := w.Store.IngestBatch(w.ctx, parts)
	for _, err := range errs {
		wantKind(t, err, fault.Invalid, "a part of too many")
	}
	if len(errs) != len(parts) {
		t.Fatalf("%d errors for %d parts", len(errs), len(parts))
	}
	for i, err := range w.Store.IngestBatch(w.ctx, parts[1:]) {
		if err != nil {
			t.Fatalf("part %d of as many as there may be: %v", i, err)
		}
	}
	for i, p := range parts {
		if i%100 < 2 {
			w.trace(t, p.Scope).is(t, fmt.Sprintf("of tenant %d", i), min(i, 1), 0, 0, min(i, 1))
		}
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	one := []store.Part{{Scope: w.A, Seen: w.seen(t, w.A), Rows: []store.Finished{w.row(d.ID, 1, "p")}}}
	wantIs(t, w.Store.IngestBatch(ctx, one)[0], context.Canceled, "for a caller that went away")
	err := w.Store.View(w.ctx, w.A, func(ctx context.Context, _ store.Reader) error { return w.Store.IngestBatch(ctx, one)[0] })
	wantIs(t, err, store.ErrNested, "IngestBatch in View")
	if v := w.accept(t, w.A, w.uplink(1, "p")); v[0].Duplicate {
		t.Error("a batch that was refused left a key")
	}
	if err := w.Store.Close(); err != nil {
		t.Fatal(err)
	}
	wantIs(t, w.Store.IngestBatch(w.ctx, one)[0], store.ErrClosed, "when the store is closed")
}

func batchRace(t testing.TB, w *World) {
	w.race(t, func(n int, seen store.Seen, row store.Finished) error {
		besides := []store.Part{{Scope: w.B}}[:n%2] // some with another tenant's part
		err := w.Store.IngestBatch(w.ctx, append([]store.Part{{Scope: w.A, Seen: seen, Rows: []store.Finished{row}, Wait: len(besides) == 0}}, besides...))[0]
		if errors.Is(err, store.ErrBusy) && len(besides) > 0 {
			return nil
		}
		return err
	})
}

const meanwhile, atOnce = 300 * time.Millisecond, 5 * time.Second // shorter than any store waits for what it cannot have

// changing has the first tenant changed until it is told to end, and answers what came of it.
func (w *World) changing() (end func(), changed chan error) {
	ev, begun, over := w.event("x"), make(chan struct{}), make(chan struct{})
	begin, end := sync.OnceFunc(func() { close(begun) }), sync.OnceFunc(func() { close(over) })
	changed = make(chan error, 1)
	go func() {
		changed <- w.Store.Change(w.ctx, w.A, func(context.Context, store.Writer) ([]audit.Event, error) {
			begin()
			<-over
			return []audit.Event{ev}, nil
		})
	}()
	<-begun
	return end, changed
}

// batchAsked writes while a tenant is being changed. If another's part is written meanwhile, so that it could be, who did not ask
// to wait is told at once, alone in a batch too; who did has waited, whatever the store.
func batchAsked(t testing.TB, w *World) {
	part := func(s access.Scope, wait bool) []store.Part {
		return []store.Part{{Scope: s, Seen: w.seen(t, s), Rows: []store.Finished{w.held(0, "p")}, Wait: wait}}
	}
	others, asked, unasked, beside := part(w.B, false), part(w.A, true), part(w.A, false), append(part(w.A, true), part(w.B, false)...)
	end, changed := w.changing()
	defer end()
	write := func(parts []store.Part) chan []error {
		done := make(chan []error, 1)
		go func() { done <- w.Store.IngestBatch(w.ctx, parts) }()
		return done
	}
	waits := write(asked)
	free, all := write(others), []chan []error{write(unasked), write(beside)}
	var told [][]error
	select {
	case errs := <-free:
		wantIs(t, errs[0], nil, "another tenant's part")
		for _, done := range all {
			select {
			case errs := <-done:
				wantIs(t, errs[0], store.ErrBusy, "of a tenant that is being changed, for who does not wait")
				told = append(told, errs[1:])
			case <-time.After(atOnce):
				t.Error("a part waits for a change, and so does whoever gave it")
			}
		}
		select {
		case errs := <-waits:
			t.Errorf("a part that asked to wait has not: %v", errs)
			waits <- errs
		default:
		}
		end()
	case <-time.After(meanwhile): // nothing can be written meanwhile
		end()
		wantIs(t, (<-free)[0], nil, "another tenant's part")
	}
	wantIs(t, <-changed, nil, "the change")
	wantIs(t, (<-waits)[0], nil, "a part that asked to wait")
	for _, errs := range told {
		for _, err := range errs {
			wantIs(t, err, nil, "another tenant's part beside it")
		}
	}
}

// batchOverlap lets many write to the same devices of the same tenants at once, each naming them in another order.
func batchOverlap(t testing.TB, w *World) {
	const tenants, writers, batches, each = 6, 8, 12, 10
	var homes [tenants]struct {
		scope   access.Scope
		seen    store.Seen
		devices [4]ident.Device
	}
	for i := range homes {
		s := w.Scope(ident.Tenant{0x50, byte(i)}, 0)
		homes[i].scope = s
		for j := range homes[i].devices {
			homes[i].devices[j] = w.device(t, s, ident.Node{1}, fmt.Sprint(j)).ID
		}
		homes[i].seen = w.seen(t, s)
	}
	var work [writers][batches][]store.Part
	for wr := range work {
		for b := range work[wr] {
			for i := range tenants {
				n := (i*(wr%5+1) + wr + b) % tenants // another order, now and then a tenant twice
				p := store.Part{Scope: homes[n].scope, Seen: homes[n].seen}
				for j := range each {
					f := w.row(homes[n].devices[(j*(wr%3+1)+wr)%4], 0, "p")
					f.Uplink.DedupeKey = [32]byte{1, byte(b), byte((j + wr) % each)} // each key is every writer's
					p.Rows = append(p.Rows, at(f, time.Duration(wr*batches+b)*time.Second))
				}
				p.Rows = append(p.Rows, w.held(0, "q"))
				work[wr][b] = append(work[wr][b], p)
			}
		}
	}
	var wg sync.WaitGroup
	for wr := range work {
		wg.Go(func() {
			for _, parts := range work[wr] {
				for i, err := range w.Store.IngestBatch(w.ctx, parts) {
					if err != nil {
						t.Errorf("writer %d, part %d: %v", wr, i, err)
					}
				}
			}
		})
	}
	wg.Wait()
	heldParts := map[ident.Tenant]int64{}
	for wr := range work {
		for _, parts := range work[wr] {
			for _, p := range parts {
				heldParts[p.Scope.Tenant()]++
			}
		}
	}
	for _, h := range homes {
		tr := w.trace(t, h.scope)
		if len(tr.readings) != batches*each {
			t.Errorf("%d readings of %d keys", len(tr.readings), batches*each)
		}
		if len(tr.folds) != 1 || tr.folds[0].Count != heldParts[h.scope.Tenant()] {
			t.Errorf("counters %+v, want %d", tr.folds, heldParts[h.scope.Tenant()])
		}
		for _, r := range tr.readings {
			if r.Uplink.IsZero() {
				t.Error("a reading of nothing")
			}
		}
	}
}
