package mqttlink

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/core/fault"
)

// Presence is what a member of a group says of itself, or its will does.
type Presence string

// The presences.
const (
	Present Presence = "present"
	Absent  Presence = "absent"  // its connection was lost and it did not come back
	Stopped Presence = "stopped" // it said so; the broker still keeps messages for it
)

// Member is one of a group, as this one was told.
type Member struct {
	ClientID string
	Presence Presence
	Since    time.Time // when we learnt it, by our clock: of what was before we came, when we came
}

const (
	membersTopic = "rf/members/"
	maxMembers   = 1_000
	maxClientID  = 2*maxName + 10 // Options.clientID
	willDelay    = 10             // seconds: a connection that is back by then was never absent
)

// roster is who is there, by messages that the broker retains: each member publishes that it is present, and leaves a will that
// says it is not. It works on any broker of MQTT 5, and asks for no more than leave to publish and subscribe there.
type roster struct {
	l     *line
	on    bool // it speaks
	hears bool
	self  string // of this process's life, among others of the same client id

	saying chan struct{} // who has it speaks: the last word is what stays
	left   bool          // the last one was said

	mu      sync.Mutex
	seen    map[string]Member
	alarmed map[string]bool
	echoed  bool // the broker has told us what we said
}

func newRoster(l *line) *roster {
	return &roster{l: l, on: l.c.Presence && !l.role.adopts, hears: l.c.Presence || l.role.adopts, self: rand.Text(), saying: make(chan struct{}, 1), seen: map[string]Member{}, alarmed: map[string]bool{}}
}

func (r *roster) prefix() string { return membersTopic + r.l.c.Group + "/" }

// will is left with the broker.
func (r *roster) will(p *paho.Connect) {
	if !r.on {
		return
	}
	delay := r.l.o.tuning.willDelay
	p.WillMessage = &paho.WillMessage{Retain: true, QoS: 1, Topic: r.prefix() + r.l.id, Payload: []byte(Absent)}
	p.WillProperties = &paho.WillProperties{WillDelayInterval: &delay}
}

// announce says that we are there and asks who else is, until the broker has taken both or the connection ends.
func (r *roster) announce(ctx context.Context, w *wire) {
	if !r.on {
		return
	}
	for attempt := 1; ; attempt++ {
		ack, err := r.l.cm.Load().Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: r.prefix() + "+", QoS: 1}}})
		if ack != nil && len(ack.Reasons) > 0 && ack.Reasons[0] >= 0x80 {
			err = refusal{"subscribe", ack.Reasons[0]}
		}
		if err == nil {
			err = r.say(ctx, Present)
		}
		if err == nil {
			return
		}
		r.l.counts.presenceFailures.Add(1)
		r.l.o.Log.WarnContext(ctx, "MQTT presence failed: this worker cannot be told from an absent one", slog.String("connection", r.l.c.Name), slog.String("cause", fault.Cause(err)))
		if !r.l.pause(time.Second+r.l.backoff(attempt), w) {
			return
		}
	}
}

// say publishes a word of ours, and none behind that we stop.
func (r *roster) say(ctx context.Context, p Presence) error {
	select {
	case r.saying <- struct{}{}:
		defer func() { <-r.saying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.left {
		return nil
	}
	r.left = p == Stopped
	ack, err := r.l.cm.Load().Publish(ctx, &paho.Publish{QoS: 1, Retain: true, Topic: r.prefix() + r.l.id, Payload: []byte(string(p) + " " + r.self)})
	if ack != nil && ack.ReasonCode >= 0x80 {
		return refusal{"publish", ack.ReasonCode}
	}
	return err
}

// leave says that we stop.
func (r *roster) leave(ctx context.Context) {
	r.l.mu.Lock()
	up := r.l.up
	r.l.mu.Unlock()
	if !r.on || !up {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	if err := r.say(ctx, Stopped); err != nil { // then it is told by its will
		r.l.o.Log.InfoContext(ctx, "MQTT presence failed", slog.String("connection", r.l.c.Name), slog.String("cause", fault.Cause(err)))
	}
}

// heard reports whether a message is a member's word, and notes it.
func (r *roster) heard(it item) bool {
	if !r.hears {
		return false
	}
	id, ok := strings.CutPrefix(it.pub.Topic, r.prefix())
	if !ok {
		return false
	}
	p, self := told(it.pub.Payload)
	if !isClientID(id) || p != Present && p != Absent && p != Stopped && p != "" {
		return true // nobody of ours says that
	}
	if r.on && id == r.l.id {
		r.own(p, self, it.wire)
	}
	r.note(id, p)
	return true
}

// told reads a member's word.
func told(payload []byte) (p Presence, self string) {
	word, self, _ := strings.Cut(string(payload[:min(len(payload), maxText)]), " ")
	return Presence(word), self
}

// own is told what was said by this client id. Not every broker says so when another client takes a session over (Mosquitto 2.0
// closes the connection without a word), but whoever did so has said that it is there.
func (r *roster) own(p Presence, self string, w *wire) {
	r.mu.Lock()
	rival := p == Present && self != r.self && r.echoed
	r.echoed = r.echoed || self == r.self
	r.mu.Unlock()
	switch {
	case rival:
		r.l.rivalled()
	case p != Present:
		r.mistaken(w)
	}
}

// mistaken says again that we are there, after a will of an earlier connection said otherwise.
func (r *roster) mistaken(w *wire) {
	select {
	case <-r.l.stopping:
		return
	default:
	}
	r.l.tasks.Go(func() {
		ctx, cancel := r.l.during(w)
		defer cancel()
		if err := r.say(ctx, Present); err != nil {
			r.l.counts.presenceFailures.Add(1)
		}
	})
}

func (r *roster) note(id string, p Presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, known := r.seen[id]
	switch {
	case p == "":
		delete(r.seen, id)
	case known && was.Presence == p, !known && len(r.seen) >= maxMembers:
	default:
		r.seen[id] = Member{id, p, r.l.o.Now()}
	}
}

func isClientID(s string) bool {
	return s != "" && len(s) <= maxClientID && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (r *roster) list() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Member, 0, len(r.seen))
	for _, m := range r.seen {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return out
}

// missing are the others that have been away for too long.
func (r *roster) missing(now time.Time) (ids []string) {
	for _, m := range r.list() {
		if m.Presence != Present && m.ClientID != r.l.id && now.Sub(m.Since) >= r.l.o.AbsentAlarm {
			ids = append(ids, m.ClientID)
		}
	}
	return ids
}

// alarms logs who is missing, once, and who is no longer.
func (r *roster) alarms(ctx context.Context, now time.Time) {
	missing := r.missing(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range missing {
		if !r.alarmed[id] {
			r.alarmed[id] = true
			r.l.o.Log.ErrorContext(ctx, "MQTT member is absent, and the broker keeps messages for it: start it again, or adopt its session before it expires",
				slog.String("connection", r.l.c.Name), slog.String("client_id", id))
		}
	}
	for id := range r.alarmed {
		if !slices.Contains(missing, id) {
			delete(r.alarmed, id)
			r.l.o.Log.InfoContext(ctx, "MQTT member is no longer absent", slog.String("connection", r.l.c.Name), slog.String("client_id", id))
		}
	}
}

// Members are those of a connection's group that said they are there, this one included, and those that no longer are.
func (ls *Links) Members(connection string) []Member {
	for _, l := range ls.lines {
		if l.c.Name == connection {
			return l.members.list()
		}
	}
	return nil
}
