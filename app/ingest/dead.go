package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/ports/trace"
)

// DeadLetter is what a dead letter says of itself. What it holds is nobody's to read here: it may be any tenant's.
type DeadLetter struct {
	Place string // partition and offset, its id
	uplink.Letter
	Kept int // bytes of the value that are there
}

// Whole reports whether all of the value was kept.
func (d DeadLetter) Whole() bool { return d.Kept == d.Size }

// Bounds of a look at dead letters.
const (
	deadAtOnce = 16    // values are large
	deadLooked = 2_000 // letters that a page looks at for those of one reason
	deadBytes  = 32 << 20
)

// DeadLetters lists dead letters, partition by partition, oldest first; of one reason, if there is one.
func (g *Ingest) DeadLetters(ctx context.Context, s access.Scope, q store.Query, reason string) (page store.Page[DeadLetter], err error) {
	if err := operator(s); err != nil {
		return page, err
	}
	part, offset := 0, int64(0)
	if q.After != "" {
		if part, offset, err = deadPlace(q.After); err != nil {
			return page, store.ErrCursor
		}
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 50
	}
	for looked, bytes := 0, 0; ; {
		rs, err := g.durable.Bus.Browse(ctx, g.durable.Topics.Dead, part, offset, deadAtOnce)
		switch {
		case isTopic(err) && part > 0:
			return page, nil // there are no more partitions
		case err != nil:
			return page, err
		case len(rs) == 0:
			part, offset = part+1, 0
			continue
		}
		for _, r := range rs {
			if len(page.Items) == limit || looked == deadLooked || bytes >= deadBytes {
				page.Next = placeOf(part, offset)
				return page, nil
			}
			looked, bytes, offset = looked+1, bytes+len(r.Value), r.Offset+1
			if d := deadLetter(r); reason == "" || d.Reason == reason {
				page.Items = append(page.Items, d)
			}
		}
	}
}

// DeadLetter answers one.
func (g *Ingest) DeadLetter(ctx context.Context, s access.Scope, place string) (DeadLetter, error) {
	r, err := g.deadRecord(ctx, s, place)
	return deadLetter(r), err
}

// ReplayDead puts a dead letter back on its way, as it is judged now, and answers the event that it became. All checks are run again,
// here and by whoever finishes it. The letter stays; replayed again it is the same event. An heir that is named is whose it becomes, or
// it is refused: who names one answers for what may be of another tenant's devices, and the log tells it.
func (g *Ingest) ReplayDead(ctx context.Context, s access.Scope, once enter.Once, place string, heir ident.Tenant) (id ident.Uplink, repeated bool, err error) {
	r, err := g.deadRecord(ctx, s, place)
	if err != nil {
		return id, false, err
	}
	d := deadLetter(r)
	e, err := g.revived(ctx, d, r.Value, heir)
	if err == nil && !heir.IsZero() && e.Tenant != heir {
		err = enter.ErrOtherHeir
	}
	if err != nil {
		return id, false, err
	}
	if g.durable.Span != nil {
		span, err := g.durable.Span(ctx)
		if err != nil {
			return id, false, err
		}
		if !span.holds(e.ID, e.ReceivedAt) {
			return id, false, errTime
		}
	}
	record, err := g.durable.record(g.durable.Topics.Uplinks, e, trace.Of(ctx))
	if err != nil {
		return id, false, err
	}
	told := []audit.Change{audit.Set("event", "", e.ID.String()), audit.Set("tenant", "", e.Tenant.String()), audit.Set("reason", "", d.Reason)}
	if !heir.IsZero() {
		told = append(told, audit.Set("heir", "", heir.String()))
	}
	entry, err := g.enter.Event(ctx, s, audit.DeadLetterReplayed, audit.Target{Kind: "dead_letter", ID: d.Place}, told...)
	if err != nil {
		return id, false, err
	}
	// The entry comes first: nothing goes out that the log does not know of. A mapping that ended since the letter was decided by it has made
	// the scope stale: then it is decided again.
	err = g.store.Change(ctx, s, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		return []audit.Event{entry}, g.enter.Once(ctx, s, w, once, func() (string, error) { return e.ID.String(), nil })
	})
	var again *enter.Replay
	if err != nil && !errors.As(err, &again) { // asked before under the same key: whether it went out is not known, and twice does no harm
		return id, false, err
	}
	ctx, end := context.WithTimeout(ctx, g.durable.Wait)
	defer end()
	if err := g.durable.Bus.Publish(ctx, []bus.Record{record})[0]; err != nil {
		return id, false, fault.Wrap(err, fault.Unavailable, "bus_away", "The event could not be made durable, or it is not known whether it is. Replay the letter again.").WithRetry(time.Second)
	}
	g.counts.add("ringfence_dead_letters_replayed_total", 1)
	return e.ID, again != nil, nil
}

// Refusals of a replay.
var (
	errCut       = fault.New(fault.Conflict, "letter_cut", "Only the beginning of the value was kept, since it was too large. Ask its sender to send it again, smaller.")
	errNobodys   = fault.New(fault.Conflict, "letter_without_owner", "The letter is still nobody's. Map its application to a tenant's source, or enable that source, then replay it.")
	errForged    = fault.New(fault.Conflict, "letter_not_ours", "The record did not say, in all its places alike, whose it is, so that no process of ours wrote it. Nothing is made of it; find out who may write to the topic.")
	errTime      = fault.New(fault.Conflict, "time_not_kept", "The message is of a time that the database keeps nothing of: it lies before its oldest day, or far ahead. Ask its sender to send it again.")
	errNotAnyway = fault.New(fault.Conflict, "letter_not_an_event", "The letter is no event that came in, or came in by a topic that does not tell whose it is, so that it cannot be replayed.")
)

// revived is a letter's event, decided as if it came now.
func (g *Ingest) revived(ctx context.Context, d DeadLetter, value []byte, heir ident.Tenant) (e uplink.Event, err error) {
	switch {
	case !d.Whole():
		return e, errCut
	case d.Via == g.durable.Topics.Uplinks || d.Via == g.durable.Topics.Later:
		e, reason := readEvent(bus.Record{Topic: d.Via, Key: d.Said.Key, Value: value, Headers: []bus.Header{{Name: bus.EventHeader, Value: []byte(d.Said.Event)}, {Name: bus.TenantHeader, Value: []byte(d.Said.Tenant)}}}, g.durable.Topics)
		switch reason {
		case "":
			return g.reclaimed(ctx, e, heir)
		case headersDisagree:
			return e, errForged
		}
		return e, unreadable(reason)
	case !strings.HasPrefix(d.Via, uplink.ViaConnection):
		return e, errNotAnyway
	}
	name := strings.TrimPrefix(d.Via, uplink.ViaConnection)
	t, s := d.Tenant, d.Source // the worker's own finding, by its configuration or the topic
	switch Owner(d.Owner) {
	case Fixed, Checked:
		if t.IsZero() || s.IsZero() {
			return e, errNotAnyway
		}
	case ByApplication:
		if d.Told.Application == "" {
			return e, errNotAnyway
		}
		t, s, err = g.enter.Heir(ctx, name, d.Told.Application, d.Tenant, d.At, heir)
	default:
		return e, errNotAnyway
	}
	if fault.Is(err, fault.NotFound) {
		return e, errNobodys
	}
	if err != nil {
		return e, err
	}
	src, err := g.through(ctx, t, s)
	if err != nil {
		return e, err
	}
	if e, err = g.message(t, uplink.ViaConnection+name, src, source.Format(d.Format), d.Told, value, d.At); err != nil {
		return e, stillDead(err)
	}
	e.ID = d.event(value)
	return e, nil
}

func (g *Ingest) through(ctx context.Context, t ident.Tenant, s ident.Source) (source.Source, error) {
	src, _, err := g.enter.Through(ctx, t, s)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) {
		err = errNobodys
	}
	return src, err
}

// reclaimed is an event of a letter as the event of whose its application was when it was let in. It is not asked again then:
// whoever has it replayed decides it.
func (g *Ingest) reclaimed(ctx context.Context, e uplink.Event, heir ident.Tenant) (uplink.Event, error) {
	name, mapped := strings.CutPrefix(e.Via, uplink.ViaMapping)
	if !mapped {
		return e, nil
	}
	k, err := g.enter.Fresh(ctx, e.Tenant)
	if err == nil {
		var began time.Time
		var its bool
		if began, its, err = g.enter.Owned(ctx, k, e.Source, name, e.Message.Application, e.ArrivedAt); its {
			var over bool
			if over, err = g.heldOver(ctx, began, e, name, map[string]source.Tenure{}); err == nil && !over {
				return e, nil
			}
		}
	}
	if err != nil && !fault.Is(err, fault.NotFound) { // its tenant may be gone
		return e, err
	}
	t, s, err := g.enter.Heir(ctx, name, e.Message.Application, e.Tenant, since(e), heir)
	if fault.Is(err, fault.NotFound) {
		return e, errNobodys
	}
	if err == nil {
		_, err = g.through(ctx, t, s)
	}
	e.Tenant, e.Source, e.Via = t, s, uplink.ViaConnection+name
	if e.Reason != uplink.TopicMismatch && e.Reason != uplink.WrongFormat { // what was wrong with the other's source or tenant is not the heir's
		e.Reason = ""
	}
	return e, err
}

// event is the id of what a letter becomes, the same each time, at the time when it came.
func (d DeadLetter) event(value []byte) (id ident.Uplink) {
	sum := sha256.Sum256(append([]byte(d.Place+" "), value...))
	ident.Fresh(ident.Mint{Now: func() time.Time { return d.At }, Random: func(b []byte) { copy(b, sum[:]) }}, &id)
	return id
}

// stillDead says what is wrong with a value, as it was the first time.
func stillDead(err error) error {
	if errors.Is(err, uplink.ErrIgnored) {
		return errNotAnyway
	}
	if f := fault.As(err); f != nil && f.Kind == fault.Invalid {
		return unreadable(f.Code)
	}
	return err
}

func unreadable(code string) error {
	return fault.New(fault.Conflict, "letter_unreadable", "The value can still not be read (%s). A newer version may read it.", code)
}

func operator(s access.Scope) error {
	if s.Tenant() != ident.Platform || !s.Allowed() {
		return store.ErrScope
	}
	return nil
}

func (g *Ingest) deadRecord(ctx context.Context, s access.Scope, place string) (bus.Record, error) {
	if err := operator(s); err != nil {
		return bus.Record{}, err
	}
	part, offset, err := deadPlace(place)
	if err != nil {
		return bus.Record{}, fault.Missing()
	}
	rs, err := g.durable.Bus.Browse(ctx, g.durable.Topics.Dead, part, offset, 1)
	switch {
	case isTopic(err) && part > 0:
		return bus.Record{}, fault.Missing()
	case err != nil:
		return bus.Record{}, err
	case len(rs) == 0 || rs[0].Offset != offset: // not there yet, or no longer kept
		return bus.Record{}, fault.Missing()
	}
	return rs[0], nil
}

func deadLetter(r bus.Record) DeadLetter {
	fields := make([]uplink.Field, len(r.Headers))
	for i, h := range r.Headers {
		fields[i] = uplink.Field{Name: h.Name, Value: string(h.Value)}
	}
	d := DeadLetter{Place: placeOf(r.Partition, r.Offset), Letter: uplink.ReadLetter(fields), Kept: len(r.Value)}
	if d.At.IsZero() {
		d.At = r.Time
	}
	d.At = d.At.UTC().Truncate(time.Microsecond)
	return d
}

func placeOf(part int, offset int64) string {
	return strconv.Itoa(part) + "-" + strconv.FormatInt(offset, 10)
}

func deadPlace(s string) (part int, offset int64, err error) {
	first, second, ok := strings.Cut(s, "-")
	part, err = strconv.Atoi(first)
	if err == nil {
		offset, err = strconv.ParseInt(second, 10, 64)
	}
	if err != nil || !ok || part < 0 || offset < 0 || placeOf(part, offset) != s {
		return 0, 0, fault.Missing()
	}
	return part, offset, nil
}
