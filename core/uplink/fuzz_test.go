package uplink

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
)

// object is one JSON object by encoding/json, with keys as they are written.
type object map[string]json.RawMessage

// under is the object in a field; a field that is not there is an empty one.
func (o object) under(key string) (inner object, err error) {
	if raw, ok := o[key]; ok {
		err = json.Unmarshal(raw, &inner)
	}
	return inner, err
}

// reference reads a message by encoding/json, slowly and simply. It takes more than Parse does; what both take must agree.
type reference struct{ err error }

func (r *reference) take(o object, key string, into any) {
	if raw, ok := o[key]; ok {
		r.err = errors.Join(r.err, json.Unmarshal(raw, into))
	}
}

func (r *reference) text(o object, key string) (s string) {
	r.take(o, key, &s)
	return s
}

func (r *reference) time(o object, key string) (t time.Time) {
	s := r.text(o, key)
	if s == "" {
		return t
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	r.err = errors.Join(r.err, err)
	return t
}

func (r *reference) base64(o object, key string) []byte {
	b, err := base64.StdEncoding.DecodeString(r.text(o, key))
	r.err = errors.Join(r.err, err)
	return b
}

func (r *reference) inner(o object, key string) object {
	inner, err := o.under(key)
	r.err = errors.Join(r.err, err)
	return inner
}

func (r *reference) address(kind device.AddressKind, value string) device.Address {
	a, err := device.ParseAddress(kind, value)
	r.err = errors.Join(r.err, err)
	return a
}

func (r *reference) message(format string, body []byte) (m Message, err error) {
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return m, err
	}
	switch format {
	case "chirpstack":
		info := r.inner(o, "deviceInfo")
		m = Message{DedupeID: r.text(o, "deduplicationId"), NetworkTime: r.time(o, "time"), Application: r.text(info, "applicationId"),
			Session: r.text(o, "devAddr"), Payload: r.base64(o, "data"), HasFCnt: true}
		m.Address = r.address(device.DevEUI, r.text(info, "devEui"))
		r.take(o, "fPort", &m.FPort)
		r.take(o, "fCnt", &m.FCnt)
	case "tts":
		ids, frame := r.inner(o, "end_device_ids"), r.inner(o, "uplink_message")
		m = Message{Application: r.text(r.inner(ids, "application_ids"), "application_id"), Session: r.text(frame, "session_key_id"),
			Payload: r.base64(frame, "frm_payload"), NetworkTime: r.time(frame, "received_at"), HasFCnt: true}
		if m.Session == "" {
			m.Session = r.text(ids, "dev_addr")
		}
		if m.NetworkTime.IsZero() {
			m.NetworkTime = r.time(o, "received_at")
		}
		if v := r.text(ids, "dev_eui"); v != "" {
			m.Address = r.address(device.DevEUI, v)
		} else {
			m.Address = r.address(device.Serial, r.text(ids, "device_id"))
		}
		r.take(frame, "f_port", &m.FPort)
		r.take(frame, "f_cnt", &m.FCnt)
	case "plain":
		kind := string(device.DevEUI)
		r.take(o, "address_kind", &kind)
		m = Message{DedupeID: r.text(o, "id"), Application: r.text(o, "application"), NetworkTime: r.time(o, "time"), Payload: r.base64(o, "payload")}
		m.Address = r.address(device.AddressKind(kind), r.text(o, "device"))
		if digits := r.text(o, "payload_hex"); digits != "" {
			b, err := hex.DecodeString(digits)
			m.Payload, r.err = b, errors.Join(r.err, err)
		}
		r.take(o, "f_port", &m.FPort)
	default:
		return m, errors.New("no format")
	}
	return m, r.err
}

// disagreement says where a parser and the reference are at odds, or nothing.
func disagreement(parse parser, format string, body []byte, event string) string {
	m, err := parse(format, body, event)
	if err != nil && !errors.Is(err, ErrIgnored) {
		return ""
	}
	if !json.Valid(body) {
		return "what is no JSON was accepted"
	}
	if err != nil {
		return ""
	}
	if len(m.Payload) > MaxPayload || m.FPort < 0 || m.FPort > 255 || m.FCnt > 1<<32-1 || max(len(m.DedupeID), len(m.Application), len(m.Session)) > MaxText || m.Address.Value == "" {
		return fmt.Sprintf("beyond its bounds: %+v", m)
	}
	if want, err := new(reference).message(format, body); err == nil && !same(m, want) {
		return fmt.Sprintf("%+v, and by encoding/json %+v", m, want)
	}
	return ""
}

func FuzzParse(f *testing.F) {
	for _, s := range []struct{ format, file string }{{"chirpstack", "chirpstack-up.json"}, {"tts", "tts-uplink.json"}, {"plain", "plain.json"}} {
		f.Add(s.format, fixture(f, s.file), "")
	}
	for _, r := range rules {
		if len(r.body) < 4096 {
			f.Add(r.format, []byte(r.body), r.event)
		}
	}
	f.Fuzz(func(t *testing.T, format string, body []byte, event string) {
		if wrong := disagreement(Parse, format, body, event); wrong != "" {
			t.Fatal(wrong)
		}
		if m, err := Parse(format, body, event); err == nil {
			travels(t, m)
		}
	})
}

// travels looks that a message that was read can be written for the bus as an event, and read there as the same.
func travels(t *testing.T, m Message) {
	t.Helper()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	e := Event{ID: ident.Uplink{1, 6: 0x70, 8: 0x80}, Tenant: ident.Tenant{2, 6: 0x70, 8: 0x80}, Source: ident.Source{3, 6: 0x70, 8: 0x80}, Via: "key", Message: m, ArrivedAt: now, ReceivedAt: m.ReceivedAt(now)}
	if e.Message.Payload == nil {
		e.Message.Payload = []byte{}
	}
	b, err := e.MarshalVersion(Version)
	if err != nil {
		t.Fatalf("%+v was read and cannot be written: %v", m, err)
	}
	if back, err := ParseEvent(b); err != nil || !reflect.DeepEqual(back, e) {
		t.Fatalf("%+v is written as %s and read as %+v: %v", e, b, back, err)
	}
}

func TestTheReferenceCatchesAParserThatReadsWrong(t *testing.T) {
	for name, bug := range map[string]func(*Message){
		"payload": func(m *Message) { m.Payload = append(m.Payload, 0) }, "port": func(m *Message) { m.FPort++ }, "counter": func(m *Message) { m.FCnt++ },
		"id": func(m *Message) { m.DedupeID += "x" }, "session": func(m *Message) { m.Session = m.Application }, "time": func(m *Message) { m.NetworkTime = m.NetworkTime.Add(time.Hour) },
		"address": func(m *Message) { m.Address.Kind = device.Serial },
	} {
		planted := func(format string, body []byte, event string) (Message, error) {
			m, err := Parse(format, body, event)
			bug(&m)
			return m, err
		}
		if disagreement(planted, "chirpstack", fixture(t, "chirpstack-up.json"), "up") == "" {
			t.Errorf("another %s is not caught", name)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	body := fixture(b, "chirpstack-up.json")
	b.Run("scanner", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if _, err := Parse("chirpstack", body, "up"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			var v struct {
				DeduplicationID string    `json:"deduplicationId"`
				Time            time.Time `json:"time"`
				DeviceInfo      struct {
					ApplicationID string `json:"applicationId"`
					DevEUI        string `json:"devEui"`
				} `json:"deviceInfo"`
				DevAddr string `json:"devAddr"`
				FCnt    uint32 `json:"fCnt"`
				FPort   uint8  `json:"fPort"`
				Data    []byte `json:"data"`
			}
			if err := json.Unmarshal(body, &v); err != nil {
				b.Fatal(err)
			}
			if _, err := device.ParseAddress(device.DevEUI, v.DeviceInfo.DevEUI); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	for _, file := range []string{"testdata/event-v1-full.json", "testdata/event-v1-least.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, at := range []string{"0000-01-01T00:59:59+01:00", "9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00Z"} {
		f.Add(fmt.Appendf(nil, `{"version":1,"event_id":"%s","tenant_id":"%s","source_id":"%s","via":"k","address_kind":"dev_eui","device":"0011223344556677","f_port":1,"payload":"","time":"%s","arrived_at":"%[4]s","received_at":"%[4]s"}`,
			ident.Uplink{1, 6: 0x70, 8: 0x80}, ident.Tenant{2, 6: 0x70, 8: 0x80}, ident.Source{3, 6: 0x70, 8: 0x80}, at))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err != nil {
			return
		}
		again, err := e.MarshalVersion(Version)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseEvent(again); err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("%s is written as %s and read as %+v: %v", b, again, back, err)
		}
	})
}
