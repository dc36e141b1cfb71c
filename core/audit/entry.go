package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/ringfence/ringfence/core/ident"
)

// Hash is a hash of the tree.
type Hash = tlog.Hash

// Context is who acted, where and by which policy: filled by the store from the Scope, never by the caller of a use case.
type Context struct {
	Tenant    ident.Tenant
	ActorKind string
	Actor     string // id, or system:PART, or anonymous
	Accessor  string // public handle of the credential
	AMR       string
	RequestID string
	TraceID   string
	AuthzRev  uint64
	Version   string // of our program
	Node      string // which of our processes
}

// Entry is one entry of a log: its leaf, and the fields that queries look for.
type Entry struct {
	Seq     uint64 // counts from 0: it is the leaf's index
	ID      ident.Entry
	At      time.Time
	Actor   string
	Action  string
	Target  string // the target's id
	Kind    string // the target's kind
	Path    string // the target's org path
	Outcome string
	Request string
	Leaf    []byte // canonical JSON; what is hashed
	Private []Private
}

// timeFormat is RFC 3339 in UTC with exactly six digits: one spelling each.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// version of the leaf's shape.
const leafVersion = 1

// leaf writes an event's canonical JSON. Members stand in sorted order.
func leaf(c Context, e Event, seq uint64, at time.Time) []byte {
	w := writer{b: make([]byte, 0, 768)}
	w.open()
	w.str("action", string(e.Action))
	w.key("actor")
	w.open()
	w.opt("accessor", c.Accessor)
	w.opt("amr", c.AMR)
	w.str("id", c.Actor)
	w.str("kind", c.ActorKind)
	w.close()
	w.key("app")
	w.open()
	w.opt("node", c.Node)
	w.opt("version", c.Version)
	w.close()
	w.num("authz_rev", int64(c.AuthzRev)) //nolint:gosec // a revision counts up by one
	if len(e.Changes) > 0 {
		w.key("changes")
		w.b = append(w.b, '[')
		for _, ch := range e.Changes {
			class := ClassOf(e.Target.Kind, ch.Field)
			w.open()
			w.str("field", ch.Field)
			w.opt("new", shown(class, ch.Field, ch.New))
			w.opt("old", shown(class, ch.Field, ch.Old))
			w.close()
		}
		w.b = append(w.b, ']')
	}
	if e.Count > 0 {
		w.num("count", e.Count)
	}
	w.str("id", e.ID.String())
	w.str("outcome", string(e.Outcome))
	w.opt("reason", e.Reason)
	w.opt("request_id", c.RequestID)
	w.num("seq", int64(seq)) //nolint:gosec // a log of 2^63 entries is not reached
	if e.Address.Value != "" || e.Agent.Value != "" {
		w.key("src")
		w.open()
		w.opt("ip", shown(Commit, fieldAddress, e.Address))
		w.opt("ua", shown(Commit, fieldAgent, e.Agent))
		w.close()
	}
	w.key("target")
	w.open()
	w.opt("id", e.Target.ID)
	w.str("kind", e.Target.Kind)
	w.opt("org_path", e.Target.Path)
	w.close()
	w.str("tenant", c.Tenant.String())
	w.opt("trace_id", c.TraceID)
	w.str("ts", at.UTC().Format(timeFormat))
	w.num("v", leafVersion)
	w.close()
	return w.b
}

// shown is how a value stands in the leaf.
func shown(class Class, field string, p Personal) string {
	switch {
	case p.Value == "":
		return ""
	case class == Clear:
		return p.Value
	case class == Secret:
		return "changed"
	case class == Equal:
		return p.Digest
	default:
		return committed + Commitment(field, p)
	}
}

// judgedBy are the members of a leaf by which the verifier judges it apart from its hash.
type judgedBy struct {
	Seq    *int64 `json:"seq"`
	Tenant string `json:"tenant"`
	TS     string `json:"ts"`
	V      int64  `json:"v"`
}

// parsed is a leaf with all members that are looked for.
type parsed struct {
	judgedBy
	Action string `json:"action"`
	Actor  struct {
		ID string `json:"id"`
	} `json:"actor"`
	Changes []struct {
		Field string `json:"field"`
		New   string `json:"new"`
		Old   string `json:"old"`
	} `json:"changes"`
	ID        string `json:"id"`
	Outcome   string `json:"outcome"`
	RequestID string `json:"request_id"`
	Src       struct {
		IP string `json:"ip"`
		UA string `json:"ua"`
	} `json:"src"`
	Target struct {
		ID   string `json:"id"`
		Kind string `json:"kind"`
		Path string `json:"org_path"`
	} `json:"target"`
}

// MaxLeaf bounds one entry's bytes.
const MaxLeaf = 256 << 10

var errLeaf = errors.New("audit: not a leaf of this version")

// ParseEntry reads a leaf back.
func ParseEntry(raw []byte) (Entry, error) {
	p, at, err := parseLeaf(raw)
	if err != nil {
		return Entry{}, err
	}
	id, err := parseID(p.ID)
	if err != nil || id.IsZero() {
		return Entry{}, errLeaf
	}
	return Entry{
		Seq: uint64(*p.Seq), ID: id, At: at, Actor: p.Actor.ID, Action: p.Action, Target: p.Target.ID, Kind: p.Target.Kind, //nolint:gosec // parseLeaf refuses negative ones
		Path: p.Target.Path, Outcome: p.Outcome, Request: p.RequestID, Leaf: bytes.Clone(raw),
	}, nil
}

func parseLeaf(raw []byte) (parsed, time.Time, error) {
	var p parsed
	if len(raw) > MaxLeaf || json.Unmarshal(raw, &p) != nil {
		return p, time.Time{}, errLeaf
	}
	at, err := p.check()
	return p, at, err
}

// check answers when the leaf was written, if it is one of this version.
func (j judgedBy) check() (time.Time, error) {
	if j.V != leafVersion || j.Seq == nil || *j.Seq < 0 {
		return time.Time{}, errLeaf
	}
	at, err := time.Parse(timeFormat, j.TS)
	var back [len(timeFormat)]byte
	if err != nil || string(at.AppendFormat(back[:0], timeFormat)) != j.TS {
		return time.Time{}, errLeaf
	}
	return at, nil
}

// scan reads what a leaf is judged by, and answers whether the whole of it could have been written here: a JSON parser would
// say less and take most of a verification's time.
func (j *judgedBy) scan(leaf []byte) bool {
	ok := utf8.Valid(leaf)
	number := func(value []byte) int64 {
		n, err := strconv.ParseInt(string(value), 10, 64)
		ok = ok && err == nil
		return n
	}
	text := func(value []byte) string {
		ok = ok && value[0] == '"' && bytes.IndexByte(value, '\\') < 0
		return string(bytes.Trim(value, `"`))
	}
	s := scanner{b: leaf}
	return s.object(0, func(key, value []byte) {
		switch string(key) {
		case "seq":
			seq := number(value)
			j.Seq = &seq
		case "tenant":
			j.Tenant = text(value)
		case "ts":
			j.TS = text(value)
		case "v":
			j.V = number(value)
		case "action", "actor", "app", "authz_rev", "changes", "count", "id", "outcome", "reason", "request_id", "src", "target", "trace_id":
		default:
			ok = false
		}
	}) && ok && s.i == len(leaf)
}

func parseID(s string) (id ident.Entry, err error) {
	err = id.UnmarshalText([]byte(s))
	return id, err
}
