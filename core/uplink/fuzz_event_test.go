package uplink

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
)

// form is version 1 as encoding/json writes it.
type form struct {
	Version     int        `json:"version"`
	ID          string     `json:"event_id"`
	Tenant      string     `json:"tenant_id"`
	Source      string     `json:"source_id"`
	Via         string     `json:"via"`
	Reason      Reason     `json:"reason,omitempty"`
	AddressKind string     `json:"address_kind"`
	Address     string     `json:"device"`
	Application string     `json:"application,omitempty"`
	Session     string     `json:"session,omitempty"`
	DedupeID    string     `json:"id,omitempty"`
	FPort       int        `json:"f_port"`
	FCnt        *uint64    `json:"f_cnt,omitempty"`
	Payload     []byte     `json:"payload"`
	NetworkTime *time.Time `json:"time,omitempty"`
	ArrivedAt   time.Time  `json:"arrived_at"`
	ReceivedAt  time.Time  `json:"received_at"`
}

func (e Event) marshalByReflection() ([]byte, error) {
	m := e.Message
	f := form{
		Version: 1, ID: e.ID.String(), Tenant: e.Tenant.String(), Source: e.Source.String(), Via: e.Via, Reason: e.Reason,
		AddressKind: string(m.Address.Kind), Address: m.Address.Value, Application: m.Application, Session: m.Session, DedupeID: m.DedupeID,
		FPort: m.FPort, Payload: m.Payload, ArrivedAt: e.ArrivedAt.UTC(), ReceivedAt: e.ReceivedAt.UTC(),
	}
	if f.Payload == nil {
		f.Payload = []byte{}
	}
	if m.HasFCnt {
		f.FCnt = &m.FCnt
	}
	if !m.NetworkTime.IsZero() {
		at := m.NetworkTime.UTC()
		f.NetworkTime = &at
	}
	return json.Marshal(f)
}

// The writer by hand writes what encoding/json would, of whatever an event can hold.
func FuzzAnEventIsWrittenAsEncodingJSONWouldWriteIt(f *testing.F) {
	for _, text := range []string{"", "k3y", "a\"b\\c/d", "<", ">", "&", "\"", "\\", "\x00\x01\b\f\n\r\t\x1f\x7f", "é☃\u2028\u2029😀", "\xff\xc3", "\xed\xa0\x80"} {
		f.Add([]byte("0123456789abcdef"), text, text+"x", "x"+text, []byte(text), 2, uint64(7), true, int64(1795780800), int64(123456000))
	}
	f.Add([]byte{}, "", "", "", []byte(nil), -1, uint64(1<<64-1), false, int64(1)<<40, int64(0))
	f.Add([]byte{}, "", "", "", []byte(nil), -1, uint64(0), true, int64(-62135596800), int64(0))
	f.Add([]byte{}, "", "", "", []byte(nil), -1, uint64(0), true, int64(-62135596799), int64(0)) // without a network time
	f.Fuzz(func(t *testing.T, id []byte, one, two, three string, payload []byte, port int, count uint64, counted bool, seconds, nanos int64) {
		var e Event
		copy(e.ID[:], id)
		copy(e.Source[:], id)
		e.Tenant = ident.Platform
		at := time.Unix(seconds, nanos).In(time.FixedZone("", 3600))
		e.Via, e.Reason, e.ArrivedAt, e.ReceivedAt = one, Reason(two), at, at.Add(time.Nanosecond)
		e.Message = Message{DedupeID: two, Address: device.Address{Kind: device.AddressKind(three), Value: one}, Application: three, Session: one, FPort: port, FCnt: count, HasFCnt: counted, Payload: payload, NetworkTime: at.Add(-time.Second)}
		want, wrong := e.marshalByReflection()
		got, err := e.MarshalVersion(1)
		if (err != nil) != (wrong != nil) || !bytes.Equal(got, want) {
			t.Errorf("%+v\n is written as %s (%v)\nwant %s (%v)", e, got, err, want, wrong)
		}
	})
}
