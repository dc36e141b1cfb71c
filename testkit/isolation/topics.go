package isolation

import (
	"fmt"
	"strings"
	"testing"
)

// Client is a connection to an MQTT broker that let it in. What the broker refuses is an error; whether it says so or ends the
// connection is its own business, so that each attempt is made by a client of its own.
type Client interface {
	Publish(topic string, retain bool) error // acknowledged, or refused
	Subscribe(filter string) error
	Heard() []string // topics of all messages that were delivered so far
	Close() error    // without a word, so that a will is said
}

// Login is what a client shows. A will is the topic of one, or empty.
type Login struct{ User, Key, Client, Will string }

// Topics sweeps a target's broker alone.
func Topics(t testing.TB, target Target) Result {
	t.Helper()
	s := &sweep{world: build(t, target)}
	s.topics(s.world.tenants[1])
	return s.result
}

// topics lets the source of one tenant try every topic and filter of the others' sources, as publisher, as listener, by its
// will, and by names and client ids that are not its own. The others listen meanwhile.
func (s *sweep) topics(attacker *tenant) {
	dial := s.world.target.Broker
	if dial == nil {
		return
	}
	key := attacker.key()
	own := Login{User: attacker.ids["source"], Key: key, Client: attacker.ids["source"] + "-sweep"}
	found := func(place, format string, args ...any) {
		s.find(Finding{"MQTT", ingestionKey, place, fmt.Sprintf(format, args...)})
	}
	try := func(l Login, place string, do func(Client) error) {
		s.result.Topics++
		c, err := dial(l)
		if err != nil {
			if place == atHome {
				found(place, "refused: %v", err)
			}
			return
		}
		defer func() { _ = c.Close() }()
		if do == nil {
			found(place, "%s is let in as %s with the will %q", l.User, l.Client, l.Will)
			return
		}
		switch err := do(c); {
		case err != nil && place == atHome:
			found(place, "refused: %v", err)
		case err == nil && place != atHome:
			found(place, "it was let through")
		}
	}
	topic := func(tenant, source, way string) string { return "rf/" + tenant + "/" + source + "/" + way }
	try(own, atHome, func(c Client) error { return c.Publish(topic(attacker.id, own.User, "up"), false) })
	try(own, atHome, func(c Client) error { return c.Subscribe(topic(attacker.id, own.User, "down/#")) })

	for _, victim := range s.world.tenants {
		if victim == attacker {
			continue
		}
		theirs := victim.ids["source"]
		listener, err := dial(Login{User: theirs, Key: victim.key(), Client: theirs + "-listener"})
		if err == nil {
			err = listener.Subscribe(topic(victim.id, theirs, "down/#"))
		}
		if err != nil {
			found(atHome, "%s cannot listen: %v", victim.name, err)
			continue
		}
		before := s.world.rows(victim.id)
		for name, l := range map[string]Login{
			"another's user name": {User: theirs, Key: key, Client: theirs}, "another's client id": {User: own.User, Key: key, Client: theirs + "-listener"},
			"another's tenant for a user name": {User: victim.id, Key: key, Client: victim.id}, "no client id": {User: own.User, Key: key},
		} {
			try(l, name, nil)
		}
		for _, base := range []string{
			topic(victim.id, theirs, "up"), topic(victim.id, theirs, "down"), topic(victim.id, victim.ids[twin("source")], "up"), topic(victim.id, own.User, "up"), topic(victim.id, own.User, "down"),
			topic(attacker.id, theirs, "up"), topic(attacker.id, theirs, "down"), topic(attacker.id, attacker.ids[twin("source")], "up"),
		} {
			for _, t := range spellings(base) {
				try(own, "publish to "+t, func(c Client) error { return c.Publish(t, false) })
				try(own, "retain at "+t, func(c Client) error { return c.Publish(t, true) })
				try(own, "subscribe to "+t, func(c Client) error { return c.Subscribe(t) })
				l := own
				l.Will = t
				try(l, "a will at "+t, nil)
			}
		}
		for _, f := range []string{"#", "+/#", "rf/#", "rf/+/+/up/#", "rf/+/" + theirs + "/#", "rf/" + victim.id + "/#", "rf/" + victim.id + "/+/down/#", "$SYS/#", "$share/g/#", "$share/g/rf/" + victim.id + "/#"} {
			try(own, "subscribe to "+f, func(c Client) error { return c.Subscribe(f) })
		}
		if heard := listener.Heard(); len(heard) > 0 {
			found("what another hears", "%v", heard)
		}
		if s.world.rows(victim.id) != before {
			found("the store", "rows of %s changed", victim.name)
		}
		_ = listener.Close()
	}
	try(own, atHome, func(c Client) error { return c.Publish(topic(attacker.id, own.User, "up"), false) }) // it was not shut out on the way
}

// spellings are a topic, what is below it and what some broker might take for it.
func spellings(base string) []string {
	out := []string{base, base + "/a/event/up", base + "/#", base + "/+", "$share/g/" + base, "$share/g/" + base + "/#", "$SYS/" + base, "/" + base, base + "/", strings.ReplaceAll(base, "/", "."), strings.Replace(base, "/", "//", 1), strings.ToUpper(base)}
	levels := strings.Split(base, "/")
	for i := range levels {
		with := append([]string{}, levels...)
		with[i] = "+"
		out = append(out, strings.Join(with, "/"), strings.Join(append(with[:i:i], "#"), "/"))
	}
	return out
}

// key is an ingestion key of the tenant's.
func (t *tenant) key() string {
	for _, a := range t.actors {
		if a.name == ingestionKey {
			return a.token
		}
	}
	return ""
}
