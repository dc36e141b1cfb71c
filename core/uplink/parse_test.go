package uplink

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMessagesOfAllFormatsAreRead(t *testing.T) {
	for _, c := range []struct {
		format, file, event string
		want                Message
	}{
		{"chirpstack", "chirpstack-up.json", "up", Message{
			DedupeID: "5c3e1d0a-7f42-4b1e-9a65-0d8f2b6c4e17", Address: device.Address{Kind: device.DevEUI, Value: "a84041ffff1e2d3c"},
			Application: "f1b6d9e2-3a47-4c80-95de-7b20c8a64f13", Session: "01b4f7a2", FPort: 2, FCnt: 48213, HasFCnt: true,
			Payload:     []byte{1, 0x75, 0x32, 3, 0x67, 8, 1, 4, 0x68, 0x3c, 5, 2, 0xf4, 1},
			NetworkTime: time.Date(2026, 11, 24, 9, 14, 27, 318472000, time.UTC)}},
		{"tts", "tts-uplink.json", "", Message{
			Address: device.Address{Kind: device.DevEUI, Value: "70b3d57ed005a1c2"}, Application: "water-north", Session: "AZr2b1xQm0h3Jt9w4sLqVA==",
			FPort: 10, FCnt: 771, HasFCnt: true, Payload: []byte{1, 0, 0, 0x27, 0x10, 0, 0, 0, 0}, NetworkTime: time.Date(2026, 11, 24, 9, 15, 3, 702117342, time.UTC)}},
		{"plain", "plain.json", "", Message{
			DedupeID: "boiler-7/000391", Address: device.Address{Kind: device.Serial, Value: "boiler-7"}, Application: "heating", FPort: 3,
			Payload: []byte{1, 2, 3, 4}, NetworkTime: time.Date(2026, 11, 24, 9, 15, 3, 0, time.UTC)}},
	} {
		got, err := Parse(c.format, fixture(t, c.file), c.event)
		if err != nil || !same(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.file, got, err, c.want)
		}
	}
}

func same(a, b Message) bool {
	payload := bytes.Equal(a.Payload, b.Payload)
	at := a.NetworkTime.Equal(b.NetworkTime)
	return payload && at && a.DedupeID == b.DedupeID && a.Address == b.Address && a.Application == b.Application && a.Session == b.Session &&
		a.FPort == b.FPort && a.FCnt == b.FCnt && a.HasFCnt == b.HasFCnt
}

// parser is Parse, or a planted one with bugs.
type parser func(format string, body []byte, event string) (Message, error)

// rules are what a parser of foreign messages must keep; code "" is acceptance, "ignored" is ErrIgnored.
var rules = []struct{ name, format, event, body, code string }{
	{"first frame has neither counter nor port", "chirpstack", "up", up(`"data":"AQ=="`), ""},
	{"unknown field of a network server", "chirpstack", "up", up(`"novelty":{"a":[1,{"b":null}]}`), ""},
	{"null is absent", "chirpstack", "up", up(`"fPort":null,"fCnt":null,"data":null,"devAddr":null`), ""},
	{"DevEUI in capitals with hyphens", "chirpstack", "up", `{"deviceInfo":{"devEui":"A8-40-41-FF-FF-1E-2D-3C"}}`, ""},
	{"largest port and counter", "chirpstack", "up", up(`"fPort":255,"fCnt":4294967295`), ""},
	{"largest payload", "chirpstack", "up", up(`"data":"` + encoded(MaxPayload) + `"`), ""},
	{"deep enough", "chirpstack", "up", up(`"x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31)), ""},
	{"key in another case is another key", "chirpstack", "up", up(`"DATA":7`), ""},

	{"join", "chirpstack", "join", up(`"devAddr":"01020304"`), "ignored"},
	{"ack", "chirpstack", "ack", up(`"acknowledged":true`), "ignored"},
	{"txack", "chirpstack", "txack", up(`"txInfo":{}`), "ignored"},
	{"status", "chirpstack", "status", up(`"margin":7`), "ignored"},
	{"log", "chirpstack", "log", up(`"level":"ERROR"`), "ignored"},
	{"location", "chirpstack", "location", up(`"location":{}`), "ignored"},
	{"integration", "chirpstack", "integration", up(`"object":{}`), "ignored"},
	{"event of a later release", "chirpstack", "relay", `{}`, "ignored"},
	{"unsaid event that is no up", "chirpstack", "", up(`"batteryLevel":50`), "ignored"},
	{"unsaid event that is an up", "chirpstack", "", up(`"rxInfo":[]`), ""},
	{"join accept of The Things Stack", "tts", "", `{"end_device_ids":{"dev_eui":"a84041ffff1e2d3c"},"join_accept":{}}`, "ignored"},
	{"downlink of The Things Stack", "tts", "", `{"end_device_ids":{"device_id":"d"},"downlink_sent":{}}`, "ignored"},
	{"device without a DevEUI", "tts", "", `{"end_device_ids":{"device_id":"abp-1"},"uplink_message":{}}`, ""},

	{"not JSON", "chirpstack", "up", `{"deviceInfo":`, "unreadable"},
	{"ignored and still not JSON", "chirpstack", "join", `{"deviceInfo":`, "unreadable"},
	{"nothing", "tts", "", ``, "unreadable"},
	{"text behind the end", "plain", "", plain(`"payload":"AQ=="`) + "{}", "unreadable"},
	{"key twice", "chirpstack", "up", up(`"data":"AQ==","data":"Ag=="`), "unreadable"},
	{"key twice in two spellings", "chirpstack", "up", up(`"data":"AQ==","d\u0061ta":"Ag=="`), "unreadable"},
	{"key twice where nobody looks", "tts", "", `{"end_device_ids":{"device_id":"d"},"uplink_message":{},"x":{"y":1,"y":2}}`, "unreadable"},
	{"too deep", "chirpstack", "up", up(`"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32)), "unreadable"},
	{"bomb of depth", "tts", "", strings.Repeat(`{"a":`, 50_000), "unreadable"},
	{"not UTF-8", "chirpstack", "up", up("\"devAddr\":\"\xff\""), "unreadable"},
	{"not UTF-8 where nobody looks", "chirpstack", "up", up("\"x\":\"\xc3(\""), "unreadable"},
	{"NUL", "plain", "", plain("\"id\":\"a\\u0000b\",\"payload\":\"\""), "unreadable"},
	{"half a pair", "plain", "", plain("\"id\":\"\\ud800\",\"payload\":\"\""), "unreadable"},
	{"body too large", "chirpstack", "up", up(`"x":"` + strings.Repeat("a", MaxBody) + `"`), "too_large"},
	{"payload too large", "chirpstack", "up", up(`"data":"` + encoded(MaxPayload+1) + `"`), "payload_too_large"},
	{"payload too large in hex", "plain", "", plain(`"payload_hex":"` + strings.Repeat("00", MaxPayload+1) + `"`), "payload_too_large"},
	{"base64 without padding", "chirpstack", "up", up(`"data":"AQ"`), "bad_message"},
	{"base64 with bits left over", "chirpstack", "up", up(`"data":"AR=="`), "bad_message"},
	{"base64 with a line break", "chirpstack", "up", up(`"data":"AQ\n=="`), "bad_message"},
	{"base64 for URLs", "chirpstack", "up", up(`"data":"_-8="`), "bad_message"},
	{"port of 256", "chirpstack", "up", up(`"fPort":256`), "bad_message"},
	{"port below zero", "chirpstack", "up", up(`"fPort":-1`), "bad_message"},
	{"port with a fraction", "chirpstack", "up", up(`"fPort":1.5`), "bad_message"},
	{"port as a text", "chirpstack", "up", up(`"fPort":"1"`), "bad_message"},
	{"counter beyond 32 bits", "tts", "", `{"end_device_ids":{"device_id":"d"},"uplink_message":{"f_cnt":4294967296}}`, "bad_message"},
	{"time that is none", "chirpstack", "up", up(`"time":"yesterday"`), "bad_message"},
	{"time before all years", "plain", "", `{"device":"0011223344556677","payload":"AA==","time":"0000-01-01T00:59:59+01:00"}`, "bad_message"},
	{"time behind all years", "plain", "", `{"device":"0011223344556677","payload":"AA==","time":"9999-12-31T23:59:59-01:00"}`, "bad_message"},
	{"the last time that there is", "plain", "", `{"device":"0011223344556677","payload":"AA==","time":"9999-12-31T23:59:59-00:00"}`, ""},
	{"no device", "chirpstack", "up", `{"data":"AQ=="}`, "bad_message"},
	{"DevEUI too short", "chirpstack", "up", `{"deviceInfo":{"devEui":"a84041"}}`, "bad_message"},
	{"device as a list", "chirpstack", "up", `{"deviceInfo":[]}`, "bad_message"},
	{"no object", "plain", "", `[]`, "bad_message"},
	{"text too long", "chirpstack", "up", up(`"deduplicationId":"` + strings.Repeat("a", MaxText+1) + `"`), "bad_message"},
	{"plain form knows no other field", "plain", "", plain(`"payload":"AQ==","tenant":"ours"`), "unknown_field"},
	{"plain form knows no other case", "plain", "", plain(`"Payload":"AQ=="`), "unknown_field"},
	{"no payload", "plain", "", plain(`"f_port":1`), "bad_message"},
	{"payload null", "plain", "", plain(`"payload":null`), "bad_message"},
	{"two payloads", "plain", "", plain(`"payload":"AQ==","payload_hex":"01"`), "bad_message"},
	{"half a digit pair", "plain", "", plain(`"payload_hex":"012"`), "bad_message"},
	{"kind of address that is none", "plain", "", plain(`"payload":"","address_kind":"colour"`), "bad_message"},
	{"format that is none", "mqtt", "", `{}`, "unknown_format"},
}

func up(more string) string    { return `{"deviceInfo":{"devEui":"a84041ffff1e2d3c"},` + more + `}` }
func plain(more string) string { return `{"device":"a84041ffff1e2d3c",` + more + `}` }
func encoded(n int) string     { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

// broken are the names of the rules that a parser breaks.
func broken(parse parser) (names []string) {
	for _, r := range rules {
		_, err := parse(r.format, []byte(r.body), r.event)
		got := ""
		switch f := fault.As(err); {
		case errors.Is(err, ErrIgnored):
			got = "ignored"
		case f != nil && f.Kind == fault.Invalid:
			got = f.Code
		case err != nil:
			got = err.Error()
		}
		if got != r.code {
			names = append(names, r.name)
		}
	}
	return names
}

func TestEachRuleOfReadingIsKept(t *testing.T) {
	for _, name := range broken(Parse) {
		t.Error(name)
	}
}

// naive is the parser that one would write first: it is caught by the rules named for what it does not look at.
func naive(format string, body []byte, event string) (Message, error) {
	if _, err := Parse(format, body, event); format != "chirpstack" || event != "up" || fault.As(err) != nil && fault.As(err).Code == "too_large" {
		return Parse(format, body, event)
	}
	var v struct {
		Data string
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return Message{}, fault.Wrap(err, fault.Invalid, "unreadable", "%s", err)
	}
	payload, err := base64.StdEncoding.DecodeString(v.Data)
	if err != nil {
		return Message{}, fault.New(fault.Invalid, "bad_message", "base64")
	}
	return Message{Payload: payload}, nil
}

func TestPlantedParsersAreCaught(t *testing.T) {
	for _, planted := range []struct {
		name  string
		parse parser
		by    []string
	}{
		{"encoding/json alone", naive, []string{"key in another case is another key", "key twice", "key twice in two spellings", "too deep", "not UTF-8",
			"not UTF-8 where nobody looks", "payload too large", "base64 with bits left over", "base64 with a line break", "port of 256", "no device"}},
		{"no limit of the body", func(format string, body []byte, event string) (Message, error) {
			if len(body) > MaxBody {
				return Message{}, nil
			}
			return Parse(format, body, event)
		}, []string{"body too large"}},
		{"every event is an up", func(format string, body []byte, _ string) (Message, error) { return Parse(format, body, "up") }, []string{"join", "status", "unsaid event that is no up"}},
		{"ignored before it is read", func(format string, body []byte, event string) (Message, error) {
			if event == "join" {
				return Message{}, ErrIgnored
			}
			return Parse(format, body, event)
		}, []string{"ignored and still not JSON"}},
		{"unknown fields of the plain form pass", func(format string, body []byte, event string) (Message, error) {
			m, err := Parse(format, body, event)
			if f := fault.As(err); f != nil && f.Code == "unknown_field" {
				return m, nil
			}
			return m, err
		}, []string{"plain form knows no other field"}},
	} {
		found := broken(planted.parse)
		for _, name := range planted.by {
			if !slices.Contains(found, name) {
				t.Errorf("%s: not caught by %q", planted.name, name)
			}
		}
	}
}

func TestNoErrorEchoesTheMessage(t *testing.T) {
	const canary = "canary7f3a"
	for _, body := range []string{
		plain(`"payload":"` + canary + `"`), plain(`"payload_hex":"` + canary + `"`), plain(`"` + canary + `":1`), plain(`"time":"` + canary + `"`),
		plain(`"f_port":"` + canary + `"`), plain(`"address_kind":"` + canary + `"`), `{"device":"` + canary + `","payload":""}`, `{"` + canary, canary,
	} {
		_, err := Parse("plain", []byte(body), "")
		f := fault.As(err)
		if f == nil {
			t.Errorf("%s: accepted", body)
			continue
		}
		for _, said := range append([]string{f.Message, f.Code}, fieldsOf(f)...) {
			if strings.Contains(said, canary) {
				t.Errorf("%s: %q", body, said)
			}
		}
	}
}

func fieldsOf(f *fault.Error) (all []string) {
	for _, field := range f.Fields {
		all = append(all, field.Pointer, field.Detail)
	}
	return all
}

// The body is not kept: what a server does with its buffer afterwards changes no message.
func TestAMessageOutlivesItsBody(t *testing.T) {
	for format, file := range map[string]string{"chirpstack": "chirpstack-up.json", "tts": "tts-uplink.json", "plain": "plain.json"} {
		body := fixture(t, file)
		want, err := Parse(format, bytes.Clone(body), "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(format, body, "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range body {
			body[i] = 'x'
		}
		if !same(got, want) {
			t.Errorf("%s changed with its body", format)
		}
	}
}
