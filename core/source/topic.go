package source

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// Topics is what one source may say and hear at an MQTT broker. It publishes to rf/{tenant}/{source}/up and below, hears
// rf/{tenant}/{source}/down and below, and nothing else: whoever is asked, a broker of ours or one that asks us, decides by
// these methods alone. A will is a publish.
type Topics struct {
	Tenant ident.Tenant
	Source ident.Source
}

// Bounds of what brokers carry. A topic has at most as many bytes as the routing key that RabbitMQ makes of it.
const (
	MaxTopic    = 255
	MaxClientID = 128
)

// The first level of every topic of ours, and the two ways.
const (
	prefix = "rf"
	up     = "up"
	down   = "down"
)

// The refusals. They tell the rule and not what broke it.
var (
	errTopic   = fault.New(fault.Invalid, "bad_topic", "The topic is no text of levels, has an empty level, a dot or a wildcard where none may stand, or is longer than %d bytes.", MaxTopic)
	errForeign = fault.New(fault.Denied, "foreign_topic", "A source publishes to rf/{tenant}/{source}/up and below, and subscribes to rf/{tenant}/{source}/down/# and below.")
	errRetain  = fault.New(fault.Denied, "retain_refused", "Messages of devices are not retained. Publish without the retain flag.")
	errClient  = fault.New(fault.Denied, "bad_client_id", "The client id is the source's id, or begins with it and a hyphen, and has at most %d letters, digits and marks.", MaxClientID)
)

// Up is the topic that the source's messages begin at.
func (t Topics) Up() string { return t.way(up) }

// Down is the topic that what is for the source begins at.
func (t Topics) Down() string { return t.way(down) }

func (t Topics) way(last string) string {
	return prefix + "/" + t.Tenant.String() + "/" + t.Source.String() + "/" + last
}

// MayPublish refuses every topic but the source's own up and what is below it, and the retain flag: a retained message would
// be told to whoever comes later.
func (t Topics) MayPublish(topic string, retain bool) error {
	if err := wellFormed(topic, false); err != nil {
		return err
	}
	if !t.at(topic, up) {
		return errForeign
	}
	if retain {
		return errRetain
	}
	return nil
}

// MaySubscribe refuses every filter that matches anything but the source's own down and what is below it. Wildcards stand below
// down alone. Shared subscriptions ($share) and what brokers tell of themselves ($SYS) are refused, since they begin otherwise.
func (t Topics) MaySubscribe(filter string) error {
	if err := wellFormed(filter, true); err != nil {
		return err
	}
	if !t.at(filter, down) {
		return errForeign
	}
	return nil
}

// MayBe refuses a client id that another source could have, since a broker ends the session of whoever had it before.
func (t Topics) MayBe(client string) error {
	rest, ok := strings.CutPrefix(client, t.Source.String())
	if !ok || len(client) > MaxClientID || (rest != "" && rest[0] != '-') || strings.ContainsFunc(rest, unfit) {
		return errClient
	}
	return nil
}

// unfit are characters that mean something in some broker's names, or nothing to a reader.
func unfit(c rune) bool {
	return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_:=@~", c)
}

// at reports whether a well-formed topic or filter is at one of the source's two ways or below it. The levels are compared as
// they are: an id has one spelling, and a level that merely begins like it is another's.
func (t Topics) at(topic, way string) bool {
	rest, ok := strings.CutPrefix(topic, t.way(way))
	return ok && (rest == "" || rest[0] == '/')
}

// ParseUp reads whose messages a topic carries, for those who trust a broker to have asked MayPublish. What is in such a
// topic is still to be held against the directory.
func ParseUp(topic string) (Topics, error) {
	if err := wellFormed(topic, false); err != nil {
		return Topics{}, err
	}
	levels := strings.SplitN(topic, "/", 5)
	if len(levels) < 4 || levels[0] != prefix || levels[3] != up {
		return Topics{}, errForeign
	}
	var t Topics
	if t.Tenant.UnmarshalText([]byte(levels[1])) != nil || t.Source.UnmarshalText([]byte(levels[2])) != nil {
		return Topics{}, errForeign
	}
	return t, nil
}

// Event is the kind of event that a topic of ChirpStack's own form ends in, …/event/{kind}, as its HTTP integration says it in
// the query; empty if the topic says none.
func Event(topic string) string {
	rest, kind, ok := lastLevel(topic)
	if _, before, ok2 := lastLevel(rest); !ok || !ok2 || before != "event" {
		return ""
	}
	return kind
}

func lastLevel(topic string) (before, last string, ok bool) {
	i := strings.LastIndexByte(topic, '/')
	if i < 0 {
		return "", topic, false
	}
	return topic[:i], topic[i+1:], true
}

// wellFormed judges a topic, or a filter, as text. A dot is refused since RabbitMQ writes it like the sign between two levels,
// and its asterisk like a wildcard: two topics of ours would be one there.
func wellFormed(topic string, filter bool) error {
	if topic == "" || len(topic) > MaxTopic || !utf8.ValidString(topic) {
		return errTopic
	}
	for rest, more := topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		wild := filter && (level == "+" || level == "#" && !more)
		if level == "" || !wild && strings.ContainsFunc(level, foul) {
			return errTopic
		}
	}
	return nil
}

func foul(c rune) bool {
	return unicode.IsControl(c) || strings.ContainsRune(".*+#", c) || c == utf8.RuneError
}
