package uplink

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/device"
)

// Template is the form of the MQTT topics that a connection brings: levels, of which {application}, {device}, {event}, {tenant}
// and {source} are told by the topic, + is any one level, and # at the end any number of them.
type Template struct{ levels []string }

// MaxTopic bounds a topic, in bytes.
const MaxTopic = 1 << 10

// Templates that network servers publish by: ChirpStack v4's, The Things Stack v3's.
const (
	ChirpStackTopic = "application/{application}/device/{device}/event/{event}"
	TTSTopic        = "v3/{application}@+/devices/+/up"
	CheckedTopic    = "rf/{tenant}/{source}/up/#" // of our own direct publishers
)

// ParseTemplate reads a template.
func ParseTemplate(s string) (Template, error) {
	if s == "" || len(s) > MaxTopic || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return Template{}, errors.New("want a topic such as " + ChirpStackTopic)
	}
	t := Template{strings.Split(s, "/")}
	seen := map[string]bool{}
	for i, l := range t.levels {
		name, _, _ := strings.Cut(l, "@")
		switch {
		case l == "+", l == "#" && i == len(t.levels)-1, name == "{application}", l == "{device}", l == "{event}", l == "{tenant}", l == "{source}":
			if l != "+" && seen[name] {
				return Template{}, errors.New("the topic names " + name + " twice")
			}
			seen[name] = true
			if rest := strings.TrimPrefix(l, name); rest != "" && rest != "@+" {
				return Template{}, errors.New("behind {application} a level may have @+, and nothing else")
			}
		case l == "" || strings.ContainsAny(l, "+#{}"):
			return Template{}, errors.New("a level of the topic is empty, or holds one of + # { } beside other text")
		}
	}
	return t, nil
}

// Filter is the MQTT topic filter that matches what the template does, and nothing that it could not tell apart.
func (t Template) Filter() string {
	out := make([]string, len(t.levels))
	for i, l := range t.levels {
		if strings.HasPrefix(l, "{") {
			l = "+"
		}
		out[i] = l
	}
	return strings.Join(out, "/")
}

// Names reports whether topics of the template tell something: "application", "tenant", …
func (t Template) Names(what string) bool {
	for _, l := range t.levels {
		if strings.HasPrefix(l, "{"+what+"}") {
			return true
		}
	}
	return false
}

// Told is what a topic says of its message. What it does not say is empty.
type Told struct{ Application, Device, Event, Tenant, Source string }

// Match reads a topic; false if it has another form.
func (t Template) Match(topic string) (Told, bool) {
	var told Told
	if len(topic) > MaxTopic || !utf8.ValidString(topic) || strings.ContainsAny(topic, "\x00+#") {
		return told, false
	}
	levels := strings.Split(topic, "/")
	for i, l := range t.levels {
		if l == "#" {
			return told, true
		}
		if i >= len(levels) || levels[i] == "" {
			return told, false
		}
		at := levels[i]
		switch {
		case l == "+":
		case l == "{application}":
			told.Application = at
		case l == "{application}@+":
			told.Application, _, _ = strings.Cut(at, "@")
			if told.Application == "" {
				return told, false
			}
		case l == "{device}":
			told.Device = at
		case l == "{event}":
			told.Event = at
		case l == "{tenant}":
			told.Tenant = at
		case l == "{source}":
			told.Source = at
		case l != at:
			return told, false
		}
	}
	return told, len(levels) == len(t.levels)
}

// Disagrees reports whether a message says otherwise than the topic that it came by. A message without an application is of
// the topic's.
func (t Told) Disagrees(m Message) bool {
	if t.Application != "" && m.Application != "" && t.Application != m.Application {
		return true
	}
	if t.Device == "" {
		return false
	}
	a, err := device.ParseAddress(m.Address.Kind, t.Device)
	return err != nil || a != m.Address
}
