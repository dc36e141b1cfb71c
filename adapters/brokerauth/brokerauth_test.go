package brokerauth_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

// asking is a broker's client of the endpoint.
type asking struct {
	t    *testing.T
	h    http.Handler
	from string // where its clients are, if it tells; 192.0.2.9 if empty
}

func (a asking) peer() string { return cmp.Or(a.from, "192.0.2.9") }

func (a asking) post(path, kind, body string, header ...string) (int, string) {
	a.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Authorization", "Bearer "+brokers)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// words are one broker's: how its questions are put and what yes is.
type words struct {
	connect             func(a asking, user, password, client string) (yes bool, mark string)
	publish, subscribe  func(a asking, user, mark, client, topic string) bool
	retains, keepsMarks bool // it says what is retained; it shows marks
	tells               bool // from where a client connects
	publishRetained     func(a asking, user, mark, client, topic string) bool
}

// client is an id for one of a source's clients, which names the key that it comes with where the broker keeps no mark.
func (w words) client(s brokertest.Source) string {
	if w.keepsMarks {
		return s.Source.String()
	}
	return s.Source.String() + "-" + accessor(s)
}

// accessor is what everybody may see of a source's key.
func accessor(s brokertest.Source) string {
	t, _ := credential.Parse(s.Key.Reveal())
	return t.Accessor
}

func form(of ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(of); i += 2 {
		v.Set(of[i], of[i+1])
	}
	return v.Encode()
}

func object(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type obj map[string]any

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

func shapes() map[string]words {
	rabbit := func(permission string) func(a asking, user, mark, client, topic string) bool {
		return func(a asking, user, mark, client, topic string) bool {
			status, text := a.post("/rabbitmq/topic", formType, form("username", user, "vhost", "/", "resource", "topic", "name", "amq.topic", "permission", permission, "tags", mark,
				"routing_key", strings.NewReplacer("/", ".", "+", "*").Replace(topic), "variable_map.client_id", client, "variable_map.username", user, "variable_map.vhost", "/"))
			return status == 200 && text == "allow"
		}
	}
	plugin := func(acc int) func(a asking, user, mark, client, topic string) bool {
		return func(a asking, user, _, client, topic string) bool {
			status, _ := a.post("/mosquitto/acl", jsonType, object(a.t, obj{"username": user, "clientid": client, "topic": topic, "acc": acc}))
			return status == 200
		}
	}
	emqx := func(action string, retain any) func(a asking, user, mark, client, topic string) bool {
		return func(a asking, user, mark, client, topic string) bool {
			status, text := a.post("/emqx/authz", jsonType, object(a.t, obj{"username": user, "clientid": client, "topic": topic, "action": action, "mark": mark, "retain": retain, "peerhost": a.peer(), "qos": "1"}))
			return status == 200 && text == `{"result":"allow"}`
		}
	}
	verne := func(hook string, body func(user, client, topic string) obj) func(a asking, user, mark, client, topic string) bool {
		return func(a asking, user, _, client, topic string) bool {
			status, text := a.post("/vernemq/hook", jsonType, object(a.t, body(user, client, topic)), "Vernemq-Hook", hook)
			if status != 200 || text != `{"result":"ok"}` && text != `{"result":{"error":"not_allowed"}}` {
				a.t.Errorf("%s: %d %s", hook, status, text)
			}
			return text == `{"result":"ok"}`
		}
	}
	said := func(retain bool) func(user, client, topic string) obj {
		return func(user, client, topic string) obj {
			return obj{"username": user, "client_id": client, "mountpoint": "", "qos": 1, "topic": topic, "payload": "aGVsbG8=", "retain": retain}
		}
	}
	heard := func(user, client, topic string) obj {
		return obj{"username": user, "client_id": client, "mountpoint": "", "topics": []obj{{"topic": topic, "qos": 1}}}
	}
	registered := func(hook string) func(a asking, user, password, client string) (bool, string) {
		return func(a asking, user, password, client string) (bool, string) {
			_, text := a.post("/vernemq/hook", jsonType, object(a.t, obj{"peer_addr": a.peer(), "peer_port": 8888, "username": user, "password": password, "mountpoint": "", "client_id": client, "clean_session": false}), "Vernemq-Hook", hook)
			return text == `{"result":"ok"}`, ""
		}
	}
	return map[string]words{
		"RabbitMQ": {
			keepsMarks: true,
			connect: func(a asking, user, password, client string) (bool, string) {
				status, text := a.post("/rabbitmq/user", formType, form("username", user, "password", password, "vhost", "/", "client_id", client))
				mark, yes := strings.CutPrefix(text, "allow ")
				return yes && status == 200, mark
			},
			publish: rabbit("write"), subscribe: rabbit("read"),
		},
		"Mosquitto": {
			connect: func(a asking, user, password, client string) (bool, string) {
				status, _ := a.post("/mosquitto/user", jsonType, object(a.t, obj{"username": user, "password": password, "clientid": client}))
				return status == 200, ""
			},
			publish: plugin(2), subscribe: plugin(4),
		},
		"EMQX": {
			keepsMarks: true, retains: true, tells: true,
			connect: func(a asking, user, password, client string) (bool, string) {
				status, text := a.post("/emqx/authn", jsonType, object(a.t, obj{"username": user, "password": password, "clientid": client, "peerhost": a.peer()}))
				var v struct {
					Result string
					Attrs  map[string]string `json:"client_attrs"`
					Super  *bool             `json:"is_superuser"`
				}
				if status != 200 || json.Unmarshal([]byte(text), &v) != nil {
					a.t.Errorf("%d %s", status, text)
				}
				return v.Result == "allow" && v.Super != nil && !*v.Super, v.Attrs["ringfence"]
			},
			publish: emqx("publish", "false"), subscribe: emqx("subscribe", ""), publishRetained: emqx("publish", "true"),
		},
		"VerneMQ":           {retains: true, tells: true, connect: registered("auth_on_register"), publish: verne("auth_on_publish", said(false)), subscribe: verne("auth_on_subscribe", heard), publishRetained: verne("auth_on_publish", said(true))},
		"VerneMQ of MQTT 5": {retains: true, tells: true, connect: registered("auth_on_register_m5"), publish: verne("auth_on_publish_m5", said(false)), subscribe: verne("auth_on_subscribe_m5", heard), publishRetained: verne("auth_on_publish_m5", said(true))},
	}
}

func TestEachBrokerIsAnsweredByTheOneRuleInItsOwnWords(t *testing.T) {
	for name, s := range shapes() {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			w := newWorld(t)
			a := asking{t: t, h: w.endpoint()}
			own, other, theirs := w.Acme.Gateway, w.Acme.Other, w.Brook.Gateway
			user, client, second := own.Source.String(), s.client(own)+"-gw", w.Acme.NewKey(own, time.Hour)
			for what, c := range map[string][3]string{
				"a wrong key": {user, "x", client}, "another's key": {user, theirs.Key.Reveal(), client}, "another's name": {other.Source.String(), own.Key.Reveal(), other.Source.String()},
				"another's client id": {user, own.Key.Reveal(), other.Source.String()}, "no client id": {user, own.Key.Reveal(), ""}, "nobody": {"", "", ""},
			} {
				if yes, mark := s.connect(a, c[0], c[1], c[2]); yes || mark != "" && mark != "deny" {
					t.Errorf("%s connects", what)
				}
			}
			for what, unnamed := range map[string]string{"no key": user + "-gw", "a key that is not there": user + "-" + strings.Repeat("0", 22), "another's key": user + "-" + accessor(theirs)} {
				if s.publish(a, user, "", unnamed, own.Up()) {
					t.Errorf("who did not connect publishes, with a client id that names %s", what)
				}
			}
			if !s.keepsMarks {
				for what, unnamed := range map[string]string{"no key": user, "no key but a word": user + "-gw", "another key of its own": user + "-" + accessor(second), "its key and more": client[:len(client)-3] + "x", "another's key": user + "-" + accessor(theirs)} {
					if yes, _ := s.connect(a, user, own.Key.Reveal(), unnamed); yes {
						t.Errorf("a client whose id names %s connects", what)
					}
				}
			}
			yes, mark := s.connect(a, user, own.Key.Reveal(), client)
			if !yes || s.keepsMarks != (mark != "") {
				t.Fatalf("the right key: %v, mark %q", yes, mark)
			}
			for topic, want := range map[string]bool{
				own.Up(): true, own.Up() + "/a/event/up": true, own.Down(): false, other.Up(): false, theirs.Up(): false, own.Up() + "x": false, own.Up() + "/+": false, own.Up() + "/#": false, own.Up() + "//a": false,
				"$SYS/x": false, "#": false, "": false, own.Up() + "/a*": false, own.Up() + "/" + strings.Repeat("x", 300): false,
			} {
				if got := s.publish(a, user, mark, client, topic); got != want {
					t.Errorf("publishes to %q: %v", topic, got)
				}
			}
			for filter, want := range map[string]bool{
				own.Down() + "/#": true, own.Down(): true, own.Down() + "/+/a": true, own.Up() + "/#": false, theirs.Down() + "/#": false, other.Down() + "/#": false, "#": false, "+/#": false, "rf/#": false,
				"$SYS/#": false, "$share/g/" + own.Down() + "/#": false, "$share/g/#": false, strings.Replace(own.Down(), own.Source.String(), "+", 1): false,
			} {
				if got := s.subscribe(a, user, mark, client, filter); got != want {
					t.Errorf("hears %q: %v", filter, got)
				}
			}
			if s.retains && s.publishRetained(a, user, mark, client, own.Up()) {
				t.Error("a retained message is let through")
			}
			if s.publish(a, other.Source.String(), mark, other.Source.String(), other.Up()) || s.publish(a, theirs.Source.String(), mark, theirs.Source.String(), theirs.Up()) {
				t.Error("a mark is good for another source")
			}
			if s.publish(a, user, mark, other.Source.String()+"-gw", own.Up()) {
				t.Error("a client id of another source's publishes")
			}
			if s.keepsMarks && (s.publish(a, user, "", user+"-"+accessor(own), own.Up()) || s.subscribe(a, user, "undefined", user+"-"+accessor(own), own.Down()+"/#")) {
				t.Error("who has no mark, and so was let in by somebody else, is taken for who its client id names")
			}
			elsewhere := asking{t: t, h: w.endpoint()} // another process, or this one after a restart
			if !s.publish(elsewhere, user, mark, client, own.Up()) || !s.subscribe(elsewhere, user, mark, client, own.Down()+"/#") {
				t.Error("another process does not know the client")
			}
			yes, mark2 := s.connect(elsewhere, user, second.Key.Reveal(), s.client(second))
			if !yes {
				t.Error("its second key does not connect")
			}
			w.Acme.Revoke(own)
			if s.publish(elsewhere, user, mark, client, own.Up()) || s.subscribe(elsewhere, user, mark, client, own.Down()+"/#") {
				t.Error("a revoked key publishes at another process")
			}
			if !s.publish(a, user, mark2, s.client(second), own.Up()) {
				t.Error("with its first key the second is revoked")
			}
			if s.publish(a, user, mark, client, own.Up()) || s.subscribe(a, user, mark, client, own.Down()+"/#") {
				t.Error("a revoked key publishes")
			}
			if yes, _ := s.connect(a, user, own.Key.Reveal(), client); yes {
				t.Error("a revoked key connects")
			}
			if strings.Contains(w.log.text(), own.Key.Reveal()) || strings.Contains(w.log.text(), brokers) {
				t.Error("the log holds a secret")
			}
		})
	}
}

func TestWhoIsNoBrokerIsAnsweredNo(t *testing.T) {
	w := newWorld(t)
	own := w.Acme.Gateway
	body := form("username", own.Source.String(), "password", own.Key.Reveal(), "vhost", "/", "client_id", own.Source.String())
	ask := func(h http.Handler, path string, header string, state *tls.ConnectionState) (int, string) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", formType)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		r.TLS = state
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	word := "abcdefghijklmnopqrstuvwxyz0123"
	e := w.again(brokerauth.Options{Secret: secret.New(word)})
	for _, c := range []struct {
		path, header string
		yes          bool
	}{
		{"/rabbitmq/user", "Bearer " + word, true}, {"/" + word + "/rabbitmq/user", "", true},
		{"/rabbitmq/user", "", false}, {"/rabbitmq/user", "Bearer ", false}, {"/rabbitmq/user", "Bearer " + word[1:], false}, {"/rabbitmq/user", word, false},
		{"/" + word + "x/rabbitmq/user", "", false}, {"/" + word[1:] + "/rabbitmq/user", "Bearer " + word, false}, {"//rabbitmq/user", "", false},
	} {
		status, text := ask(e, c.path, c.header, nil)
		if status != 200 || strings.HasPrefix(text, "allow") != c.yes || !c.yes && text != "deny" {
			t.Errorf("%s %s: %d %s", c.path, c.header, status, text)
		}
	}
	for _, path := range []string{"/", "/rabbitmq", "/rabbitmq/other", "/" + word + "/rabbitmq/user/x", "/kafka/user", "/rabbitmq/user?x=1"} {
		if status, _ := ask(e, path, "Bearer "+word, nil); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	byCertificate := w.again(brokerauth.Options{})
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		yes   bool
	}{"plain": {nil, false}, "TLS": {&tls.ConnectionState{}, false}, "certificate": {&tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}, true}} {
		if _, text := ask(byCertificate, "/rabbitmq/user", "", c.state); strings.HasPrefix(text, "allow") != c.yes {
			t.Errorf("%s: %s", name, text)
		}
	}
	if _, err := brokerauth.New(brokerauth.Options{Secret: secret.New("short")}); err == nil {
		t.Error("a short secret is taken")
	}
}

func TestWhatIsUnclearIsAnsweredNo(t *testing.T) {
	w := newWorld(t)
	a := asking{t: t, h: w.endpoint()}
	own := w.Acme.Gateway
	user := own.Source.String()
	yes, mark := shapes()["RabbitMQ"].connect(a, user, own.Key.Reveal(), user)
	if !yes {
		t.Fatal("the right key does not connect")
	}
	topic := func(change ...string) string {
		v := url.Values{"username": {user}, "vhost": {"/"}, "resource": {"topic"}, "name": {"amq.topic"}, "permission": {"write"}, "tags": {mark}, "routing_key": {strings.ReplaceAll(own.Up(), "/", ".")}, "variable_map.client_id": {user}, "variable_map.username": {user}}
		for i := 0; i+1 < len(change); i += 2 {
			v.Set(change[i], change[i+1])
		}
		return v.Encode()
	}
	resource := func(client string, change ...string) string {
		v := url.Values{"username": {user}, "vhost": {"/"}, "resource": {"queue"}, "name": {"mqtt-subscription-" + client + "qos1"}, "permission": {"read"}, "tags": {mark}, "client_id": {client}}
		for i := 0; i+1 < len(change); i += 2 {
			v.Set(change[i], change[i+1])
		}
		return v.Encode()
	}
	for name, c := range map[string]struct {
		path, kind, body string
		yes              bool
	}{
		"as it should be":            {"topic", formType, topic(), true},
		"a slash that nobody makes":  {"topic", formType, topic("routing_key", own.Up()), false},
		"a plus that nobody makes":   {"topic", formType, topic("permission", "read", "routing_key", strings.ReplaceAll(own.Down(), "/", ".")+".+"), false},
		"its wildcard, published":    {"topic", formType, topic("routing_key", strings.ReplaceAll(own.Up(), "/", ".")+".*"), false},
		"another exchange":           {"topic", formType, topic("name", "other"), false},
		"another vhost":              {"topic", formType, topic("vhost", "other"), false},
		"another permission":         {"topic", formType, topic("permission", "configure"), false},
		"no client id, as AMQP asks": {"topic", formType, topic("variable_map.client_id", ""), false},
		"no mark":                    {"topic", formType, topic("tags", ""), false},
		"an administrator's tag":     {"topic", formType, topic("tags", "administrator"), false},
		"a name twice":               {"topic", formType, topic() + "&username=" + user, false},
		"NUL":                        {"topic", formType, topic("routing_key", strings.ReplaceAll(own.Up(), "/", ".")+".\x00"), false},
		"bytes of no text":           {"topic", formType, topic("routing_key", strings.ReplaceAll(own.Up(), "/", ".")+".\xff"), false},
		"JSON for a form":            {"topic", jsonType, `{}`, false},
		"a form that is none":        {"topic", formType, "%zz", false},
		"too much":                   {"topic", formType, topic("x", strings.Repeat("x", 20<<10)), false},
		"its own queue":              {"resource", formType, resource(user), true},
		"its own queue of QoS 7":     {"resource", formType, resource(user, "name", "mqtt-subscription-"+user+"qos7"), false},
		"another's queue":            {"resource", formType, resource(user, "name", "mqtt-subscription-"+w.Brook.Gateway.Source.String()+"qos1"), false},
		"another's client id":        {"resource", formType, resource(w.Brook.Gateway.Source.String()), false},
		"the exchange":               {"resource", formType, resource(user, "resource", "exchange", "name", "amq.topic"), true},
		"the exchange itself":        {"resource", formType, resource(user, "resource", "exchange", "name", "amq.topic", "permission", "configure"), false},
		"another exchange's":         {"resource", formType, resource(user, "resource", "exchange", "name", ""), false},
		"a login by AMQP":            {"user", formType, form("username", user, "password", own.Key.Reveal(), "vhost", "/"), false},
	} {
		status, text := a.post("/rabbitmq/"+c.path, c.kind, c.body)
		if status != 200 || text != map[bool]string{true: "allow", false: "deny"}[c.yes] {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	for name, c := range map[string]struct{ path, kind, body, want string }{
		"no JSON":             {"/emqx/authz", jsonType, `{`, `{"result":"deny"}`},
		"a member twice":      {"/emqx/authn", jsonType, `{"username":"a","username":"b"}`, `{"result":"deny"}`},
		"another action":      {"/emqx/authz", jsonType, object(t, obj{"username": user, "clientid": user, "action": "all", "topic": own.Up(), "mark": mark}), `{"result":"deny"}`},
		"a flag that is odd":  {"/emqx/authz", jsonType, object(t, obj{"username": user, "clientid": user, "action": "publish", "topic": own.Up(), "mark": mark, "retain": "maybe"}), `{"result":"deny"}`},
		"a superuser":         {"/mosquitto/superuser", jsonType, object(t, obj{"username": user}), "no"},
		"no hook":             {"/vernemq/hook", jsonType, `{}`, `{"result":{"error":"not_allowed"}}`},
		"both ways at once":   {"/mosquitto/acl", jsonType, object(t, obj{"username": user, "clientid": user, "topic": own.Up(), "acc": 3}), "no"},
		"of a form, as told":  {"/mosquitto/user", formType, form("username", user, "password", own.Key.Reveal(), "clientid", user+"-"+accessor(own)), "ok"},
		"of a form, not told": {"/mosquitto/user", formType, form("username", user, "password", "x", "clientid", user+"-"+accessor(own)), "no"},
	} {
		if _, text := a.post(c.path, c.kind, c.body); text != c.want {
			t.Errorf("%s: %s", name, text)
		}
	}
	if status, _ := (asking{t: t, h: w.endpoint()}).post("/mosquitto/acl", jsonType, object(t, obj{"username": user, "clientid": user, "topic": own.Up(), "acc": 2})); status != http.StatusServiceUnavailable {
		t.Errorf("a client that nobody let in: %d: Mosquitto would acknowledge what it drops", status)
	}
}

func TestQuestionsAreBoundedAndCounted(t *testing.T) {
	w := newWorld(t)
	e := w.again(brokerauth.Options{Secret: secret.New(brokers), Rate: 40, Limiter: memlimit.New(still, 1000)})
	a, own := asking{t: t, h: e}, w.Acme.Gateway
	allowed := 0
	for range 50 {
		if yes, _ := shapes()["RabbitMQ"].connect(a, own.Source.String(), own.Key.Reveal(), own.Source.String()); yes {
			allowed++
		}
	}
	if c := e.Counts(); allowed != 20 || c[`ringfence_broker_questions_total{answer="allow"}`] != int64(allowed) || c[`ringfence_broker_questions_total{answer="limited"}`] != int64(50-allowed) {
		t.Errorf("%d of 50 at 40 a second for all, of which half may be one's at once: %v", allowed, c)
	}
}
