package mqttlink

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/ringfence/ringfence/core/fault"
)

// Adoption is how a session is adopted. Take and Log are needed, the rest has defaults.
type Adoption struct {
	Take  Take
	Log   *slog.Logger
	Force bool             // also one whose member is there, or of whom nothing is known: it loses its session to us
	End   bool             // ends the session after it is empty, for a member that does not come back
	Idle  time.Duration    // it is empty when nothing has come for so long; 3 s
	Reach time.Duration    // how long the broker may be out of reach; 15 s
	Now   func() time.Time // our clock; time.Now

	tuning tuning
}

// Adopt takes what a broker keeps for a member that is away, acknowledges what is durable, and answers how many messages that
// were. The session stays for the member to come back to, and gets its share of what is published; with End it is unsubscribed
// first, emptied and ended. What it had not taken when it answers an error is kept by the broker.
func Adopt(ctx context.Context, c Connection, clientID string, a Adoption) (int, error) {
	c = c.defaults()
	o := Options{Take: a.Take, Log: a.Log, Now: a.Now, tuning: a.tuning}.defaults()
	if !isClientID(clientID) {
		return 0, fault.New(fault.Invalid, "bad_client_id", "That is no client id of a member. It is {name}-{connection}-{ordinal}.")
	}
	wrong := c.Check()
	if err := c.files(); err != nil {
		wrong = append(wrong, err)
	}
	if err := invalid(wrong); err != nil {
		return 0, err
	}
	if a.Idle <= 0 {
		a.Idle = 3 * time.Second
	}
	if a.Reach <= 0 {
		a.Reach = 15 * time.Second
	}
	if !a.Force {
		if err := dead(ctx, c, o, clientID, a.Reach); err != nil {
			return 0, err
		}
	}
	l := newLine(c, o, clientID, true)
	l.role.idle, l.role.on, l.role.begun = a.Idle, make(chan bool, 1), make(chan struct{})
	l.o.tuning.anew += a.Idle // or asking for what is held would put the end off
	if err := l.open(ctx); err != nil {
		return 0, fault.Wrap(err, fault.Internal, "mqtt_adopt", "The connection could not be made.")
	}
	err := l.drain(ctx, a)
	if closed := l.close(context.WithoutCancel(ctx)); err == nil {
		err = closed
	}
	return int(l.counts.taken.Load()), err
}

// drain waits until a session is empty.
func (l *line) drain(ctx context.Context, a Adoption) error {
	session, err := l.reached(ctx, a.Reach)
	if err != nil {
		return err
	}
	w := l.wire.Load()
	if !session {
		l.role.ends.Store(true) // the one that this connection has begun
		return fault.New(fault.NotFound, "no_session", "The broker keeps nothing for that client id. Look at its spelling; the session may have expired.")
	}
	during, cancel := l.during(w)
	defer cancel()
	if a.End {
		topics := l.c.filters()
		if l.c.Group != "" {
			topics = append(topics, l.members.prefix()+"+")
		}
		if _, err := l.cm.Load().Unsubscribe(during, &paho.Unsubscribe{Topics: topics}); err != nil {
			return fault.Wrap(err, fault.Unavailable, "mqtt_adopt", "The broker did not let the session be unsubscribed. Try again.")
		}
	}
	close(l.role.begun)
	select {
	case <-l.working:
	case <-w.gone:
		if w.code.Load() == packets.DisconnectSessionTakenOver {
			return fault.New(fault.Conflict, "member_back", "The member came back and has its session again. Leave it to it.")
		}
		return fault.New(fault.Unavailable, "mqtt_lost", "The connection was lost before the session was empty. Try again.")
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "mqtt_adopt", "The session was not empty in time. Try again.")
	}
	if n := l.held.Load(); n > 0 { // ended, it would be gone with the session
		return fault.New(fault.Internal, "mqtt_adopt", "A defect of ours keeps %d messages from being taken; the broker has them still, and the session was not ended. Look at the log, and adopt it again by a program that takes them.", n)
	}
	if n, _ := l.budget.now(); n > 0 {
		return fault.New(fault.Unavailable, "mqtt_adopt", "The broker still had messages for the session. Try again.")
	}
	if !a.End {
		return nil
	}
	if l.c.Group != "" { // it is no member any more; where nobody may say so, none was told of it either
		_, _ = l.cm.Load().Publish(during, &paho.Publish{QoS: 1, Retain: true, Topic: l.members.prefix() + l.id})
	}
	l.role.ends.Store(true)
	return nil
}

// reached waits for the broker, and answers whether it has a session of ours.
func (l *line) reached(ctx context.Context, within time.Duration) (bool, error) {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case session := <-l.role.on:
		return session, nil
	case <-t.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return false, fault.New(fault.Unavailable, "mqtt_down", "%s", l.reason)
}

// dead refuses to adopt who is alive.
func dead(ctx context.Context, c Connection, o Options, clientID string, within time.Duration) error {
	unknown := fault.New(fault.Conflict, "member_unknown", "Nobody said whether that member is there. Make sure that it is not, then force it.")
	if !c.Presence {
		return unknown
	}
	var mu sync.Mutex
	said := map[string]Presence{}
	prefix := membersTopic + c.Group + "/"
	o.Take = func(_ context.Context, ms []Message) []error {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range ms {
			said[strings.TrimPrefix(m.Topic, prefix)], _ = told(m.Payload)
		}
		return make([]error, len(ms))
	}
	c.Filters, c.Group, c.Presence, c.SessionExpiry = []string{prefix + "+"}, "", false, time.Second
	l := newLine(c, o, "look-"+strings.ToLower(rand.Text()), false)
	l.role.ends.Store(true)
	if err := l.open(ctx); err != nil {
		return fault.Wrap(err, fault.Internal, "mqtt_adopt", "The connection could not be made.")
	}
	err := l.settled(ctx, within)
	if closed := l.close(context.WithoutCancel(ctx)); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	switch said[clientID] {
	case Present:
		return fault.New(fault.Conflict, "member_present", "That member is there, and has its session. Stop it first.")
	case Absent, Stopped:
		return nil
	}
	return unknown
}

// settled waits until the broker has sent what it retains.
func (l *line) settled(ctx context.Context, within time.Duration) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for quiet, waited := 0, time.Duration(0); quiet < 10; waited += 50 * time.Millisecond {
		select {
		case <-tick.C:
		case <-ctx.Done():
			waited = within
		}
		l.mu.Lock()
		subscribed, why := l.subscribed, l.reason
		l.mu.Unlock()
		if subscribed {
			quiet++
		} else if waited >= within {
			return fault.New(fault.Unavailable, "mqtt_down", "%s", why)
		}
	}
	return nil
}
