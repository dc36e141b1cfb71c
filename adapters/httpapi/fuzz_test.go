package httpapi

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
)

// sane checks an answer to a request that nobody meant well: refused with a whole problem, or right; never our fault.
func sane(t *testing.T, w *httptest.ResponseRecorder, asked string) {
	t.Helper()
	if w.Code < 200 || w.Code >= 500 {
		t.Fatalf("%s: %d %s", asked, w.Code, w.Body)
	}
	if w.Code >= 400 {
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Code == "" || p.Detail == "" {
			t.Fatalf("%s: %d %s", asked, w.Code, w.Body)
		}
	}
}

// Header fields that we read.
func FuzzHeaders(f *testing.F) {
	for _, v := range []string{"", "1", `"3"`, `"03"`, `W/"3"`, `*`, `"3", "4"`, "Bearer x", "bearer " + good, "Basic YTpi", "__Host-sid=x; __Host-sid=y", "10.0.0.1, 10.9.9.9, ::ffff:1.2.3.4", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "application/json; charset=latin1", "identity, gzip", strings.Repeat("k", 200), "\xff", "gzip"} {
		for which := range uint8(9) {
			f.Add(which, v)
		}
	}
	names := []string{"If-Match", "Idempotency-Key", "Authorization", "Cookie", "X-Forwarded-For", "Traceparent", "Content-Type", "Content-Encoding", "Origin"}
	s := newStand(f)
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		s.t = t
		name := names[int(which)%len(names)]
		field := name + ": " + value
		sane(t, s.ask("POST", s.path(""), `{"name":"a"}`, field), field)
		sane(t, s.ask("PATCH", s.path("/nod_"+strings.Repeat("0", 25)+"g"), `{"name":"a"}`, field), field)
	})
}

// Queries, and paths behind a tenant's.
func FuzzTarget(f *testing.F) {
	for _, q := range []string{"", "limit=1", "limit=-1", "limit=1&limit=2", "name=%00", "name=%ff", "n%61me=a", "cursor=AAAA", "limit=%31", "a;b", "=", "&&&", "limit=99999999999999999999", "name=" + strings.Repeat("%E2%82%AC", 60)} {
		f.Add("", q)
	}
	for _, p := range []string{"/nod_", "/..", "/%2e%2e/x", "//", "/%2F", "/a/b", "/\u2028", "/nod_" + strings.Repeat("v", 26)} {
		f.Add(p, "")
	}
	s := newStand(f)
	f.Fuzz(func(t *testing.T, rest, query string) {
		s.t = t
		target := s.path(rest) + "?" + query
		u, err := url.Parse("http://iot.example.com" + target)
		if err != nil || strings.ContainsAny(target, " \r\n\t") || u.Host != "iot.example.com" {
			return // no request that net/http would hand on
		}
		sane(t, s.ask("GET", target, ""), target)
	})
}

// Bodies of a create and of a merge patch.
func FuzzBody(f *testing.F) {
	for _, b := range []string{`{"name":"a"}`, `{"name":null}`, `{"name":"a","name":"b"}`, `{"Name":"a"}`, `[]`, `{"name":1}`, `{"name":"\ud800"}`, `{"parts":[{"size":1e999}]}`, `{"name":{"name":{}}}`, `{"x":1}`, "\ufeff{}", `null`, `{"name":"` + strings.Repeat("a", 3000) + `"}`} {
		f.Add(b)
	}
	s := newStand(f)
	f.Fuzz(func(t *testing.T, body string) {
		s.t = t
		sane(t, s.ask("POST", s.path(""), body), body)
		sane(t, s.ask("PATCH", s.path("/nod_"+strings.Repeat("0", 25)+"g"), body, `If-Match: "3"`), body)
	})
}

func FuzzImport(f *testing.F) {
	for _, s := range []string{"name,dev_eui\npump,a84041ffff1e2d3c\n", "name,serial,decoder_id\na,b,dec_x\n", "\ufeffname\n\"a\nb\"\n", "name,name\na,b\n", "name\na,b\n", "", "\"", "name\r\na\r\n\r\n", "dev_eui,serial\n,\n", "name\n" + strings.Repeat("x\n", 300), "name,serial\na\n\nb,c,d\n\"x\ny\",2\ne\"f,g\n\"h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := csvRows(text)
		if err != nil {
			return
		}
		if len(rows) > device.MaxImportRows {
			t.Fatalf("%d rows", len(rows))
		}
		line := 1
		for i, r := range rows {
			if r.Row <= line || r.Row > 1+strings.Count(text, "\n") || len(r.Device.Addresses) > 2 || r.Error != nil && (r.Error.Row != r.Row || r.Error.Detail == "") {
				t.Fatalf("%q: row %d is %+v", text, i, r)
			}
			line = r.Row
			if r.Error != nil {
				continue
			}
			for _, a := range r.Device.Addresses {
				if again, err := device.ParseAddress(a.Kind, a.Value); err != nil || again != a {
					t.Fatalf("%q: %v", text, a)
				}
			}
		}
	})
}

// The small texts: a revision, a time, an id, a trace, an address behind proxies.
func FuzzSmallTexts(f *testing.F) {
	for _, s := range []string{`"1"`, `"01"`, `"9223372036854775808"`, "2026-11-24T12:00:00Z", "2026-11-24T12:00:00.123456789+23:59", "9999-12-31T23:59:60Z", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "10.1.2.3,::1%eth0", "[12].a"} {
		f.Add(s)
	}
	s := newStand(f)
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := revision(text); err == nil && (etag(n) != text || n == 0) {
			t.Fatalf("%q is revision %d", text, n)
		}
		var at time.Time
		if err := moment(text, "/at", &at); err == nil && text != "" && at.Location() != time.UTC {
			t.Fatalf("%q is %v", text, at)
		}
		var id ident.Device
		if err := path(text, &id); err == nil && id.String() != text {
			t.Fatalf("%q is %v", text, id)
		}
		traced := httptest.NewRequest("GET", "/", nil)
		traced.Header.Set("Traceparent", text)
		if got := sender(traced).ID(); got != "" && (len(got) != 32 || !strings.Contains(text, got)) {
			t.Fatalf("%q is trace %q", text, got)
		}
		if got := cut(text, 16); len(got) > 16 {
			t.Fatalf("%q is %q", text, got)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set("X-Forwarded-For", text)
		if got, err := netip.ParseAddr(s.client(r)); err != nil || !got.IsValid() {
			t.Fatalf("%q comes from %v, %v", text, got, err)
		}
		_, _, _ = element(text)
	})
}
