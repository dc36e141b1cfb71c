package uplink

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/strictjson"
)

// Event is an accepted message on its way over a bus: what whoever accepted it knew, decided once. Whose it is was decided
// there, by a credential or a mapping; everything that may change since is asked again by who finishes it.
type Event struct {
	ID         ident.Uplink
	Tenant     ident.Tenant
	Source     ident.Source
	Via        string // accessor of the key, or ViaConnection or ViaMapping and the connection's name
	Reason     Reason // goes to quarantine with it; "": nothing is wrong so far
	Message    Message
	ArrivedAt  time.Time // our clock when it was let in
	ReceivedAt time.Time // the network server's if plausible, else the same
}

// What Via begins with of an event that a connection brought. By a mapping it is whose the message's application was then, which
// is asked again by who finishes it.
const (
	ViaConnection = "connection:"
	ViaMapping    = "application:"
)

// Versions of the form of an event on a bus: there is no second one yet. Readers take both, writers write the older one until they are
// told that all readers are new.
const (
	OldestVersion = 1
	Version       = 1
)

// MaxEvent bounds an event's form, in bytes.
const MaxEvent = 16 << 10

// Uplink is the event as a record, before anything is known of its device. at is the source's node.
func (e Event) Uplink(at ident.Node) Uplink {
	m := e.Message
	u := Uplink{
		ID: e.ID, Source: e.Source, Node: at, State: Accepted, Address: m.Address, Application: m.Application, Session: m.Session,
		FPort: m.FPort, FCnt: m.FCnt, HasFCnt: m.HasFCnt, Payload: m.Payload, DedupeKey: m.DedupeKey(e.Source), PayloadHash: m.PayloadHash(),
		ArrivedAt: e.ArrivedAt, NetworkTime: m.NetworkTime, ReceivedAt: e.ReceivedAt, UpdatedAt: e.ArrivedAt,
	}
	if e.Reason != "" {
		u.State, u.Reason = Quarantined, e.Reason
	}
	return u
}

// Key is what an event is ordered by on a bus: its tenant and device.
func (e Event) Key() string {
	return e.Tenant.String() + "/" + string(e.Message.Address.Kind) + ":" + e.Message.Address.Value
}

// MarshalVersion writes an event for a bus, in a version of the form. Its names and their order are golden-tested: others read
// it. By hand, since every event is written once and encoding/json took a tenth of what whoever accepts one does in all.
func (e Event) MarshalVersion(version int) ([]byte, error) {
	if version < OldestVersion || version > Version {
		return nil, fault.New(fault.Internal, "event_version", "This program writes events of version %d to %d.", OldestVersion, Version)
	}
	m := e.Message
	b := make([]byte, 0, 512+base64.StdEncoding.EncodedLen(len(m.Payload)))
	b = strconv.AppendInt(append(b, `{"version":`...), int64(version), 10)
	b = appendID(append(b, `,"event_id":"`...), e.ID)
	b = appendID(append(b, `","tenant_id":"`...), e.Tenant)
	b = appendID(append(b, `","source_id":"`...), e.Source)
	b = appendText(b, `","via":`, e.Via)
	if e.Reason != "" {
		b = appendText(b, `,"reason":`, string(e.Reason))
	}
	b = appendText(b, `,"address_kind":`, string(m.Address.Kind))
	b = appendText(b, `,"device":`, m.Address.Value)
	for _, f := range []struct{ name, value string }{{`,"application":`, m.Application}, {`,"session":`, m.Session}, {`,"id":`, m.DedupeID}} {
		if f.value != "" {
			b = appendText(b, f.name, f.value)
		}
	}
	b = strconv.AppendInt(append(b, `,"f_port":`...), int64(m.FPort), 10)
	if m.HasFCnt {
		b = strconv.AppendUint(append(b, `,"f_cnt":`...), m.FCnt, 10)
	}
	b = base64.StdEncoding.AppendEncode(append(b, `,"payload":"`...), m.Payload)
	var network, arrived, received error
	if b = append(b, '"'); !m.NetworkTime.IsZero() {
		b, network = appendTime(b, `,"time":`, m.NetworkTime)
	}
	b, arrived = appendTime(b, `,"arrived_at":`, e.ArrivedAt)
	b, received = appendTime(b, `,"received_at":`, e.ReceivedAt)
	if err := errors.Join(network, arrived, received); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode", "An event could not be written for the bus.")
	}
	return append(b, '}'), nil
}

// appendText appends a text as encoding/json writes it, which is asked where a text is more than plain ASCII.
func appendText(b []byte, name, s string) []byte {
	b = append(b, name...)
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) //nolint:errchkjson // of a text there is none
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendID[K ident.Kind](b []byte, id ident.ID[K]) []byte {
	b, _ = id.AppendText(b)
	return b
}

// appendTime refuses what RFC 3339 cannot say.
func appendTime(b []byte, name string, at time.Time) ([]byte, error) {
	b, err := at.UTC().AppendText(append(append(b, name...), '"'))
	return append(b, '"'), err
}

// ParseEvent reads an event from a bus. What it refuses was not written by us: it goes to the dead letters.
func ParseEvent(b []byte) (Event, error) {
	if len(b) > MaxEvent {
		return Event{}, fault.New(fault.Invalid, "too_large", "An event on the bus has at most %d bytes.", MaxEvent)
	}
	var e Event
	version, payloads := uint64(0), 0
	var kind, address string
	r := strictjson.New(b)
	err := r.Object(func(key []byte) (err error) {
		switch string(key) {
		case "version":
			if version, err = r.Uint(1 << 30); err == nil && (version < OldestVersion || version > Version) {
				return fault.New(fault.Invalid, "event_version", "This program reads events of version %d to %d. Bring it up to date, then replay the dead letter.", OldestVersion, Version)
			}
			return typed("/version", err)
		case "event_id":
			return id(r, "/event_id", &e.ID)
		case "tenant_id":
			return id(r, "/tenant_id", &e.Tenant)
		case "source_id":
			return id(r, "/source_id", &e.Source)
		case "via":
			return text(r, "/via", &e.Via)
		case "reason":
			return text(r, "/reason", (*string)(&e.Reason))
		case "address_kind":
			return text(r, "/address_kind", &kind)
		case "device":
			return text(r, "/device", &address)
		case "application":
			return text(r, "/application", &e.Message.Application)
		case "session":
			return text(r, "/session", &e.Message.Session)
		case "id":
			return text(r, "/id", &e.Message.DedupeID)
		case "f_port":
			return port(r, "/f_port", &e.Message.FPort)
		case "f_cnt":
			e.Message.HasFCnt = true
			return counter(r, "/f_cnt", &e.Message)
		case "payload":
			payloads++
			return payload(r, "/payload", &e.Message.Payload)
		case "time":
			return moment(r, "/time", &e.Message.NetworkTime)
		case "arrived_at":
			return moment(r, "/arrived_at", &e.ArrivedAt)
		case "received_at":
			return moment(r, "/received_at", &e.ReceivedAt)
		}
		return fault.New(fault.Invalid, "unknown_field", "The event has a field that its version does not know.")
	})
	if err == nil {
		err = r.End()
	}
	if err == nil {
		err = e.Message.address(device.AddressKind(kind), address, "/device")
	}
	switch {
	case err != nil:
	case version == 0:
		err = missing("/version")
	case e.ID.IsZero():
		err = missing("/event_id")
	case e.Tenant.IsZero() || e.Tenant == ident.Platform:
		err = missing("/tenant_id")
	case e.Source.IsZero():
		err = missing("/source_id")
	case e.Reason != "" && !e.Reason.valid():
		err = missing("/reason")
	case payloads != 1:
		err = missing("/payload")
	case e.ArrivedAt.IsZero():
		err = missing("/arrived_at")
	case !e.ReceivedAt.Equal(Message{NetworkTime: e.ReceivedAt}.ReceivedAt(e.ArrivedAt)):
		err = missing("/received_at")
	}
	if err != nil {
		return Event{}, unreadable(err)
	}
	if e.Message.Payload == nil {
		e.Message.Payload = []byte{}
	}
	return e, nil
}

// valid reports whether a reason is one that whoever accepts an event may give it.
func (r Reason) valid() bool {
	switch r {
	case TopicMismatch, WrongApp, WrongFormat, SourceDisabled, TenantStopped:
		return true
	}
	return false
}

func id[K ident.Kind](r *strictjson.Reader, pointer string, into *ident.ID[K]) error {
	if r.IsNull() {
		return missing(pointer)
	}
	b, err := r.Text()
	if err != nil {
		return typed(pointer, err)
	}
	if *into, err = ident.Parse[K](string(b)); err != nil {
		return missing(pointer)
	}
	return nil
}

// Letter is what a dead letter says of itself beside the value that could not be used.
type Letter struct {
	Reason string       // a stable word
	Tenant ident.Tenant // as far as known; zero: not
	Via    string       // a connection's name, or the topic it was read from
	Origin string       // the MQTT topic, or partition and offset
	Size   int          // of the value, before it was cut
	Hash   [32]byte     // of the whole value
	At     time.Time

	// Of a message that a connection brought: how it is read, and how its tenant is known. What the topic told was checked then.
	Format string
	Owner  string
	Source ident.Source // as far as known
	Told   Told

	// Of a record that was read from a bus, as it stood there.
	Said Said
}

// Said is what a record on a bus says of itself beside its value, with which it must agree.
type Said struct{ Key, Event, Tenant string }

// Bounds of what a dead letter keeps of a value: all of it, or its beginning alone.
const (
	MaxLetter = 512 << 10
	CutLetter = 1 << 10
)

// Field is one thing that a letter says.
type Field struct{ Name, Value string }

// Fields are what a letter says, as headers of a record, in a fixed order.
func (l Letter) Fields() []Field {
	f := []Field{
		{"rf-reason", l.Reason}, {"rf-via", l.Via}, {"rf-origin", l.Origin}, {"rf-size", strconv.Itoa(l.Size)},
		{"rf-sha256", base64.StdEncoding.EncodeToString(l.Hash[:])}, {"rf-time", l.At.UTC().Format(time.RFC3339Nano)},
	}
	if !l.Tenant.IsZero() {
		f = append(f, Field{"rf-tenant", l.Tenant.String()})
	}
	if !l.Source.IsZero() {
		f = append(f, Field{"rf-source", l.Source.String()})
	}
	for _, more := range []Field{{"rf-format", l.Format}, {"rf-owner", l.Owner}, {"rf-application", l.Told.Application}, {"rf-device", l.Told.Device}, {"rf-event", l.Told.Event}, {"rf-said-key", l.Said.Key}, {"rf-said-event", l.Said.Event}, {"rf-said-tenant", l.Said.Tenant}} {
		if more.Value != "" {
			f = append(f, more)
		}
	}
	return f
}

// ReadLetter reads them again. What is missing or malformed stays zero: a dead letter must be listed whatever it is. What is
// shown of it is made printable; what is compared is left as it was, or two that look alike would be the same.
func ReadLetter(fields []Field) (l Letter) {
	for _, f := range fields {
		switch f.Name {
		case "rf-reason":
			l.Reason = printable(f.Value)
		case "rf-via":
			l.Via = printable(f.Value)
		case "rf-origin":
			l.Origin = printable(f.Value)
		case "rf-size":
			l.Size, _ = strconv.Atoi(f.Value)
		case "rf-sha256":
			if b, err := base64.StdEncoding.DecodeString(f.Value); err == nil && len(b) == len(l.Hash) {
				l.Hash = [32]byte(b)
			}
		case "rf-time":
			l.At, _ = time.Parse(time.RFC3339Nano, f.Value)
		case "rf-tenant":
			l.Tenant, _ = ident.ParseTenant(f.Value)
		case "rf-source":
			l.Source, _ = ident.ParseSource(f.Value)
		case "rf-format":
			l.Format = printable(f.Value)
		case "rf-owner":
			l.Owner = printable(f.Value)
		case "rf-application":
			l.Told.Application = f.Value
		case "rf-device":
			l.Told.Device = f.Value
		case "rf-event":
			l.Told.Event = f.Value
		case "rf-said-key":
			l.Said.Key = f.Value
		case "rf-said-event":
			l.Said.Event = f.Value
		case "rf-said-tenant":
			l.Said.Tenant = f.Value
		}
	}
	return l
}

// printable is foreign text that may be shown: bounded, and nothing in it but what can be seen.
func printable(s string) string {
	if len(s) > MaxTopic {
		s = s[:MaxTopic]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
