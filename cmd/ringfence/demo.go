package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/auditverify"
	"github.com/ringfence/ringfence/adapters/mochibroker"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
)

type demoCmd struct {
	Keep bool `help:"Leave the server running and print the logins."`
}

// Run shows the product through its public API: a server in a temporary folder, two tenants, an attack, a hostile decoder,
// and the audit log verified. Exit code 0 only if all of it went as told.
func (d demoCmd) Run(ctx context.Context, env environment) error {
	dir, err := os.MkdirTemp("", "ringfence-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	conf, err := loadConfig(os.DevNull, []string{"data=" + filepath.Join(dir, "data"), "listen=127.0.0.1:0", "mqtt=true", "mqtt_listen=127.0.0.1:0", "metrics_listen=", "log_level=error"}, environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		return err
	}
	app, err := wire(ctx, conf, env.stderr)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var greeting bytes.Buffer
	ready, over := make(chan string, 1), make(chan error, 1)
	go func() { over <- app.serve(running, conf, &greeting, func(a string) { ready <- a }) }()
	var base string
	select {
	case a := <-ready:
		base = "http://" + a
	case err := <-over:
		return err
	}
	s := &story{ctx: ctx, dir: dir, base: base, mqtt: app.mqtt, out: env.stdout, colour: isTerminal(env.stdout), client: &http.Client{Timeout: 20 * time.Second}}
	if _, no := env.lookup("NO_COLOR"); no {
		s.colour = false
	}
	token := regexp.MustCompile(`rf_set_[0-9A-Za-z]+`).FindString(greeting.String())
	err = s.tell(token)
	if err == nil && d.Keep {
		fmt.Fprintf(env.stdout, "\nThe server goes on at %s until you press Ctrl-C. Sign in as:\n%s", base, s.logins.String())
		<-ctx.Done()
	}
	stop()
	err = errors.Join(err, <-over)
	if err == nil && s.failed > 0 {
		fmt.Fprintf(env.stdout, "\n%d of %d steps did not go as told.\n", s.failed, s.steps)
		return errNo
	}
	if err == nil {
		fmt.Fprintf(env.stdout, "\nAll %d steps went as told.\n", s.steps)
	}
	return err
}

// story is the demo's client of the public API.
type story struct {
	ctx           context.Context //nolint:containedctx // one command
	dir, base     string
	mqtt          string // where the broker listens
	out           io.Writer
	colour        bool
	client        *http.Client
	steps, failed int
	logins        strings.Builder
	header        map[string]string // of the next requests
}

func (s *story) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.colour {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	fmt.Fprintf(s.out, "\n%s\n", text)
}

// step tells one thing and whether it went as it should.
func (s *story) step(ok bool, format string, args ...any) {
	s.steps++
	mark := "ok "
	if !ok {
		mark = "NO "
		s.failed++
	}
	if s.colour {
		mark = map[bool]string{true: "\x1b[32m", false: "\x1b[31m"}[ok] + mark + "\x1b[0m"
	}
	fmt.Fprintf(s.out, "  %s %s\n", mark, fmt.Sprintf(format, args...))
}

const demoPassword = "four random words here"

// demoTenant is what the demo builds of one tenant.
type demoTenant struct {
	name, id, root, owner, token string
	site, decoder, device        string
	second, viewer               string
	hostile, hostileDevice       string
	source, key                  string
	devEUI                       string
}

const goodDecoder = `function decodeUplink(input) {
  var b = input.bytes;
  return { data: { celsius: ((b[0] << 8) | b[1]) / 100, humidity: b[2], label: input.variables.label } };
}`

const evilDecoder = `var stolen = []; function decodeUplink(input) { stolen.push(input); while (true) { Array(1e6).fill(stolen).join("-"); } }`

func (s *story) tell(setup string) error {
	s.title("A platform with two customers")
	admin, err := s.platform(setup)
	if err != nil {
		return err
	}
	a, err := s.tenant(admin, "Acme Water", "ana@acme.example")
	if err != nil {
		return err
	}
	b, err := s.tenant(admin, "Brook Energy", "ben@brook.example")
	if err != nil {
		return err
	}
	for _, t := range []*demoTenant{a, b} {
		if err := s.grown(t); err != nil {
			return err
		}
	}
	s.title("Events in, readings out")
	if err := s.events(a, b); err != nil {
		return err
	}
	s.title("%s tries to reach what is %s's", b.name, a.name)
	if err := s.attack(a, b); err != nil {
		return err
	}
	s.title("A decoder that never ends")
	if err := s.hostile(a, b); err != nil {
		return err
	}
	s.title("The audit log proves itself")
	return s.audit(a)
}

func (s *story) platform(setup string) (string, error) {
	if _, err := s.must(s.post("", "/v1/auth/setup", obj{"token": setup, "email": "operator@platform.example", "name": "Olga", "password": demoPassword}), 201); err != nil {
		return "", err
	}
	s.step(true, "The setup link makes Olga the platform's administrator")
	if again := s.post("", "/v1/auth/setup", obj{"token": setup, "email": "x@platform.example", "name": "X", "password": demoPassword}); again.err == nil {
		s.step(again.status == 404, "The same link opens nothing a second time (%d)", again.status)
	}
	return s.login("operator@platform.example")
}

func (s *story) login(email string) (string, error) {
	r, err := s.must(s.post("", "/v1/auth/login", obj{"email": email, "password": demoPassword, "mode": "token"}), 200)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&s.logins, "  %-28s %s\n", email, demoPassword)
	return r.str("access_token"), nil
}

func (s *story) tenant(admin, name, email string) (*demoTenant, error) {
	r, err := s.must(s.post(admin, "/v1/platform/tenants", obj{"name": name, "owner_email": email}), 201)
	if err != nil {
		return nil, err
	}
	t := &demoTenant{name: name, id: r.str("id"), root: r.str("root_node_id"), owner: email, devEUI: "70b3d57ed0000001"}
	if _, err := s.must(s.post("", "/v1/auth/invitations/accept", obj{"token": r.at("owner_invitation").str("secret"), "name": email[:3], "password": demoPassword}), 201); err != nil {
		return nil, err
	}
	if t.token, err = s.login(email); err != nil {
		return nil, err
	}
	at := "/v1/tenants/" + t.id
	site, err := s.must(s.post(t.token, at+"/nodes", obj{"parent_id": t.root, "kind": "site", "name": "North"}), 201)
	if err != nil {
		return nil, err
	}
	t.site = site.str("id")
	if t.decoder, err = s.decoder(t, "climate", goodDecoder); err != nil {
		return nil, err
	}
	dev, err := s.must(s.post(t.token, at+"/devices", obj{"name": "sensor", "node_id": t.site, "decoder_id": t.decoder,
		"addresses": []obj{{"kind": "dev_eui", "value": t.devEUI}}, "variables": []obj{{"name": "label", "value": name}}}), 201)
	if err != nil {
		return nil, err
	}
	t.device = dev.str("id")
	src, err := s.must(s.post(t.token, at+"/sources", obj{"name": "network server", "format": "chirpstack"}), 201)
	if err != nil {
		return nil, err
	}
	t.source = src.str("id")
	key, err := s.must(s.post(t.token, at+"/sources/"+t.source+"/keys", obj{"name": "first"}), 201)
	if err != nil {
		return nil, err
	}
	t.key = key.str("secret")
	s.step(true, "%s: an owner, a site, a decoder, a device %s, a source with its key", name, t.devEUI)
	return t, nil
}

const secondEUI = "70b3d57ed0000002"

// grown adds to a tenant a building below its site with a device of its own, and somebody who may look and no more.
func (s *story) grown(t *demoTenant) error {
	at := "/v1/tenants/" + t.id
	building, err := s.must(s.post(t.token, at+"/nodes", obj{"parent_id": t.site, "kind": "building", "name": "Pump house"}), 201)
	if err != nil {
		return err
	}
	dev, err := s.must(s.post(t.token, at+"/devices", obj{"name": "pump", "node_id": building.str("id"), "decoder_id": t.decoder, "addresses": []obj{{"kind": "dev_eui", "value": secondEUI}}}), 201)
	if err != nil {
		return err
	}
	t.second = dev.str("id")
	roles, err := s.must(s.get(t.token, at+"/roles"), 200)
	if err != nil {
		return err
	}
	role := slices.IndexFunc(roles.list("items"), func(r obj) bool { return r["name"] == "viewer" })
	if role < 0 {
		return errors.New("there is no role viewer")
	}
	email := "vera" + t.owner[strings.Index(t.owner, "@"):]
	inv, err := s.must(s.post(t.token, at+"/invitations", obj{"email": email, "role_id": roles.list("items")[role]["id"], "node_id": building.str("id"), "recursive": true}), 201)
	if err != nil {
		return err
	}
	if _, err := s.must(s.post("", "/v1/auth/invitations/accept", obj{"token": inv.str("secret"), "name": "Vera", "password": demoPassword}), 201); err != nil {
		return err
	}
	if t.viewer, err = s.login(email); err != nil {
		return err
	}
	seen, err := s.must(s.get(t.viewer, at+"/devices"), 200)
	if err != nil {
		return err
	}
	renamed := s.call(http.MethodPatch, t.viewer, at+"/devices/"+t.second, obj{"name": "mine"}, `"1"`)
	items := seen.list("items")
	s.step(len(items) == 1 && items[0]["id"] == t.second && renamed.status == 403,
		"%s: a building below the site, a device %s in it, and Vera, invited to look there: she sees that one of 2 devices, and may not rename it (%d)", t.name, secondEUI, renamed.status)
	return renamed.err
}

func (s *story) decoder(t *demoTenant, name, source string) (string, error) {
	at := "/v1/tenants/" + t.id + "/decoders"
	d, err := s.must(s.post(t.token, at, obj{"name": name}), 201)
	if err != nil {
		return "", err
	}
	id := d.str("id")
	v, err := s.must(s.post(t.token, at+"/"+id+"/versions", obj{"source": source}), 201)
	if err != nil {
		return "", err
	}
	now, err := s.must(s.get(t.token, at+"/"+id), 200)
	if err != nil {
		return "", err
	}
	_, err = s.must(s.call(http.MethodPost, t.token, at+"/"+id+"/activate", obj{"version_id": v.str("id")}, now.header.Get("ETag")), 200)
	return id, err
}

const eventsEach = 150

func (s *story) events(a, b *demoTenant) error {
	for _, t := range []*demoTenant{a, b} {
		for n := range eventsEach {
			if err := s.uplink(t, t.devEUI, n); err != nil {
				return err
			}
		}
		if err := s.publish(t, t, secondEUI, 0); err != nil {
			return err
		}
	}
	again := s.post(a.key, "/v1/ingest/chirpstack", chirpStack(a.id, a.devEUI, 0))
	if again.err != nil {
		return again.err
	}
	s.step(again.status == 202 && again.body["duplicate"] == true, "%d events each of one device over HTTP and one of the other over MQTT, acknowledged when durable; one sent twice is a duplicate", eventsEach)
	for _, t := range []*demoTenant{a, b} {
		count, err := s.readings(t, t.device, eventsEach)
		if err != nil {
			return err
		}
		latest, err := s.must(s.get(t.token, "/v1/tenants/"+t.id+"/devices/"+t.device+"/latest"), 200)
		if err != nil {
			return err
		}
		other, err := s.readings(t, t.second, 1)
		if err != nil {
			return err
		}
		s.step(count == eventsEach && other == 1 && latest.at("data").str("label") == t.name, "%s has %d readings and %d; the latest: %s", t.name, count, other, latest.raw("data"))
	}
	return nil
}

func (s *story) uplink(t *demoTenant, eui string, n int) error {
	_, err := s.must(s.post(t.key, "/v1/ingest/chirpstack", chirpStack(t.id, eui, n)), 202)
	return err
}

// publish sends an event of a tenant's device over MQTT, to the topic of some tenant's source.
func (s *story) publish(t, to *demoTenant, eui string, n int) error {
	topics, err := source.ParseUp("rf/" + to.id + "/" + to.source + "/up")
	if err != nil {
		return err
	}
	from, err := source.ParseUp("rf/" + t.id + "/" + t.source + "/up")
	if err != nil {
		return err
	}
	body, err := json.Marshal(chirpStack(t.id, eui, n))
	if err != nil {
		return err
	}
	return mochibroker.Say(s.ctx, s.mqtt, from.Source, secret.New(t.key), topics.Up(), body)
}

func chirpStack(tenant, eui string, n int) obj {
	return obj{
		"deduplicationId": fmt.Sprintf("%s-%s-%d", tenant[len(tenant)-6:], eui, n), "time": time.Now().UTC().Format(time.RFC3339Nano),
		"deviceInfo": obj{"tenantId": "ignored", "applicationId": "app", "devEui": eui}, "devAddr": "00aa11bb", "fCnt": n, "fPort": 2,
		"data": "CL4u", "rxInfo": []obj{{"gatewayId": "0016c001f153a14c", "rssi": -57}},
	}
}

// readings waits until a device has as many readings as are expected, or time is up.
func (s *story) readings(t *demoTenant, device string, want int) (int, error) {
	return s.wait(want, func() (int, error) {
		n, cursor := 0, ""
		for {
			r, err := s.must(s.get(t.token, "/v1/tenants/"+t.id+"/readings?limit=200&device_id="+device+cursor), 200)
			if err != nil {
				return 0, err
			}
			n += len(r.list("items"))
			next, _ := r.body["next_cursor"].(string)
			if next == "" {
				return n, nil
			}
			cursor = "&cursor=" + next
		}
	})
}

func (s *story) wait(want int, count func() (int, error)) (int, error) {
	deadline := time.NewTimer(time.Minute) // no promise of how soon: the machine may do much else
	tick := time.NewTicker(100 * time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		n, err := count()
		if err != nil || n >= want {
			return n, err
		}
		select {
		case <-deadline.C:
			return n, nil
		case <-tick.C:
		}
	}
}

func (s *story) attack(a, b *demoTenant) error {
	theirs, own := "/v1/tenants/"+a.id, "/v1/tenants/"+b.id
	missing := s.get(b.token, own+"/devices/dev_06ethoo0000000000000000000")
	for _, try := range []struct {
		what   string
		r      reply
		status int
	}{
		{"read the other tenant", s.get(b.token, theirs), 404},
		{"list its devices", s.get(b.token, theirs+"/devices"), 404},
		{"read its device by id in one's own tenant", s.get(b.token, own+"/devices/"+a.device), 404},
		{"change its device", s.call(http.MethodPatch, b.token, theirs+"/devices/"+a.device, obj{"name": "mine"}, `"1"`), 404},
		{"delete its decoder", s.call(http.MethodDelete, b.token, theirs+"/decoders/"+a.decoder, nil, `"1"`), 404},
		{"run its decoder for one's own device", s.call(http.MethodPatch, b.token, own+"/devices/"+b.device, obj{"decoder_id": a.decoder}, `"1"`), 422},
		{"assign one's device to its site", s.call(http.MethodPost, b.token, own+"/devices/"+b.device+"/assign", obj{"node_id": a.site}, `"1"`), 422},
		{"grant oneself a role at its site", s.post(b.token, own+"/memberships", obj{"principal_id": "usr_06ethoo0000000000000000000", "role_id": "rol_068000000001o1000000000004", "node_id": a.site}), 422},
		{"filter readings by its device", s.get(b.token, own+"/readings?device_id="+a.device), 200},
		{"make a key for its source", s.post(b.token, theirs+"/sources/"+a.source+"/keys", obj{"name": "x"}), 404},
		{"read its audit log", s.get(b.token, theirs+"/audit/entries"), 404},
		{"administer the platform", s.get(b.token, "/v1/platform/tenants"), 403},
		{"use its ingestion key to read its devices", s.get(a.key, theirs+"/devices"), 403},
	} {
		if try.r.err != nil {
			return try.r.err
		}
		empty := try.r.status != 200 || len(try.r.list("items")) == 0
		told := try.r.code()
		if try.r.status == 200 && empty {
			told = "an empty answer"
		}
		s.step(try.r.status == try.status && empty && !strings.Contains(try.r.text, a.name), "%-45s %d %s", try.what, try.r.status, told)
	}
	var refused mochibroker.Refused
	if err := s.publish(b, a, b.devEUI, 1); err != nil && !errors.As(err, &refused) {
		return err
	}
	s.step(refused.Reason == 0x87, "%-45s 0x%02x not authorized", "publish to its topic, over MQTT", refused.Reason)
	foreign := s.get(b.token, own+"/devices/"+a.device)
	s.step(foreign.without("request_id") == missing.without("request_id"), "a foreign device and one that never was are answered alike")
	r := s.post(a.key, "/v1/ingest/chirpstack", chirpStack(a.id, "70b3d57ed00000ff", 1))
	if r.err != nil {
		return r.err
	}
	n, err := s.wait(1, func() (int, error) {
		q, err := s.must(s.get(a.token, theirs+"/quarantine"), 200)
		return len(q.list("items")), err
	})
	s.step(n == 1 && r.status == 202, "an event of an unknown device waits in quarantine")
	return err
}

func (s *story) hostile(a, b *demoTenant) error {
	var err error
	if b.hostile, err = s.decoder(b, "hostile", evilDecoder); err != nil {
		return err
	}
	dev, err := s.must(s.post(b.token, "/v1/tenants/"+b.id+"/devices", obj{"name": "bad", "decoder_id": b.hostile, "addresses": []obj{{"kind": "dev_eui", "value": "70b3d57ed0000666"}}}), 201)
	if err != nil {
		return err
	}
	b.hostileDevice = dev.str("id")
	for n := range 3 {
		if err := s.uplink(b, "70b3d57ed0000666", n); err != nil {
			return err
		}
		if err := s.uplink(a, a.devEUI, eventsEach+n); err != nil {
			return err
		}
	}
	var category string
	stopped, err := s.wait(3, func() (int, error) {
		r, err := s.must(s.get(b.token, "/v1/tenants/"+b.id+"/outcomes?device_id="+b.hostileDevice), 200)
		if items := r.list("items"); len(items) > 0 {
			category, _ = items[0]["category"].(string)
		}
		return len(r.list("items")), err
	})
	if err != nil {
		return err
	}
	s.step(stopped == 3 && (category == "fuel" || category == "memory"), "each of its runs was stopped: %s", category)
	d, err := s.must(s.get(b.token, "/v1/tenants/"+b.id+"/decoders/"+b.hostile), 200)
	if err != nil {
		return err
	}
	s.step(d.str("quarantined_until") != "", "after three failures in a row the version is quarantined until %s", d.str("quarantined_until"))
	n, err := s.readings(a, a.device, eventsEach+3)
	s.step(n == eventsEach+3, "the neighbour's events were decoded meanwhile: %d readings", n)
	return err
}

func (s *story) audit(a *demoTenant) error {
	at := "/v1/tenants/" + a.id + "/audit"
	point, err := s.must(s.get(a.token, at+"/checkpoint"), 200)
	if err != nil {
		return err
	}
	bundle := s.get(a.token, at+"/bundle")
	if bundle.err != nil || bundle.status != 200 {
		return fmt.Errorf("export: %d: %w", bundle.status, bundle.err)
	}
	policy, good, bad := filepath.Join(s.dir, "policy.txt"), filepath.Join(s.dir, "audit.tar"), filepath.Join(s.dir, "tampered.tar")
	text := []byte(bundle.text)
	for file, content := range map[string][]byte{policy: []byte(point.str("policy")), good: text} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return err
		}
	}
	var told bytes.Buffer
	code := auditverify.Main([]string{good, "--policy", policy}, nil, &told, &told)
	line, _, _ := strings.Cut(told.String(), "\n")
	s.step(code == 0, "the exported log of %s verifies without the server: %s", a.name, line)
	i := bytes.Index(text, []byte("device_created"))
	if i < 0 {
		return errors.New("the export holds no device_created")
	}
	text[i] ^= 1
	if err := os.WriteFile(bad, text, 0o600); err != nil {
		return err
	}
	told.Reset()
	code = auditverify.Main([]string{bad, "--policy", policy}, nil, &told, &told)
	line, _, _ = strings.Cut(told.String(), "\n")
	s.step(code == 1, "one byte changed in a copy: %s", line)
	return nil
}
