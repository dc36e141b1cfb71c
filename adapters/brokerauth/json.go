package brokerauth

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/ringfence/ringfence/core/strictjson"
)

// fields are the members of the brokers' JSON that are read. Members that are not known here are let be: the next version of a
// broker has more of them.
type fields struct {
	Username string `json:"username"`
	Password string `json:"password"`
	ClientID string `json:"clientid"`
	Topic    string `json:"topic"`
	Access   int    `json:"acc"`    // Mosquitto: 1 read, 2 write, 3 both, 4 subscribe
	Action   string `json:"action"` // EMQX
	PeerHost string `json:"peerhost"`
	Mark     string `json:"mark"`
	Retain   flag   `json:"retain"`

	Client string `json:"client_id"` // VerneMQ
	Peer   string `json:"peer_addr"`
	Topics []struct {
		Topic string `json:"topic"`
	} `json:"topics"`
}

// flag is true, false, or either as text: a template of EMQX writes it in quotes. Everything else is yes, which is refused.
type flag bool

// UnmarshalJSON reads a flag.
func (f *flag) UnmarshalJSON(b []byte) error {
	s := string(b)
	if text, err := strconv.Unquote(s); err == nil {
		s = text
	}
	*f = s != "false" && s != "0"
	return nil
}

func readJSON(body []byte) (f fields, ok bool) {
	if strictjson.Check(body) != nil || json.Unmarshal(body, &f) != nil {
		return fields{}, false
	}
	return f, true
}

func say(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", jsonType)
	_ = json.NewEncoder(w).Encode(v)
}

// mosquitto is the HTTP backend of mosquitto-go-auth: JSON or forms, answered by the status. It keeps no mark, so that whose
// client id names no key is answered 503: Mosquitto then closes the connection, where at a refusal it would acknowledge the message
// and drop it.
func mosquitto() shape {
	return shape{
		questions: []string{"user", "superuser", "acl"}, types: []string{jsonType, formType}, limit: maxQuestion, unmarked: true,
		decide: func(e *Endpoint, ctx context.Context, q question) verdict {
			f, ok := readJSON(q.body)
			if q.form {
				var all map[string]string
				if all, ok = readForm(q.body); ok {
					f = fields{Username: all["username"], Password: all["password"], ClientID: all["clientid"], Topic: all["topic"]}
					f.Access, _ = strconv.Atoi(all["acc"])
				}
			}
			switch {
			case !ok || q.name == "superuser": // nobody is above the rule
				return verdict{}
			case q.name == "user":
				return e.connect(ctx, q, f.Username, f.Password, f.ClientID, "")
			}
			switch f.Access {
			case 1, 4: // a message that is delivered is asked for as its topic, which is a filter too
				return e.subscribe(ctx, q, f.Username, "", f.ClientID, f.Topic)
			case 2:
				return e.publish(ctx, q, f.Username, "", f.ClientID, f.Topic, false) // it does not say what is retained
			}
			return verdict{}
		},
		answer: func(w http.ResponseWriter, question string, v verdict) {
			status := http.StatusForbidden
			switch {
			case v.yes:
				status = http.StatusOK
			case v.absent && question == "acl":
				status = http.StatusServiceUnavailable
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, map[bool]string{true: "ok", false: "no"}[v.yes])
		},
	}
}

// emqx is EMQX 5: JSON of the operator's templates. It takes any status but 200 and 204 for no answer, and may then allow.
func emqx() shape {
	return shape{
		questions: []string{"authn", "authz"}, types: []string{jsonType}, limit: maxQuestion,
		decide: func(e *Endpoint, ctx context.Context, q question) verdict {
			f, ok := readJSON(q.body)
			if !ok {
				return verdict{}
			}
			q.origin.Address = addressOf(f.PeerHost)
			switch {
			case q.name == "authn":
				return e.connect(ctx, q, f.Username, f.Password, f.ClientID, f.PeerHost)
			case f.Action == "publish":
				return e.publish(ctx, q, f.Username, marked(f.Mark), f.ClientID, f.Topic, bool(f.Retain))
			case f.Action == "subscribe":
				return e.subscribe(ctx, q, f.Username, marked(f.Mark), f.ClientID, f.Topic)
			}
			return verdict{}
		},
		answer: func(w http.ResponseWriter, question string, v verdict) {
			switch {
			case !v.yes:
				say(w, map[string]any{"result": "deny"})
			case question == "authn":
				say(w, map[string]any{"result": "allow", "is_superuser": false, "client_attrs": map[string]string{"ringfence": v.mark}})
			default:
				say(w, map[string]any{"result": "allow"})
			}
		},
	}
}

// marked is a mark, or nothing if the broker filled its template with none.
func marked(s string) string {
	if s == "undefined" || s == "null" {
		return ""
	}
	return s
}

// verneMQ is its webhooks: JSON, the hook in a header, and the message with the topic.
func verneMQ() shape {
	return shape{
		questions: []string{"hook"}, types: []string{jsonType}, limit: maxMessage, unmarked: true,
		decide: func(e *Endpoint, ctx context.Context, q question) verdict {
			f, ok := readJSON(q.body)
			if !ok || len(q.header.Values("Vernemq-Hook")) != 1 {
				return verdict{}
			}
			q.origin.Address = addressOf(f.Peer)
			switch q.header.Get("Vernemq-Hook") {
			case "auth_on_register", "auth_on_register_m5":
				return e.connect(ctx, q, f.Username, f.Password, f.Client, f.Peer)
			case "auth_on_publish", "auth_on_publish_m5":
				return e.publish(ctx, q, f.Username, "", f.Client, f.Topic, bool(f.Retain))
			case "auth_on_subscribe", "auth_on_subscribe_m5":
				v := verdict{yes: len(f.Topics) > 0 && len(f.Topics) <= maxFilters}
				for i := 0; v.yes && i < len(f.Topics); i++ { // one that is refused refuses all
					v = e.subscribe(ctx, q, f.Username, "", f.Client, f.Topics[i].Topic)
				}
				return v
			}
			return verdict{}
		},
		answer: func(w http.ResponseWriter, _ string, v verdict) {
			if v.yes {
				say(w, map[string]any{"result": "ok"})
				return
			}
			say(w, map[string]any{"result": map[string]string{"error": "not_allowed"}})
		},
	}
}

const maxFilters = 64
