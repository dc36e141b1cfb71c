package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"hash/fnv"
	"log/slog"
	"strconv"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/ports/trace"
)

// Owner is how a connection's messages are known to be whose.
type Owner string

// The ways. A message's payload is none of them.
const (
	Fixed         Owner = "fixed"       // all are one source's, which the operator named
	ByApplication Owner = "application" // the topic names an application, which the platform mapped to a source
	Checked       Owner = "checked"     // the topic names tenant and source, which the operator's broker has checked
)

// Connection is what is to be known of a broker that the operator configured, beside how it is reached.
type Connection struct {
	Name   string
	Format source.Format
	Owner  Owner
	Tenant ident.Tenant      // if fixed
	Source ident.Source      // if fixed
	Topics []uplink.Template // of the messages, the first that fits
}

// Brought is one message of a connection. Bad is why the transport could not take it as it is; its payload may be cut then.
type Brought struct {
	Topic   string
	Payload []byte
	Trace   trace.Place // where its sender says that it stands
	Bad     string
	Size    int      // of a payload that was cut, as it was sent; 0: it is whole
	Hash    [32]byte // of all of it then
	Before  error    // what was answered for it last, if it is given again
}

// arrival is what becomes of a delivery, and what is to be published for it; a record without a topic is none.
type arrival struct {
	record bus.Record
	event  uplink.Event
	result string // as it is counted
	paid   paid

	began time.Time
	at    trace.Place // of taking it in
	sent  trace.Place // of publishing it
}

// askWithin is how long the messages of one call wait together for what the store has to tell the gate; what is not told by then is
// asked for again.
const askWithin = 2 * time.Second

// Receive makes messages of a connection durable on the bus, and answers one error a message, in their order. Nil is to be
// acknowledged: the message is durable as an event, refused ones among them, or as a dead letter, or it was dropped and counted.
// Any error is of kind Unavailable: the message is to be given again with it, and so are those of its topic behind it, which are not
// let in before it. While the store does not answer, who is remembered goes on.
func (g *Ingest) Receive(ctx context.Context, c Connection, ds []Brought) []error {
	errs := make([]error, len(ds))
	out := make([]arrival, len(ds))
	var records []bus.Record
	var of []int
	ask, stop := context.WithTimeout(ctx, askWithin)
	defer stop()
	if g.enter.Following() != nil { // it is known to be away: nobody is asked
		stop()
	}
	var waits map[string]bool // topics of which something does
	for i := range ds {
		a := arrival{began: g.enter.Now(), at: g.durable.enter(ds[i].Trace), paid: paidFor(ds[i].Before)}
		a.sent = g.durable.below(a.at)
		if waits[ds[i].Topic] {
			errs[i] = away(context.Canceled)
		} else if errs[i] = g.arrive(ctx, ask, c, ds[i], &a); errs[i] != nil {
			if waits == nil {
				waits = map[string]bool{}
			}
			waits[ds[i].Topic] = true
		}
		out[i], errs[i] = a, a.paid.noted(errs[i])
		if errs[i] != nil || a.record.Topic == "" {
			g.received(ctx, c, &ds[i], &a, errs[i])
			continue
		}
		records, of = append(records, a.record), append(of, i)
	}
	if len(records) == 0 {
		return errs
	}
	began := g.enter.Now()
	for k, err := range g.durable.Bus.Publish(ctx, records) {
		a := &out[of[k]]
		if err != nil {
			g.counts.add("ringfence_bus_publish_failures_total", 1)
			errs[of[k]] = a.paid.noted(away(err))
		} else if a.record.Topic == g.durable.Topics.Later {
			g.putOff(a.event.Tenant, 1)
		}
		if a.sent.Kept {
			g.durable.Tracer.Tell(trace.Span{
				Name: "publish", Kind: trace.Producer, Place: a.sent, Parent: a.at, Began: began, Ended: g.enter.Now(), Tenant: a.event.Tenant, Event: a.event.ID, Topic: a.record.Topic, Failed: err != nil,
			})
		}
		g.received(ctx, c, &ds[of[k]], a, err)
	}
	return errs
}

// received tells what became of a message.
func (g *Ingest) received(ctx context.Context, c Connection, d *Brought, a *arrival, err error) {
	if err == nil {
		g.counts.add(series(c, a.result), 1)
	} else {
		a.result = "not_durable"
	}
	if a.at.Kept {
		g.durable.Tracer.Tell(trace.Span{
			Name: "receive", Kind: trace.Consumer, Place: a.at, Parent: d.Trace, Began: a.began, Ended: g.enter.Now(), Tenant: a.event.Tenant, Event: a.event.ID, Result: a.result, Failed: err != nil,
		})
	}
	if g.log.Enabled(ctx, slog.LevelDebug) {
		said := []slog.Attr{slog.String("connection", c.Name), slog.String("result", a.result), slog.String("trace_id", begins(a.at, a.event).ID())}
		if !a.event.ID.IsZero() {
			said = append(said, slog.String("event_id", a.event.ID.String()), slog.String("tenant_id", a.event.Tenant.String()))
		}
		g.log.LogAttrs(ctx, slog.LevelDebug, "message received", said...)
	}
}

// away is the only answer that makes a message come again.
func away(err error) error {
	if err == nil || fault.Is(err, fault.Unavailable) {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "not_durable", "The message could not be made durable.").WithRetry(time.Second)
}

func series(c Connection, result string) string {
	return `ringfence_mqtt_messages_total{connection="` + c.Name + `",result="` + result + `"}`
}

// arrive decides what becomes of one message. Who is not remembered is asked for while ask lasts.
func (g *Ingest) arrive(ctx, ask context.Context, c Connection, d Brought, a *arrival) error {
	var told uplink.Told
	var s ident.Source
	var src source.Source // once the gate knows it
	var granted tenant.Limits
	dead := func(of ident.Tenant, reason string) error {
		if a.result = "dead_dropped"; !g.kept(c, told.Application, of, src, granted, &d, &a.paid) {
			return nil
		}
		l := uplink.Letter{Reason: reason, Via: uplink.ViaConnection + c.Name, Origin: d.Topic, At: a.began, Format: string(c.Format), Owner: string(c.Owner), Size: d.Size, Hash: d.Hash}
		if d.Bad == "" { // else nothing is made of it again
			l.Tenant, l.Source, l.Told = of, s, told
		}
		a.result, a.record = "dead_letter", g.durable.letter(l, d.Payload, a.sent)
		return nil
	}
	goes := func(topic string, e uplink.Event, result string) error {
		r, err := g.durable.record(topic, e, a.sent)
		if err != nil { // a defect of ours: given again it would only fail again
			g.lost(ctx, e.Tenant, "a message could not be written for the bus", err)
			return dead(e.Tenant, fault.As(err).Code)
		}
		a.record, a.event, a.result = r, e, result
		return nil
	}
	ok := false
	for _, t := range c.Topics {
		if told, ok = t.Match(d.Topic); ok {
			break
		}
	}
	if !ok {
		told = uplink.Told{} // what part of it has the form tells nothing
		return dead(ident.Tenant{}, cmp.Or(d.Bad, "bad_topic"))
	}
	whose := ctx // has bounds of its own, within which all of a connection's can be read
	if ask.Err() != nil {
		whose = ask
	}
	t, door, err := g.owner(whose, c, told)
	s = door
	if fault.Is(err, fault.NotFound) {
		return dead(ident.Tenant{}, cmp.Or(d.Bad, "no_tenant"))
	}
	if err != nil {
		return away(err)
	}
	src, granted, err = g.enter.Through(ask, t, s)
	reason, refused := refusal(err)
	switch {
	case fault.Is(err, fault.NotFound):
		return dead(t, cmp.Or(d.Bad, "no_source"))
	case refused && reason == "": // its tenant was deleted: nobody would ever be shown it
		a.result = "refused_dropped"
		return nil
	case err != nil && !refused:
		return away(err)
	}
	via := uplink.ViaConnection + c.Name
	if c.Owner == ByApplication {
		via = uplink.ViaMapping + c.Name
	}
	var e uplink.Event
	if e, err = g.message(t, via, src, c.Format, told, d.Payload, a.began); d.Bad != "" { // cut perhaps: what can be read of it says nothing
		err = fault.New(fault.Invalid, d.Bad, "The message could not be brought as it is.")
	}
	if errors.Is(err, uplink.ErrIgnored) {
		a.result = "ignored"
		return nil
	}
	if refused { // off means off: what cannot be read, and what is above a rate of its own, goes nowhere
		if err != nil || !g.shown(t, src, granted, &a.paid) {
			a.result = "refused_dropped"
			return nil
		}
		e.Reason = cmp.Or(e.Reason, reason) // what is wrong with the message stays so when its source is on again
		return goes(g.durable.Topics.Uplinks, e, "refused")
	}
	if err != nil {
		return dead(t, fault.As(err).Code)
	}
	topic, err := g.door(ctx, c, t, src, granted, &a.paid)
	if err != nil {
		return err
	}
	switch topic {
	case "":
		a.result = "over_backlog"
		return nil
	case g.durable.Topics.Later:
		return goes(topic, e, "later")
	}
	return goes(topic, e, "accepted")
}

// refusal reports whether an answer of the gate's refuses a source, and as what the message goes to quarantine: "" if nowhere.
func refusal(err error) (uplink.Reason, bool) {
	if !fault.Is(err, fault.Denied) {
		return "", false
	}
	switch fault.As(err).Code {
	case "source_disabled":
		return uplink.SourceDisabled, true
	case "tenant_suspended":
		return uplink.TenantStopped, true
	}
	return "", true
}

// message is what a connection brought as an event of a source's.
func (g *Ingest) message(t ident.Tenant, via string, src source.Source, format source.Format, told uplink.Told, payload []byte, now time.Time) (uplink.Event, error) {
	m, err := uplink.Parse(string(format), payload, told.Event)
	if err != nil {
		return uplink.Event{}, err
	}
	if len(told.Application) > uplink.MaxText { // as in a message: it could not be read again
		return uplink.Event{}, fault.New(fault.Invalid, "bad_topic", "The topic names an application of more than %d bytes.", uplink.MaxText)
	}
	disagrees := told.Disagrees(m)
	if told.Application != "" { // what the payload says otherwise is a reason, and chooses nothing
		m.Application = told.Application
	}
	e := g.event(t, via, src, m, now)
	switch {
	case src.Format != format:
		e.Reason = uplink.WrongFormat
	case disagrees:
		e.Reason = uplink.TopicMismatch
	}
	return e, nil
}

// owner is whose a message is by its connection and topic; not found: nobody's.
func (g *Ingest) owner(ctx context.Context, c Connection, told uplink.Told) (ident.Tenant, ident.Source, error) {
	switch c.Owner {
	case Fixed:
		return c.Tenant, c.Source, nil
	case Checked:
		t, err := ident.ParseTenant(told.Tenant)
		if err != nil {
			return t, ident.Source{}, fault.Missing()
		}
		s, err := ident.ParseSource(told.Source)
		if err != nil {
			return t, s, fault.Missing()
		}
		return t, s, nil
	case ByApplication:
		return g.enter.Mapped(ctx, c.Name, told.Application)
	}
	return ident.Tenant{}, ident.Source{}, fault.Missing()
}

// door says where an event goes: on, or to be read later if its source or tenant is above its rate, or nowhere if too many
// of its tenant's wait already.
func (g *Ingest) door(ctx context.Context, c Connection, t ident.Tenant, src source.Source, granted tenant.Limits, p *paid) (string, error) {
	waiting, err := g.behind(ctx, t)
	if err != nil {
		return "", away(err)
	}
	if waiting >= pick(granted.Backlog, g.limits.Backlog) {
		if g.limiter.Take("over-backlog "+t.String(), 1, limit.Rate{Every: time.Minute, Burst: 1}).OK {
			g.log.WarnContext(ctx, "a tenant's messages are dropped: too many of its events wait", slog.String("tenant_id", t.String()), slog.String("connection", c.Name), slog.Int("waiting", waiting))
		}
		return "", nil
	}
	if p.above("mqtt", func() bool { return !g.within("mqtt", 1, 1, t, src, granted) }) {
		return g.durable.Topics.Later, nil
	}
	return g.durable.Topics.Uplinks, nil
}

// within reports whether n more of a kind are within a source's and its tenant's rates, of which so many may come at once at least.
func (g *Ingest) within(kind string, n, least int, t ident.Tenant, src source.Source, granted tenant.Limits) bool {
	return g.limiter.Take(kind+" source "+src.ID.String(), n, g.half(pick(granted.SourceRate, g.limits.SourceRate), least)).OK &&
		g.limiter.Take(kind+" tenant "+t.String(), n, g.half(pick(granted.IngestRate, g.limits.IngestRate), least)).OK
}

// half is a rate of which half a second's may come at once.
func (g *Ingest) half(n, least int) limit.Rate {
	n = g.share(n)
	return limit.PerSecond(n, max(least, n/2))
}

// shown reports whether a message that is refused goes to the quarantine of its tenant: as many as might come in, beside what does.
// They take nothing of its rates and its backlog: to turn a source off helps the others.
func (g *Ingest) shown(t ident.Tenant, src source.Source, granted tenant.Limits, p *paid) bool {
	return !p.above("refused", func() bool { return !g.within("refused", 1, 1, t, src, granted) })
}

// lettersAtOnce is how many KiB of dead letters may come at once: one of the largest, and others.
const lettersAtOnce = 2 * uplink.MaxBody / uplink.CutLetter

// applications is what part of a connection's letters one application that nobody is known for may have, and in how many groups they
// share it: so one of them keeps no other's from being kept, and a million of them have no more buckets.
const (
	applications      = 8
	applicationGroups = 256
)

// kept reports whether a message becomes a dead letter, and cuts it to its beginning if it takes too much. Letters have the rates of
// its source and tenant again, each KiB of them counting as one, and what is cut has them once more; where the gate knows no source it is
// the connection that has a tenant's, and its applications that have it once more. So who sends what nobody can read fills no bus.
func (g *Ingest) kept(c Connection, application string, t ident.Tenant, src source.Source, granted tenant.Limits, d *Brought, p *paid) bool {
	room := func(kind string, n, least int) bool {
		most := g.limits.IngestRate
		switch {
		case !src.ID.IsZero():
			return g.within(kind, n, least, t, src, granted)
		case c.Owner != ByApplication || application == "":
			return g.limiter.Take(kind+" connection "+c.Name, n, g.half(most, least)).OK
		}
		group := fnv.New32a()
		_, _ = group.Write([]byte(application)) // never fails
		return g.limiter.Take(kind+" applications "+c.Name+" "+strconv.Itoa(int(group.Sum32()%applicationGroups)), n, g.half(most/applications, least)).OK &&
			g.limiter.Take(kind+" applications "+c.Name, n, g.half(most, applications*least)).OK
	}
	again := p.rates == "letter"
	if !p.above("letter", func() bool {
		return max(d.Size, len(d.Payload)) > uplink.MaxLetter || !room("letter", 1+len(d.Payload)/uplink.CutLetter, lettersAtOnce)
	}) {
		return true
	}
	if d.Size == 0 {
		d.Size, d.Hash = len(d.Payload), sha256.Sum256(d.Payload)
	}
	d.Payload = d.Payload[:min(len(d.Payload), uplink.CutLetter)]
	return again || room("cut letter", 1, 1)
}

// FollowLater asks once a second what of the events that were put off has been read, until the context ends.
func (g *Ingest) FollowLater(ctx context.Context, group string) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		lags, err := g.durable.Bus.Lags(ctx, group, g.durable.Topics.Later)
		if err != nil {
			continue // what is known counts on
		}
		g.caughtUp(lags)
	}
}
