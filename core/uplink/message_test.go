package uplink

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
)

var eui = device.Address{Kind: device.DevEUI, Value: "a84041ffff1e2d3c"}

func TestTheSameEventHasOneKeyAndAnotherHasAnother(t *testing.T) {
	frame := Message{Address: eui, Session: "01b4f7a2", FPort: 2, FCnt: 7, HasFCnt: true, Payload: []byte{1, 2}}
	told := frame
	told.DedupeID, told.Application, told.NetworkTime = "", "elsewhere", time.Unix(7, 0)
	if told.DedupeKey() != frame.DedupeKey() {
		t.Error("a frame told twice has two keys")
	}
	seen := map[[32]byte]string{frame.DedupeKey(): "the frame"}
	for name, change := range map[string]func(*Message){
		"address":      func(m *Message) { m.Address.Value = "a84041ffff1e2d3d" },
		"address kind": func(m *Message) { m.Address.Kind = device.Serial },
		"session":      func(m *Message) { m.Session = "01b4f7a3" },
		"port":         func(m *Message) { m.FPort = 3 },
		"counter":      func(m *Message) { m.FCnt = 8 },
		"payload":      func(m *Message) { m.Payload = []byte{1, 3} },
		"id":           func(m *Message) { m.DedupeID = "x" },
		"shifted text": func(m *Message) { m.Address.Value, m.Session = "a84041ffff1e2d3c0", "1b4f7a2" },
	} {
		m := frame
		change(&m)
		if other, ok := seen[m.DedupeKey()]; ok {
			t.Errorf("another %s has the key of %s", name, other)
		}
		seen[m.DedupeKey()] = name
	}
}

func TestTheNetworkServersIDDecides(t *testing.T) {
	first := Message{DedupeID: "5c3e", Address: eui, FCnt: 7, HasFCnt: true, Payload: []byte{1}}
	forged := first
	forged.Payload, forged.FCnt = []byte{2}, 8
	if first.DedupeKey() != forged.DedupeKey() {
		t.Error("one id has two keys")
	}
	if first.PayloadHash() == forged.PayloadHash() {
		t.Error("another payload of the same id cannot be told")
	}
}

func TestWithoutIDAndCounterNothingIsADuplicate(t *testing.T) {
	if (Message{Address: eui, Payload: []byte{1}}).DedupeKey() != [32]byte{} {
		t.Error("it has a key")
	}
}

func TestReceiveTimeIsTheNetworksIfItCanBe(t *testing.T) {
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
		got := Message{NetworkTime: c.said}.ReceivedAt(ours)
		if !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
