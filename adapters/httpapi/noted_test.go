package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/credential"
)

// A token's uses are noted once in ten minutes and a session's once in one: what is read a lot is not written a lot.
func TestUsesAreNotedNowAndThen(t *testing.T) {
	h := newHouse(t)
	pat := h.as(h.owner[0]).call("POST", h.at(0, "/tokens"), `{"name":"reader","permissions":["device:read"]}`).ok(201).str("secret")
	h.stop()
	h.advance(credential.TouchEvery) // since the session was used last
	used := func(token, list string) string {
		h.as(token).call("GET", h.at(0, "/devices"), "").ok(200)
		_, after, _ := strings.Cut(h.as(h.owner[0]).call("GET", list, "").Body.String(), `"last_used_at":`)
		at, _, _ := strings.Cut(after, ",")
		return at
	}
	const tokens, sessions = "/v1/me/tokens", "/v1/me/sessions"
	token, session := used(pat, tokens), used(h.owner[0], sessions)
	if token == "null" || session == "null" {
		t.Fatalf("not noted at first: %s, %s", token, session)
	}
	for _, c := range []struct {
		later          time.Duration
		token, session bool // noted anew
	}{{59 * time.Second, false, false}, {2 * time.Second, false, true}, {7 * time.Minute, false, true}, {2 * time.Minute, true, false}} {
		h.advance(c.later)
		if c.token {
			h.owner[0] = h.login("ana@example.com") // access tokens are good for ten minutes
		}
		at := used(pat, tokens)
		if (at != token) != c.token {
			t.Errorf("%v later the token was noted at %s, before at %s", c.later, at, token)
		}
		if c.token {
			return
		}
		token = at
		if at := used(h.owner[0], sessions); (at != session) != c.session {
			t.Errorf("%v later the session was noted at %s, before at %s", c.later, at, session)
		} else {
			session = at
		}
	}
}
