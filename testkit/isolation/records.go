package isolation

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// Stream is a deployment's bus, as somebody reaches it who should not: no tenant may write there, and a worker believes no
// record because of where it stands.
type Stream struct {
	Topics  bus.Topics
	Publish func([]bus.Record) []error
	Settle  func() // waits until all records are finished
}

// Bury is Target.Bury by way of the bus: a record that no process of ours wrote.
func (s Stream) Bury(t testing.TB) func(value string) {
	return func(value string) {
		t.Helper()
		for _, err := range s.Publish([]bus.Record{{Topic: s.Topics.Uplinks, Key: value, Value: []byte(value)}}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Records puts records on a bus whose topic, key, headers and value say different tenants, sources and events, and looks at whose
// they became. A record is its value's tenant's if all of it says so, and nobody's else; another tenant's source makes it no
// reading; another's event stays what it was.
func Records(t testing.TB, target Target, stream Stream) Result {
	t.Helper()
	s := &sweep{world: build(t, target)}
	w := s.world
	sides := [2]*tenant{w.tenants[0], w.tenants[1]}
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { copy(b, fmt.Sprintf("%010d", s.result.Topics)) }}
	var rs []bus.Record
	var forged []forgery
	for _, topic := range []string{stream.Topics.Uplinks, stream.Topics.Later} {
		for value := range sides {
			for source := range sides {
				for key := range sides {
					for _, headers := range [][]int{{0}, {1}, {0, 1}, {1, 0}, {}} {
						for _, taken := range []bool{false, true} {
							f := forgery{value: sides[value], source: sides[source], whole: key == value && len(headers) == 1 && headers[0] == value, taken: taken,
								what: fmt.Sprintf("%s: value of %s with a source of %s, key of %s, headers of %v, a known event: %v", topic, sides[value].name, sides[source].name, sides[key].name, headers, taken)}
							if s.result.Topics++; taken {
								f.id = parsedID(t, sides[1-value].ids["event"])
							} else {
								ident.Fresh(mint, &f.id)
							}
							forged, rs = append(forged, f), append(rs, f.record(t, topic, sides[key], headers, sides))
						}
					}
				}
			}
		}
	}
	before := w.rows(w.tenants[2].id)
	was := [2]string{w.uplink(sides[0], sides[0].ids["event"]), w.uplink(sides[1], sides[1].ids["event"])}
	for i, err := range stream.Publish(rs) {
		if err != nil {
			t.Fatalf("%s: %v", forged[i].what, err)
		}
	}
	stream.Settle()
	for _, f := range forged {
		for i, side := range sides {
			state, own := w.uplink(side, f.id.String()), side == f.value
			found := func(format string, args ...any) {
				s.find(Finding{"the bus", side.name, f.what, fmt.Sprintf(format, args...)})
			}
			switch {
			case f.taken && !own:
				if state != was[i] {
					found("the event of that id was %q and is %q", was[i], state)
				}
			case f.taken: // several say that it is theirs: the first whole one is
			case state != "" && !(f.whole && own):
				found("it has become an event of the tenant's, %s", state)
			case state == "" && f.whole && own:
				found("it is nowhere, although all of it says whose it is")
			case state == string(uplink.Processed) && f.source != side:
				found("it has become a reading by another tenant's source")
			}
		}
	}
	if w.rows(w.tenants[2].id) != before {
		s.find(Finding{"the bus", "all records", "the store", "rows of " + w.tenants[2].name + " changed"})
	}
	return s.result
}

// forgery is one record, and whose it says that it is.
type forgery struct {
	id            ident.Uplink
	value, source *tenant
	whole         bool // key and headers say what the value does
	taken         bool // its id is an event's of the other side
	what          string
}

func (f forgery) record(t testing.TB, topic string, key *tenant, headers []int, sides [2]*tenant) bus.Record {
	t.Helper()
	src, err := ident.ParseSource(f.source.ids["source"])
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.Parse(f.source.key())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	e := uplink.Event{ID: f.id, Tenant: f.value.tenantID(t), Source: src, Via: token.Accessor, ArrivedAt: now, ReceivedAt: now,
		Message: uplink.Message{Address: device.Address{Kind: device.DevEUI, Value: "70b3d57ed0000001"}, Application: f.source.canary("application"), Payload: []byte{1}}}
	value, err := e.MarshalVersion(uplink.Version)
	if err != nil {
		t.Fatal(err)
	}
	e.Tenant = key.tenantID(t)
	r := bus.Record{Topic: topic, Key: e.Key(), Value: value, Headers: []bus.Header{{Name: bus.EventHeader, Value: []byte(f.id.String())}, {Name: bus.VersionHeader, Value: []byte("1")}}}
	if strings.HasSuffix(topic, ".later") {
		r.Key = e.Tenant.String()
	}
	for _, n := range headers {
		r.Headers = append(r.Headers, bus.Header{Name: bus.TenantHeader, Value: []byte(sides[n].id)})
	}
	return r
}

func (t *tenant) tenantID(tb testing.TB) ident.Tenant {
	tb.Helper()
	id, err := ident.ParseTenant(t.id)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func parsedID(t testing.TB, text string) ident.Uplink {
	t.Helper()
	id, err := ident.ParseUplink(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// uplink is the state of one of a tenant's events; "": it has none of that id.
func (w *world) uplink(t *tenant, id string) string {
	res := w.send(http.MethodGet, "/v1/tenants/"+t.id+"/uplinks/"+id, "", t.owner, nil, nil)
	switch res.status {
	case http.StatusOK:
		return res.member("state")
	case http.StatusNotFound:
		return ""
	}
	w.t.Fatalf("GET uplink of %s: %d", t.name, res.status)
	return ""
}
