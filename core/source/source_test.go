package source

import (
	"testing"
	"time"
)

// A source's record from before spans were kept says since when it is disabled by its last change alone.
func TestASourceThatWasDisabledBeforeSpansWereKeptIsClosed(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 27, 12, 0, s, 0, time.UTC) }
	old := Source{State: Disabled, UpdatedAt: at(10)}
	renamed := old
	renamed.Turn(Disabled, at(30))
	renamed.UpdatedAt = at(30)
	again := renamed
	again.Turn(Active, at(40))
	again.UpdatedAt = at(40)
	for i, c := range []struct {
		s    Source
		at   int
		want bool
	}{{old, 11, false}, {old, 12, true}, {renamed, 11, false}, {renamed, 12, true}, {renamed, 50, true}, {again, 11, false}, {again, 12, true}, {again, 40, true}, {again, 41, false}} {
		if got := c.s.Closed(at(c.at), time.Second); got != c.want {
			t.Errorf("%d: at %d s it is %v", i, c.at, got)
		}
	}
	for i := range 3 * maxOff {
		was := len(again.Off)
		before := again
		if again.Turn([]State{Disabled, Active}[i%2], at(50+i)); len(again.Off) > maxOff || len(before.Off) != was {
			t.Fatalf("%d spans, of %d", len(again.Off), maxOff)
		}
	}
	if again.Closed(at(40), 0) || !again.Closed(at(50+3*maxOff-1), 0) {
		t.Errorf("the latest are not what is kept: %+v", again.Off)
	}
}
