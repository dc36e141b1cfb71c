package redacttest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/core/credential"
)

// sweep puts secrets into every part of a request to every route. Where a text would be kept as the name that it is sent as,
// the rest of the request is wrong, so that nothing is kept.
func (c *check) sweep(w *world) {
	for _, o := range c.operations {
		c.bodies(w, o)
		c.paths(w, o)
		c.queries(w, o)
		c.headers(w, o)
		c.malformed(w, o)
	}
	c.tokens(w)
	c.pages(w)
	c.brokers(w)
}

// brokers shows secrets where clients of MQTT show them, good ones too.
func (c *check) brokers(w *world) {
	if c.target.Brokers == nil {
		return
	}
	for _, t := range w.tenants {
		of := t.ids["source"]
		c.target.Brokers(of, t.key.token, of, c.secret("the will of an MQTT client"))
		c.target.Brokers(of, t.key.token, c.secret("the client id of an MQTT client"), c.secret("the will of an MQTT client that is refused"))
		for range c.many(10) {
			c.target.Brokers(of, c.minted(credential.KindIngestion, "an ingestion key that is nobody's, over MQTT"), of, "")
			c.target.Brokers(of, c.secret("the password of an MQTT client"), of, "")
			c.target.Brokers(c.secret("the user name of an MQTT client"), c.minted(credential.KindAccess, "an access token over MQTT"), c.plainSecret("the client id of an MQTT client"), "")
		}
	}
}

// caller is who may do an operation, and where. What could be done by an empty request is asked of what is nobody's.
func (w *world) caller(o operation) (who, ids) {
	t := w.tenants[0]
	harmless := o.method == http.MethodGet || o.body || o.match
	switch {
	case o.name == "logOut":
		return who{name: "nobody"}, nil
	case o.tenantFrom == "credential":
		return t.key, nil
	case o.tenantFrom == "platform" && !harmless:
		return w.admin, nil
	case o.tenantFrom == "platform" && strings.Contains(o.path, "/persons/"):
		return w.admin, ids{"id": w.person}
	case o.tenantFrom == "platform":
		return w.admin, ids{"id": w.tenants[1].ids["tenant"]}
	case o.public:
		return who{name: "nobody"}, nil
	case !harmless:
		return t.owner, nil
	}
	return t.owner, t.ids
}

// kept are fields whose text is kept as it is sent, so that a request with a secret there must fail for another reason.
var kept = []string{"name", "email", "owner_email", "value", "csv", "source", "payload", "payload_hex", "application", "application_ids", "id", "device", "data", "deduplicationId", "devEui", "applicationId",
	"dev_eui", "device_id", "application_id", "frm_payload", "devAddr", "session_key_id"}

func (c *check) bodies(w *world, o operation) {
	by, at := w.caller(o)
	send := func(body any) {
		c.send(by, o.name, request{method: o.method, path: c.fill(o, at), body: body, header: http.Header{"If-Match": {`"999"`}, "Idempotency-Key": {c.headerSecret("Idempotency-Key of " + o.name)}}})
	}
	unknown := func(body any) any {
		m, ok := body.(object)
		if !ok {
			return body
		}
		m = maps.Clone(m)
		m[c.secret("the name of an unknown field of "+o.name)] = c.secret("an unknown field of " + o.name)
		return m
	}
	if !o.body {
		if o.method != http.MethodGet && o.tenantFrom != "nobody" {
			send(object{c.secret("a body of " + o.name): c.secret("a body of " + o.name)})
		}
		return
	}
	send(unknown(o.example))
	walk(o.example, "", func(pointer, field string, set func(any) any) {
		place := pointer + " of " + o.name
		send(unknown(set(c.secret(place))))
		send(unknown(set(object{c.secret(place): []string{c.secret(place)}})))
		send(unknown(set([]any{[]any{c.secret(place)}})))
		if !slices.Contains(kept, field) && !(o.tenantFrom == "credential" && field == "id") {
			send(set(c.secret(place)))
		}
	})
}

// walk calls do for every value of a document, each with what makes the document anew with another value there.
func walk(v any, pointer string, do func(pointer, field string, set func(any) any)) {
	var into func(v any, pointer, field string, set func(any) any)
	into = func(v any, pointer, field string, set func(any) any) {
		switch v := v.(type) {
		case object:
			if pointer != "" {
				do(pointer, field, set)
			}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				into(v[k], pointer+"/"+k, k, func(x any) any {
					m := maps.Clone(v)
					m[k] = x
					return set(m)
				})
			}
		case []any:
			do(pointer, field, set)
			for i := range v {
				into(v[i], fmt.Sprint(pointer, "/", i), field, func(x any) any {
					s := slices.Clone(v)
					s[i] = x
					return set(s)
				})
			}
		default:
			do(pointer, field, set)
		}
	}
	into(v, pointer, "", func(x any) any { return x })
}

func (c *check) paths(w *world, o operation) {
	by, at := w.caller(o)
	for _, param := range o.params {
		for _, text := range []string{c.plainSecret("{" + param + "} of " + o.name), url.PathEscape(c.secret("{" + param + "} of " + o.name)), "ten_" + c.plainSecret("{"+param+"} of "+o.name)} {
			all := ids{}
			maps.Copy(all, at)
			all[param] = text
			c.send(by, o.name, request{method: o.method, path: c.fill(o, all), header: http.Header{"If-Match": {`"1"`}}})
		}
	}
}

func (c *check) queries(w *world, o operation) {
	by, at := w.caller(o)
	path := c.fill(o, at)
	ask := func(query string) {
		method := o.method
		c.send(by, o.name, request{method: method, path: path + "?" + query, body: []byte("{"), header: http.Header{"If-Match": {`"999"`}}})
		if method == http.MethodGet {
			c.send(by, o.name, request{method: method, path: path + "?" + query})
		}
	}
	for _, name := range o.queries {
		ask(name + "=" + url.QueryEscape(c.secret(name+" in the query of "+o.name)))
		ask(name + "=" + c.plainSecret(name+" in the query of "+o.name))
	}
	ask("access_token=" + c.plainSecret("access_token in the query of "+o.name))
	ask(c.plainSecret("the name of a parameter of "+o.name) + "=" + url.QueryEscape(c.secret("an unknown parameter of "+o.name)))
	ask("a=%zz" + c.plainSecret("a broken query of "+o.name))
}

func (c *check) headers(w *world, o operation) {
	by, at := w.caller(o)
	q := request{method: o.method, path: c.fill(o, at)}
	place := func(header string) string { return header + " of " + o.name }
	as := func(header http.Header) {
		q.header = header
		c.send(who{name: "nobody"}, o.name, q)
	}
	as(http.Header{"Authorization": {"Bearer " + c.headerSecret(place("Authorization"))}})
	as(http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+c.headerSecret(place("Authorization, basic"))))}})
	as(http.Header{"Authorization": {"Digest response=" + c.headerSecret(place("Authorization, digest")), "Bearer " + c.plainSecret(place("Authorization, twice"))}})
	as(http.Header{"Cookie": {"__Host-sid=" + c.plainSecret(place("Cookie")) + "; other=" + c.plainSecret(place("Cookie, another"))}})
	// And beside a good credential. What could change something is not readable.
	q.header = http.Header{}
	for _, name := range []string{"X-Api-Key", "Api-Key", "Idempotency-Key", "If-Match", "If-None-Match", "Traceparent", "Tracestate", "Baggage", "User-Agent", "Referer", "Origin", "Accept", "Accept-Language", "X-Request-Id",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "X-Csrf-Token", "X-Tenant-Id", "X-Auth-Token", "Proxy-Authorization", "Range", "Via", "Last-Event-Id"} {
		q.header.Set(name, c.headerSecret(place(name)))
	}
	q.header.Set("X-"+c.plainSecret("the name of a header of "+o.name), "1")
	if o.method != http.MethodGet {
		q.body = []byte(`{"a":`)
	}
	c.send(by, o.name, q)
	for _, name := range []string{"Content-Type", "Content-Encoding", "Traceparent", "Sec-Fetch-Site"} {
		one := request{method: q.method, path: q.path, body: []byte(`{"a":`), header: http.Header{name: {c.headerSecret(place(name + ", alone"))}}}
		if name == "Traceparent" {
			one.header.Set(name, "00-"+c.plainSecret(place(name))+c.plainSecret(place(name))+"-0123456789abcdef-01")
		}
		c.send(by, o.name, one)
	}
}

// malformed sends bodies that are no JSON, or not ours.
func (c *check) malformed(w *world, o operation) {
	if o.method == http.MethodGet || o.name == "logOut" {
		return
	}
	by, at := w.caller(o)
	if !o.body && !o.match {
		at = nil
	}
	for i, form := range []string{`{"password":"%s"`, `{"%s":1,"%[1]s":2}`, `%s`, `["%s"]`, `"%s"`, "{\"token\":\"%s\xff\"}", `{"a":"%s"} {"b":1}`, `{"a":"\u%s"}`, `{"a":nul%s}`, `{"a":1e%s}`, "\x00%s", `<a>%s</a>`, strings.Repeat(`{"a":`, 60) + `"%s"`} {
		place := fmt.Sprintf("malformed body %d of %s", i, o.name)
		text := c.plainSecret(place)
		if i%2 == 0 {
			text = c.headerSecret(place)
		}
		c.send(by, o.name, request{method: o.method, path: c.fill(o, at), body: fmt.Appendf(nil, form, text), header: http.Header{"If-Match": {`"999"`}}})
	}
}

// tokens shows credentials that are of our form, and nobody's.
func (c *check) tokens(w *world) {
	at := w.tenants[0].ids
	names := []string{"getMe", "listDevices", "listPersons", "ingestPlain"}
	for i, kind := range credential.Kinds() {
		for j, name := range names {
			o := c.operation(name)
			good := c.minted(kind, fmt.Sprintf("a %s token that is nobody's, to %s", kind, name))
			bad := c.minted(kind, fmt.Sprintf("a %s token with a wrong checksum, to %s", kind, name))
			bad = bad[:len(bad)-1] + string("01"[(strings.IndexByte("01", bad[len(bad)-1])+1)%2])
			ours := w.tenants[0].owner.token
			for _, token := range []string{good, bad, good[:len(good)-1], good + "A", strings.ToUpper(good), " " + good, ours + c.plainSecret("behind a good token")} {
				c.send(who{name: "nobody"}, name, request{method: o.method, path: c.fill(o, at), header: http.Header{"Authorization": {"Bearer " + token}}})
				c.send(who{name: "nobody"}, name, request{method: o.method, path: c.fill(o, at), header: http.Header{"Cookie": {"__Host-sid=" + token}}})
			}
			if i+j == 0 {
				c.send(who{name: "nobody"}, name, request{method: o.method, path: c.fill(o, at) + "?token=" + good, header: http.Header{"Authorization": {"Bearer " + good, "Bearer " + bad}}})
			}
		}
		for _, name := range []string{"setUp", "acceptInvitation", "resetPassword", "refresh"} {
			o := c.operation(name)
			token := c.minted(kind, fmt.Sprintf("a %s token that is nobody's, in the body of %s", kind, name))
			body := object{"token": token, "password": c.secret("password of " + name)}
			if name == "refresh" {
				body = object{"refresh_token": token}
			}
			if name == "setUp" {
				body["email"], body["name"] = "nobody@canary.example", "nobody"
			}
			c.send(who{name: "nobody"}, name, request{method: o.method, path: o.path, body: body})
		}
	}
}

// minted is a token of our form that was never given out.
func (c *check) minted(kind credential.Kind, place string) string {
	c.t.Helper()
	var random [credential.RandomLen]byte
	copy(random[:], c.next()+c.next()+c.next())
	return c.issued(place, credential.Mint(kind, random).Whole.Reveal())
}

// pages asks for what is no route of the API: the pages of links, what is not there, and methods that nobody has.
func (c *check) pages(w *world) {
	for _, page := range []string{"/setup", "/invite", "/reset"} {
		link := c.plainSecret("the link of " + page)
		c.send(who{name: "nobody"}, page, request{method: http.MethodGet, path: page + "?token=" + link, shows: []string{link}}) // the form carries it on
		form := url.Values{"token": {c.plainSecret("token in the form of " + page)}, "password": {c.secret("password in the form of " + page)}, "email": {"nobody@canary.example"}, "name": {"nobody"},
			c.plainSecret("an unknown field of the form of " + page): {c.secret("an unknown field of the form of " + page)}}
		for _, kind := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=" + c.plainSecret("the boundary of the form of "+page)} {
			c.send(who{name: "nobody"}, page, request{method: http.MethodPost, path: page, body: []byte(form.Encode()), header: http.Header{"Content-Type": {kind}}})
		}
	}
	for _, path := range []string{"/", "/v1/", "/v2/", "/problems/", "/healthz/", "/v1/tenants/", "/metrics/"} {
		c.send(w.admin, "nothing", request{method: http.MethodGet, path: path + c.plainSecret("the path "+path)})
		c.send(w.admin, "nothing", request{method: http.MethodPost, path: path + url.PathEscape(c.secret("the path "+path)), body: object{"a": c.secret("a body where there is no route")}})
		c.send(w.admin, "nothing", request{method: strings.ToUpper(c.plainSecret("a method")), path: path})
	}
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/openapi.yaml", "/docs"} {
		c.send(w.admin, path, request{method: http.MethodGet, path: path + "?a=" + c.plainSecret("the query of "+path), header: http.Header{"User-Agent": {c.headerSecret("User-Agent of " + path)}}})
	}
}
