package source

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// What one row says of all mappings that ended is held against the whole history, of each that three tenants can have in four turns.
func TestATenureSaysWhoseAnApplicationMayHaveBeen(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 27, 12, minute, 0, 0, time.UTC) }
	type span struct {
		of       ident.Tenant
		from, to int
	}
	var histories func(turns int) [][]span
	histories = func(turns int) [][]span {
		if turns == 0 {
			return [][]span{nil}
		}
		var all [][]span
		for _, h := range histories(turns - 1) {
			for of := range byte(3) {
				all = append(all, append(h[:len(h):len(h)], span{ident.Tenant{of + 1}, 10*turns + 1, 10*turns + 5}))
			}
		}
		return append(all, histories(turns-1)...)
	}
	tried := 0
	for _, h := range histories(4) {
		var past Tenure
		for _, s := range h {
			past = past.After(Mapping{Connection: "eu", Application: "1", Tenant: s.of, CreatedAt: at(s.from)}, at(s.to))
		}
		for now := range byte(3) {
			holder := ident.Tenant{now + 1}
			for minute := range 60 {
				others, since, had := false, false, false
				for _, s := range h {
					if s.of != holder {
						others, since = true, false
					} else if s.from <= minute {
						since = true
					}
					had = had || s.from <= minute && minute <= s.to
				}
				if got := past.Alone(holder, at(minute)); got != (!others || since) {
					t.Errorf("%v, now %v's: alone since %d: %v", h, holder, minute, got)
				}
				if past.Nobodys(at(minute)) && had {
					t.Errorf("%v: nobody's at %d", h, minute)
				}
				tried++
			}
		}
		if len(h) > 0 && (!past.Nobodys(at(59)) || past.ID != TenureID("eu/1") || past.Claim != "eu/1") {
			t.Errorf("%v left %+v", h, past)
		}
	}
	if tried < 10_000 {
		t.Errorf("%d were tried", tried)
	}
}

// By the clock of who ended it a mapping may have ended before it began by the clock of who made it: then nobody knows when it began.
func TestATenureThatBeganByAClockThatWasAheadIsNotKnownToHaveBegunThen(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 27, 12, minute, 0, 0, time.UTC) }
	a, b := ident.Tenant{1}, ident.Tenant{2}
	m := Mapping{Connection: "eu", Application: "1", Tenant: a, CreatedAt: at(20)}
	past := Tenure{}.After(m, at(10))
	for minute, want := range map[int]bool{5: false, 15: false, 20: false, 21: true} {
		if got := past.Nobodys(at(minute)); got != want {
			t.Errorf("nobody's at %d: %v of %+v", minute, got, past)
		}
	}
	if past.Until != at(20) || !past.Alone(a, at(20)) || past.Alone(b, at(20)) {
		t.Errorf("%+v", past)
	}
	past = Tenure{}.After(m, at(25))
	m.CreatedAt = at(40)
	if again := past.After(m, at(30)); again.Until != at(40) || again.From != at(20) || again.Others || again.Nobodys(at(35)) {
		t.Errorf("of a tenure that had begun before: %+v", again)
	}
}
