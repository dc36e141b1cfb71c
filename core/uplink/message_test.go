package uplink

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
)

var eui = device.Address{Kind: device.DevEUI, Value: "a84041ffff1e2d3c"}

// keyOf is Message.DedupeKey, or a planted one with bugs.
type keyOf func(Message, ident.Source) [32]byte

// wrongKeys says which messages a key takes for the same though they are not, or the other way about.
func wrongKeys(of keyOf) (wrong []string) {
	key := func(m Message) [32]byte { return of(m, ident.Source{1}) }
	frame := Message{Address: eui, Session: "01b4f7a2", FPort: 2, FCnt: 7, HasFCnt: true, Payload: []byte{1, 2}}
	again := frame
	again.Application, again.NetworkTime = "elsewhere", time.Unix(7, 0)
	if key(again) != key(frame) {
		wrong = append(wrong, "told twice")
	}
	seen := map[[32]byte]bool{key(frame): true}
	for _, c := range []struct {
		name   string
		change func(*Message)
	}{
		{"address", func(m *Message) { m.Address.Value = "a84041ffff1e2d3d" }},
		{"address kind", func(m *Message) { m.Address.Kind = device.Serial }},
		{"session", func(m *Message) { m.Session = "01b4f7a3" }},
		{"port", func(m *Message) { m.FPort = 3 }},
		{"counter", func(m *Message) { m.FCnt = 8 }},
		{"payload", func(m *Message) { m.Payload = []byte{1, 3} }},
		{"id", func(m *Message) { m.DedupeID = "x" }},
		{"shifted text", func(m *Message) { m.Address.Value, m.Session = "a84041ffff1e2d3c0", "1b4f7a2" }},
	} {
		m := frame
		c.change(&m)
		if seen[key(m)] {
			wrong = append(wrong, c.name)
		}
		seen[key(m)] = true
	}
	first := Message{DedupeID: "5c3e", Address: eui, FCnt: 7, HasFCnt: true, Payload: []byte{1}}
	forged := first
	forged.Payload, forged.FCnt = []byte{2}, 8
	if key(first) != key(forged) {
		wrong = append(wrong, "id decides")
	}
	for _, m := range []Message{first, frame} {
		if of(m, ident.Source{2}) == key(m) {
			wrong = append(wrong, "source")
		}
	}
	if key(Message{Address: eui, Payload: []byte{1}}) != [32]byte{} {
		wrong = append(wrong, "neither id nor counter")
	}
	return wrong
}

func TestTheSameEventHasOneKeyAndAnotherHasAnother(t *testing.T) {
	for _, name := range wrongKeys(Message.DedupeKey) {
		t.Error(name)
	}
}

func TestPlantedKeysAreCaught(t *testing.T) {
	without := func(drop func(*Message)) keyOf {
		return func(m Message, s ident.Source) [32]byte { drop(&m); return m.DedupeKey(s) }
	}
	for by, planted := range map[string]keyOf{
		"address": without(func(m *Message) { m.Address.Value = "" }), "address kind": without(func(m *Message) { m.Address.Kind = "" }),
		"session": without(func(m *Message) { m.Session = "" }), "port": without(func(m *Message) { m.FPort = 0 }), "counter": without(func(m *Message) { m.FCnt = 0 }),
		"payload": without(func(m *Message) { m.Payload = nil }), "id decides": without(func(m *Message) { m.DedupeID = "" }),
		"neither id nor counter": without(func(m *Message) { m.HasFCnt = true }),
		"told twice":             without(func(m *Message) { m.Session += m.Application }),
		"source":                 func(m Message, _ ident.Source) [32]byte { return m.DedupeKey(ident.Source{}) },
		"shifted text": func(m Message, _ ident.Source) [32]byte {
			return sha256.Sum256(fmt.Append(nil, m.Address.Kind, m.Address.Value, m.Session, m.FPort, m.FCnt, m.Payload))
		},
	} {
		if !slices.Contains(wrongKeys(planted), by) {
			t.Errorf("a key that is wrong in %q is not caught by it", by)
		}
	}
}

func TestAnotherPayloadOfOneIDCanBeTold(t *testing.T) {
	if (Message{DedupeID: "5c3e", Payload: []byte{1}}).PayloadHash() == (Message{DedupeID: "5c3e", Payload: []byte{2}}).PayloadHash() {
		t.Error("it cannot")
	}
}

// wrongTimes says for which times of a network server the wrong one of two is taken.
func wrongTimes(receivedAt func(Message, time.Time) time.Time) (wrong []string) {
	ours := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		said  time.Time
		taken bool
	}{
		{"not said", time.Time{}, false},
		{"a second ago", ours.Add(-time.Second), true},
		{"a day ago", ours.Add(-24 * time.Hour), true},
		{"more than a day ago", ours.Add(-24*time.Hour - time.Microsecond), false},
		{"five minutes ahead", ours.Add(5 * time.Minute), true},
		{"more than five minutes ahead", ours.Add(5*time.Minute + time.Microsecond), false},
		{"in another zone", ours.Add(-time.Minute).In(time.FixedZone("", 3600)), true},
	} {
		want := ours
		if c.taken {
			want = c.said
		}
		if got := receivedAt(Message{NetworkTime: c.said}, ours); !got.Equal(want) || got.Location() != time.UTC {
			wrong = append(wrong, c.name)
		}
	}
	return wrong
}

func TestReceiveTimeIsTheNetworksIfItCanBe(t *testing.T) {
	for _, name := range wrongTimes(Message.ReceivedAt) {
		t.Error(name)
	}
}

func TestPlantedReceiveTimesAreCaught(t *testing.T) {
	within := func(past, future time.Duration) func(Message, time.Time) time.Time {
		return func(m Message, ours time.Time) time.Time {
			if d := m.NetworkTime.Sub(ours); m.NetworkTime.IsZero() || d < -past || d > future {
				return ours
			}
			return m.NetworkTime.UTC()
		}
	}
	if wrong := wrongTimes(within(MaxPast, MaxFuture)); len(wrong) > 0 {
		t.Errorf("the right rule, written otherwise: %q", wrong)
	}
	for by, planted := range map[string]func(Message, time.Time) time.Time{
		"not said":                     func(m Message, _ time.Time) time.Time { return m.NetworkTime.UTC() },
		"a second ago":                 func(_ Message, ours time.Time) time.Time { return ours },
		"a day ago":                    within(MaxPast-time.Microsecond, MaxFuture),
		"more than a day ago":          within(MaxPast+time.Second, MaxFuture),
		"five minutes ahead":           within(MaxPast, MaxFuture-time.Microsecond),
		"more than five minutes ahead": within(MaxPast, MaxPast),
		"in another zone":              func(m Message, _ time.Time) time.Time { return m.NetworkTime },
	} {
		if !slices.Contains(wrongTimes(planted), by) {
			t.Errorf("not caught by %q", by)
		}
	}
}
