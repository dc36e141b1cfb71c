package uplink

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

var update = flag.Bool("update", false, "write the golden files")

func anEvent() Event {
	at := time.Date(2026, 11, 27, 12, 0, 0, 123456000, time.UTC)
	return Event{
		ID: ident.Uplink{1, 6: 0x70, 8: 0x80}, Tenant: ident.Tenant{1, 2, 6: 0x70, 8: 0x80}, Source: ident.Source{3, 6: 0x70, 8: 0x80}, Via: "k3y",
		Message: Message{DedupeID: "7", Address: device.Address{Kind: device.DevEUI, Value: "70b3d57ed0000001"}, Application: "pumps", Session: "00bb12cd",
			FPort: 2, FCnt: 7, HasFCnt: true, Payload: []byte{1, 2, 3}, NetworkTime: at.Add(-time.Second)},
		ArrivedAt: at, ReceivedAt: at.Add(-time.Second),
	}
}

// The form is read by others: a change of it is a new version.
func TestTheFormOfAnEventIsTheGoldenOne(t *testing.T) {
	for name, e := range map[string]Event{"full": anEvent(), "least": {
		ID: anEvent().ID, Tenant: anEvent().Tenant, Source: anEvent().Source, Via: "connection:chirpstack", Reason: TopicMismatch,
		Message: Message{Address: device.Address{Kind: device.Serial, Value: "Pump/7"}, Payload: []byte{}}, ArrivedAt: anEvent().ArrivedAt, ReceivedAt: anEvent().ArrivedAt,
	}} {
		got, err := e.MarshalVersion(1)
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/event-v1-" + name + ".json"
		if *update {
			if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(append(got, '\n'), want) {
			t.Errorf("%s:\n%s\nwant\n%s (%v)", name, got, want, err)
		}
		if back, err := ParseEvent(got); err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("%s is read as\n%+v\nwant\n%+v (%v)", name, back, e, err)
		}
	}
}

func TestAnEventThatWeDidNotWriteIsRefused(t *testing.T) {
	good, err := anEvent().MarshalVersion(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, code string }{
		{"a version to come", `"version":1`, `"version":2`, "event_version"},
		{"no version", `"version":1,`, ``, "bad_message"},
		{"an unknown field", `"via"`, `"vai"`, "unknown_field"},
		{"an id of another kind", `"event_id":"upl_`, `"event_id":"dev_`, "bad_message"},
		{"no tenant", `"tenant_id":"` + anEvent().Tenant.String() + `",`, ``, "bad_message"},
		{"the platform's tenant", anEvent().Tenant.String(), ident.Platform.String(), "bad_message"},
		{"no source", `"source_id":"` + anEvent().Source.String() + `",`, ``, "bad_message"},
		{"a reason that only later steps give", `"via"`, `"reason":"unknown_device","via"`, "bad_message"},
		{"a key twice", `"via"`, `"f_port":3,"via"`, "unreadable"},
		{"a payload twice by other spelling", `"payload":"AQID"`, `"payload":"AQI"`, "bad_message"},
		{"no payload", `"payload":"AQID",`, ``, "bad_message"},
		{"no arrival", `"arrived_at":"2026-11-27T12:00:00.123456Z",`, ``, "bad_message"},
		{"a receive time far from the arrival", `"received_at":"2026-11-27`, `"received_at":"2025-11-27`, "bad_message"},
		{"a foreign address", `70b3d57ed0000001`, `70b3d57ed00000`, "bad_message"},
		{"more behind it", `Z"}`, `Z"}{}`, "unreadable"},
		{"a NUL in a text", `"pumps"`, `"pu\u0000ps"`, "unreadable"},
	} {
		bad := bytes.ReplaceAll(good, []byte(c.old), []byte(c.new))
		if bytes.Equal(bad, good) {
			t.Fatalf("%s: nothing was changed in %s", c.name, good)
		}
		if _, err := ParseEvent(bad); fault.As(err) == nil || fault.As(err).Kind != fault.Invalid || fault.As(err).Code != c.code {
			t.Errorf("%s: %v; want %s", c.name, err, c.code)
		}
	}
	if _, err := ParseEvent(bytes.Repeat([]byte(" "), MaxEvent+1)); fault.As(err) == nil || fault.As(err).Code != "too_large" {
		t.Errorf("a long one: %v", err)
	}
}

func TestTheLongestMessageFitsIntoAnEvent(t *testing.T) {
	e := anEvent()
	long := strings.Repeat("\x7f\u00e9\"", MaxText/4)
	e.Message.DedupeID, e.Message.Application, e.Message.Session, e.Via = long, long, long, long[:64]
	e.Message.Address = device.Address{Kind: device.Serial, Value: strings.Repeat("\"", device.MaxAddress)}
	e.Message.Payload = make([]byte, MaxPayload)
	b, err := e.MarshalVersion(Version)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseEvent(b); err != nil || !reflect.DeepEqual(back, e) {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}

func TestATemplateReadsTopicsAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		template, filter, topic string
		told                    Told
		ok                      bool
	}{
		{ChirpStackTopic, "application/+/device/+/event/+", "application/17c82e96/device/70b3d57ed0000001/event/up", Told{Application: "17c82e96", Device: "70b3d57ed0000001", Event: "up"}, true},
		{ChirpStackTopic, "application/+/device/+/event/+", "application//device/70b3d57ed0000001/event/up", Told{}, false},
		{ChirpStackTopic, "application/+/device/+/event/+", "application/a/device/b/event/up/more", Told{}, false},
		{ChirpStackTopic, "application/+/device/+/event/+", "application/a/device/b/event", Told{}, false},
		{ChirpStackTopic, "application/+/device/+/event/+", "Application/a/device/b/event/up", Told{}, false},
		{ChirpStackTopic, "application/+/device/+/event/+", "application/+/device/b/event/up", Told{}, false},
		{TTSTopic, "v3/+/devices/+/up", "v3/pumps@acme/devices/pump-1/up", Told{Application: "pumps"}, true},
		{TTSTopic, "v3/+/devices/+/up", "v3/@acme/devices/pump-1/up", Told{}, false},
		{CheckedTopic, "rf/+/+/up/#", "rf/ten_1/src_2/up", Told{Tenant: "ten_1", Source: "src_2"}, true},
		{"eu868/+/{device}/#", "eu868/+/+/#", "eu868/x/70b3d57ed0000001/a/b", Told{Device: "70b3d57ed0000001"}, true},
	} {
		tpl, err := ParseTemplate(c.template)
		if err != nil {
			t.Fatal(err)
		}
		told, ok := tpl.Match(c.topic)
		if f := tpl.Filter(); f != c.filter || ok != c.ok || ok && told != c.told {
			t.Errorf("%s: filter %s, %s tells %+v, %v", c.template, f, c.topic, told, ok)
		}
	}
	for _, bad := range []string{"", "a//b", "a/#/b", "a/x+", "{application}/{application}", "{tenent}/x", "{application}x", "a/\x00", "{device}@+"} {
		if _, err := ParseTemplate(bad); err == nil {
			t.Errorf("%q is taken for a template", bad)
		}
	}
}

func TestATopicThatNamesAnotherDeviceOrApplicationDisagrees(t *testing.T) {
	m := anEvent().Message
	for told, want := range map[Told]bool{
		{}: false, {Application: "pumps"}: false, {Application: "valves"}: true, {Device: "70B3D57ED0000001"}: false, {Device: "70b3d57ed0000002"}: true, {Device: "?"}: true,
	} {
		if got := told.Disagrees(m); got != want {
			t.Errorf("%+v: %v", told, got)
		}
	}
	m.Application = ""
	if (Told{Application: "pumps"}).Disagrees(m) {
		t.Error("a message that names no application is of the topic's")
	}
}
