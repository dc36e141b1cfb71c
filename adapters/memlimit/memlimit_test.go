package memlimit

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/testkit/limittest"
)

func TestBurstThenOneInEvery(t *testing.T) {
	now := time.Unix(0, 0)
	l := New(func() time.Time { return now }, 10)
	r := limit.PerSecond(10, 3)
	for n := range 3 {
		if v := l.Take("a", 1, r); !v.OK || v.Remaining != 2-n || v.Limit != 3 {
			t.Fatalf("%d: %+v", n, v)
		}
	}
	v := l.Take("a", 1, r)
	if v.OK || v.RetryAfter != 100*time.Millisecond || v.Remaining != 0 {
		t.Fatalf("beyond the burst: %+v", v)
	}
	if !l.Take("b", 1, r).OK {
		t.Error("another key was held back")
	}
	now = now.Add(v.RetryAfter)
	if !l.Take("a", 1, r).OK || l.Take("a", 1, r).OK {
		t.Error("after the time that was told, exactly one more may come")
	}
	if l.Take("a", 1, limit.Rate{}).OK {
		t.Error("a rate of nothing let something in")
	}
}

func TestLimiterKeepsThePort(t *testing.T) {
	limittest.Run(t, func(_ testing.TB, now func() time.Time, keys int) limit.Limiter { return New(now, keys) })
}

func TestKeysAreBoundedAndThoseWithoutADebtGoFirst(t *testing.T) {
	now := time.Unix(0, 0)
	l := New(func() time.Time { return now }, 100)
	fast, slow := limit.PerSecond(10, 10), limit.PerSecond(1, 10)
	for range 10 {
		l.Take("mine", 1, slow)
	}
	for i := range 5000 { // each in debt for 100 ms, at 1 ms a key: about a hundred at once
		now = now.Add(time.Millisecond)
		if !l.Take(fmt.Sprint(i), 1, fast).OK {
			t.Fatalf("key %d was refused", i)
		}
		if l.byKey["mine"] == nil {
			t.Fatalf("the key with the greatest debt was let go after %d others", i)
		}
	}
	if len(l.byKey) > 100 || len(l.least) != len(l.byKey) {
		t.Errorf("%d keys are held, %d in order", len(l.byKey), len(l.least))
	}
	for i, d := range l.least {
		if d.place != i || l.byKey[d.key] != d {
			t.Fatalf("place %d is out of order", i)
		}
	}
	now = now.Add(6 * time.Second)
	if got := l.Take("mine", 1, slow); !got.OK || got.Remaining != 9 {
		t.Errorf("eleven seconds later: %+v", got)
	}
}

func TestWhatIsInNoDebtIsNotRemembered(t *testing.T) {
	l := New(func() time.Time { return time.Unix(0, 0) }, 100)
	l.Take("a", 0, limit.PerSecond(1, 1))
	l.Take("b", 2, limit.PerSecond(1, 1))
	if len(l.byKey) != 0 {
		t.Errorf("%d keys are held", len(l.byKey))
	}
}

func BenchmarkTake(b *testing.B) {
	for _, keys := range []int{1, 100_000} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			names := make([]string, keys)
			for i := range names {
				names[i] = fmt.Sprint("source ", i)
			}
			l := New(time.Now, 100_000)
			r := limit.PerSecond(1_000_000, 1_000_000)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.Take(names[i%keys], 1, r)
			}
		})
	}
}
