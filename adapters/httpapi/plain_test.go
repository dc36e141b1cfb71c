package httpapi

import "testing"

func TestAPlainEventIsToldWhatIsWrongWithIt(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	src := h.at(0, "/sources/"+a.call("POST", h.at(0, "/sources"), `{"name":"s","format":"plain"}`).ok(201).str("id"))
	key := h.as(a.call("POST", src+"/keys", `{"name":"k"}`).ok(201).str("secret"))
	for _, cut := range []string{`{"zz":1,`, "{\"zz\":\"\xff\"}", `{"zz":1,"device":"a","device":"b"}`, `{"payload":"!","zz":`, `{"f_port":300,"id":"\ud800"}`} {
		key.call("POST", "/v1/ingest/plain", cut).bad(400, "unreadable")
	}
	key.call("POST", "/v1/ingest/plain", `{"zz":1}`).bad(422, "unknown_field")
	key.call("POST", "/v1/ingest/plain", `{"device":"serial-17","payload":"AQ=="}`).names(422, "bad_message", "/device", "address_kind: serial")
	key.call("POST", "/v1/ingest/plain", `{"device":"serial-17","address_kind":"mac","payload":"AQ=="}`).names(422, "bad_message", "/address_kind", "")
	key.call("POST", "/v1/ingest/plain", `{"device":"serial-17","address_kind":"serial","f_port":300,"payload":"AQ=="}`).names(422, "bad_message", "/f_port", "")
	key.call("POST", "/v1/ingest/plain", `{"device":17}`).names(422, "bad_message", "/device", "")
	key.call("POST", "/v1/ingest/plain", `{"payload_hex":17}`).names(422, "bad_message", "/payload_hex", "")
	for _, at := range []string{"9999-12-31T23:59:59-01:00", "0000-01-01T00:59:59+01:00"} { // of no year that can be written
		key.call("POST", "/v1/ingest/plain", `{"device":"serial-17","address_kind":"serial","payload":"AQ==","time":"`+at+`"}`).names(422, "bad_message", "/time", "")
	}
	for ok := true; ok; {
		_, ok = h.API.o.Limiter.Enter("ingest "+h.ten[0], h.API.o.Limits.InFlight)
	}
	w := key.call("POST", "/v1/ingest/plain", `{"device":"serial-17","address_kind":"serial","payload":"AQ=="}`)
	if w.bad(429, "limited_in_flight"); w.Header().Get("Ratelimit")+w.Header().Get("Ratelimit-Policy") != "" {
		t.Errorf("a rate that has room is told: %v", w.Header())
	}
}
