package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
)

func next(t *testing.T, s *stand, query string) string {
	t.Helper()
	var page struct {
		Items []any   `json:"items"`
		Next  *string `json:"next_cursor"`
	}
	w := s.ask("GET", s.path(query), "")
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 || page.Next == nil || len(page.Items) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return *page.Next
}

func TestACursorIsGoodWhereItWasGiven(t *testing.T) {
	s := newStand(t)
	cursor := next(t, s, "?name=a")
	if raw, err := base64.RawURLEncoding.DecodeString(cursor); err != nil || strings.Contains(string(raw), "after") || strings.Contains(cursor, "after") {
		t.Errorf("the cursor tells where the list stands: %s", cursor)
	}
	for _, query := range []string{"?name=a&cursor=" + cursor, "?cursor=" + cursor + "&name=a", "?name=a&limit=7&cursor=" + cursor} {
		if w := s.ask("GET", s.path(query), ""); w.Code != 200 || s.after != "after one" {
			t.Errorf("%s: %d %s, after %q", query, w.Code, w.Body, s.after)
		}
	}
	for _, query := range []string{"?cursor=" + cursor, "?name=b&cursor=" + cursor, "?name=a&cursor=" + cursor + "A", "?name=a&cursor=" + cursor[1:], "?name=a&cursor=" + cursor[:len(cursor)-1], "?name=a&cursor=" + cursor + "%3D"} {
		s.wants(s.ask("GET", s.path(query), ""), 400, "bad_cursor")
	}
	ten := s.ten
	s.ten[3] ^= 1
	s.wants(s.ask("GET", s.path("?name=a&cursor="+cursor), ""), 400, "bad_cursor")
	s.ten = ten
	s.door.who.Subject.Principal[2] ^= 1
	s.wants(s.ask("GET", s.path("?name=a&cursor="+cursor), ""), 400, "bad_cursor")
	s.door.who.Subject.Principal[2] ^= 1
	other := newStand(t, func(o *Options) { o.CursorKey = []byte(strings.Repeat("k", 32)) })
	other.ten = s.ten
	s.wants(s.ask("GET", s.path("?name=a&cursor="+next(t, other, "?name=a")), ""), 400, "bad_cursor")
	d := *sealerOf(s).d
	d.Operation = "listOthers"
	elsewhere := sealerOf(s)
	elsewhere.d = &d
	s.wants(s.ask("GET", s.path("?cursor="+*elsewhere.next("x")), ""), 400, "bad_cursor")
}

// sealerOf is a call of listThings, past HTTP.
func sealerOf(s *stand) *Call {
	return &Call{api: s.API, Tenant: s.ten, Identity: enter.Identity{Subject: access.Subject{Principal: s.door.who.Subject.Principal}}, d: &Declaration{Operation: "listThings"}}
}

// G12: ten thousand forgeries, each one step from a good one.
func TestForgedCursorsAreRefused(t *testing.T) {
	s := newStand(t)
	c := sealerOf(s)
	raw, err := cursorText.DecodeString(*c.next("after one"))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		forged := append([]byte(nil), raw...)
		switch i % 4 {
		case 0:
			forged[i/4%len(forged)] ^= 1 << (i % 8)
		case 1:
			forged = forged[:r.IntN(len(forged))]
		case 2:
			forged = append(forged, byte(i))
		case 3:
			for j := range forged {
				forged[j] = byte(r.Uint32())
			}
		}
		text := cursorText.EncodeToString(forged)
		if text == "" {
			continue // none is the beginning
		}
		if q, err := c.page(text, 50); err == nil || q.After != "" {
			t.Fatalf("forgery %d opens: %q", i, q.After)
		}
	}
}

func FuzzCursor(f *testing.F) {
	s := newStand(f)
	c := sealerOf(s)
	good := *c.next("after one")
	f.Add(good)
	f.Add("")
	f.Add(good + "=")
	f.Add(strings.ToUpper(good))
	f.Add(strings.Repeat("A", 5000))
	f.Fuzz(func(t *testing.T, text string) {
		q, err := c.page(text, 50)
		if err == nil && text != "" && text != good && q.After != "after one" {
			t.Fatalf("%q opens to %q", text, q.After)
		}
		if err == nil && text != "" && *c.next(q.After) == text {
			t.Fatal("two seals are the same")
		}
	})
}

func FuzzFormat(f *testing.F) {
	for _, seed := range []string{`{"name":"a","parts":[{"size":1}]}`, `{"a":1,"a":2}`, `[[[[`, `{"name":"\u0000"}`, "\xff", `{} {}`, `{"name":"\ud83d\ude00"}`, `1e999`, `null`, `{"name":1}`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if strict.Unmarshal(b, &v) != nil {
			return
		}
		text, err := json.Marshal(v)
		if err != nil || !json.Valid(b) {
			t.Fatalf("taken, but no JSON: %q (%v)", b, err)
		}
		if strings.Contains(string(text), `\u0000`) {
			t.Fatalf("NUL in %q", b)
		}
		var again any
		if err := strict.Unmarshal(text, &again); err != nil {
			t.Fatalf("%q was taken, but %q is not: %v", b, text, err)
		}
		var in newThing
		_ = strict.Unmarshal(b, &in.Body) // must not panic
	})
}
