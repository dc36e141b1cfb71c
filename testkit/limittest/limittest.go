// Package limittest proves that an adapter fills ports/limit: every must of the port is a check with a sentence for its
// name. Adapters outside this repository run it the same way as ours. It measures no speed.
package limittest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/limit"
)

// Open answers an empty limiter that reads the clock given and is dimensioned for about as many keys. The suite uses each
// from several goroutines, and moves the clock forward alone.
type Open func(t testing.TB, now func() time.Time, keys int) limit.Limiter

// Check is one promise of the port.
type Check struct {
	Name string
	Run  func(t testing.TB, open Open)
}

// Run runs every check on limiters of their own.
func Run(t *testing.T, open Open) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, open) })
	}
}

// Checks are all promises.
func Checks() []Check {
	return []Check{
		{"BurstThenOneInEvery", burst},
		{"NoWindowHoldsMoreThanItsRate", windows},
		{"WhatIsToldIsTrue", told},
		{"WhatIsRefusedIsNotCounted", refused},
		{"KeysAreApart", apart},
		{"NothingAndTooMuchAreRefused", nothing},
		{"AChangedRateIsObeyedAtOnce", changed},
		{"ForgettingGivesNothingBack", forgetting},
		{"HostileKeysCostNoMemory", bounded},
		{"CallersAtOnceShareOneBurst", together},
		{"NoMoreThanTheMaximumHoldAKey", held},
		{"APlaceIsGivenBackOnce", places},
	}
}

// clock is moved by hand.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

const roomy = 10_000 // more keys than most checks use

func opened(t testing.TB, open Open, keys int) (limit.Limiter, *clock) {
	c := &clock{}
	return open(t, c.now, keys), c
}

// count takes one thing at a time until one is refused, at most most.
func count(l limit.Limiter, key string, r limit.Rate, most int) int {
	for n := range most {
		if !l.Take(key, 1, r).OK {
			return n
		}
	}
	return most
}

func burst(t testing.TB, open Open) {
	l, c := opened(t, open, roomy)
	r := limit.PerSecond(10, 3)
	if got := count(l, "a", r, 100); got != 3 {
		t.Fatalf("%d came at once, want 3", got)
	}
	for n := range 20 {
		c.advance(99 * time.Millisecond)
		if l.Take("a", 1, r).OK {
			t.Fatalf("round %d: one came early", n)
		}
		c.advance(time.Millisecond)
		if got := count(l, "a", r, 100); got != 1 {
			t.Fatalf("round %d: %d came after a tenth of a second, want 1", n, got)
		}
	}
	c.advance(time.Hour)
	if got := count(l, "a", r, 100); got != 3 {
		t.Errorf("%d came at once after an hour, want 3", got)
	}
}

func windows(t testing.TB, open Open) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's dice
	for range 50 {
		l, c := opened(t, open, roomy)
		r := limit.Rate{Every: time.Duration(1+random.IntN(1000)) * time.Millisecond, Burst: 1 + random.IntN(20)}
		type taken struct {
			at time.Time
			n  int
		}
		var ok []taken
		for range 400 {
			c.advance(time.Duration(random.Int64N(int64(2 * r.Every))))
			n := 1
			if random.IntN(4) == 0 {
				n = 1 + random.IntN(r.Burst)
			}
			if l.Take("a", n, r).OK {
				ok = append(ok, taken{c.now(), n})
			}
		}
		for i := range ok {
			sum := 0
			for _, x := range ok[i:] {
				sum += x.n
				if most := r.Burst + int(x.at.Sub(ok[i].at)/r.Every); sum > most {
					t.Fatalf("%d in %v, at most %d at one in %v and %d at once", sum, x.at.Sub(ok[i].at), most, r.Every, r.Burst)
				}
			}
		}
		if len(ok) < 50 {
			t.Fatalf("only %d of 400 came", len(ok))
		}
	}
}

func told(t testing.TB, open Open) {
	l, c := opened(t, open, roomy)
	r := limit.Rate{Every: 250 * time.Millisecond, Burst: 8}
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test's dice
	for n := range 200 {
		c.advance(time.Duration(random.Int64N(int64(time.Second))))
		key := fmt.Sprint("k", n%3)
		v := l.Take(key, 1, r)
		if v.Limit != 8 || v.Remaining < 0 || v.Remaining > 7 {
			t.Fatalf("%+v", v)
		}
		if !v.OK {
			t.Fatalf("refused with one in every %v: %+v", r.Every, v)
		}
		if v.RetryAfter != 0 || v.Reset <= 0 || v.Reset > 8*r.Every {
			t.Fatalf("%+v", v)
		}
		if got := count(l, key, r, 100); got != v.Remaining {
			t.Fatalf("%d came, told that %d may", got, v.Remaining)
		}
		v = l.Take(key, 3, r)
		if v.OK || v.RetryAfter <= 0 || v.RetryAfter > 3*r.Every || v.Remaining != 0 {
			t.Fatalf("three more than may: %+v", v)
		}
		c.advance(v.RetryAfter - 1)
		if l.Take(key, 3, r).OK {
			t.Fatal("they came before they were told to")
		}
		c.advance(1)
		if v = l.Take(key, 3, r); !v.OK {
			t.Fatalf("they did not come when they were told to: %+v", v)
		}
		c.advance(v.Reset)
		if got := count(l, key, r, 100); got != 8 {
			t.Fatalf("%d came after the reset, want 8", got)
		}
		c.advance(time.Hour)
	}
}

func refused(t testing.TB, open Open) {
	l, c := opened(t, open, roomy)
	r := limit.PerSecond(1, 2)
	count(l, "a", r, 100)
	for range 1000 {
		c.advance(999 * time.Microsecond)
		l.Take("a", 1, r)
		l.Take("a", 2, r)
	}
	c.advance(time.Millisecond)
	if !l.Take("a", 1, r).OK {
		t.Error("hammering made the wait longer")
	}
}

func apart(t testing.TB, open Open) {
	l, _ := opened(t, open, roomy)
	r := limit.PerSecond(1, 5)
	keys := []string{"", "a", "A", "a ", "a\x00", "ab", strings.Repeat("a", 200), "ä", "a\u0308"}
	for _, key := range keys {
		if got := count(l, key, r, 100); got != 5 {
			t.Errorf("%d came for %q, want 5", got, key)
		}
	}
}

func nothing(t testing.TB, open Open) {
	l, _ := opened(t, open, roomy)
	r := limit.PerSecond(10, 5)
	for _, c := range []struct {
		n int
		r limit.Rate
	}{
		{1, limit.Rate{}}, {1, limit.Rate{Every: time.Second}}, {1, limit.Rate{Burst: 5}}, {1, limit.Rate{Every: -1, Burst: 5}}, {1, limit.Rate{Every: 1, Burst: -5}},
		{6, r}, {-1, r}, {-1 << 62, r}, {1 << 62, r},
	} {
		if v := l.Take("a", c.n, c.r); v.OK || v.RetryAfter <= 0 || v.Remaining < 0 || v.Limit < 0 {
			t.Errorf("%d at %+v: %+v", c.n, c.r, v)
		}
	}
	if got := count(l, "a", r, 100); got != 5 {
		t.Errorf("%d came afterwards, want 5", got)
	}
	vast := limit.Rate{Every: 24 * time.Hour, Burst: 1 << 40}
	if !l.Take("b", 1, vast).OK || !l.Take("b", 1, limit.PerSecond(1<<40, 1)).OK == (limit.PerSecond(1<<40, 1).Every <= 0) {
		t.Error("a vast burst lets nothing in")
	}
}

func changed(t testing.TB, open Open) {
	l, c := opened(t, open, roomy)
	wide, narrow := limit.PerSecond(10, 100), limit.PerSecond(10, 10)
	count(l, "a", wide, 95)
	v := l.Take("a", 1, narrow)
	if v.OK || v.Remaining != 0 || v.Limit != 10 || v.RetryAfter <= 0 {
		t.Errorf("after ninety-five a burst of ten: %+v", v)
	}
	c.advance(v.RetryAfter)
	if got := count(l, "a", narrow, 100); got != 1 {
		t.Errorf("%d came when one was told to", got)
	}
	if got := count(l, "a", wide, 200); got < 85 || got > 91 {
		t.Errorf("%d came after the burst was widened again", got)
	}
}

// forgetting is what somebody does who may invent keys: floods until the limiter lets go of the key they are after.
func forgetting(t testing.TB, open Open) {
	for _, pace := range []time.Duration{0, time.Millisecond} {
		l, c := opened(t, open, 64)
		r := limit.PerSecond(1, 20)
		began := c.now()
		target, others := 0, map[string]int{}
		for round := range 200 {
			target += count(l, "target", r, 100)
			for n := range 100 {
				c.advance(pace / 100)
				others[fmt.Sprint("other ", n)] += count(l, fmt.Sprint("other ", n), r, 1+round%3)
			}
		}
		most := r.Burst + int(c.now().Sub(began)/r.Every)
		if target > most {
			t.Errorf("a flood of other keys got %d through for one, at most %d", target, most)
		}
		for key, n := range others {
			if n > most {
				t.Errorf("%s got %d through, at most %d", key, n, most)
			}
		}
		c.advance(time.Hour)
		if got := count(l, "fresh", r, 100); got != 20 {
			t.Errorf("an hour after the flood a new key may %d, want 20", got)
		}
	}
}

func bounded(t testing.TB, open Open) {
	l, c := opened(t, open, 1000)
	r := limit.PerSecond(1000, 10)
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	pad := strings.Repeat("x", 200)
	for n := range 100_000 {
		c.advance(time.Millisecond)
		key := fmt.Sprint(pad, n)
		l.Take(key, 1, r)
		if leave, ok := l.Enter(key, 1); ok {
			leave()
		} else {
			t.Fatal("nobody holds the key, and there is no place")
		}
	}
	if after := inUse(); after > before+8<<20 {
		t.Errorf("100,000 keys took %d MiB for a limiter of 1,000", (after-before)>>20)
	}
	runtime.KeepAlive(l)
}

func together(t testing.TB, open Open) {
	l, _ := opened(t, open, roomy)
	r := limit.PerSecond(1, 100)
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if l.Take("a", 1, r).OK {
					ok.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if ok.Load() != 100 {
		t.Errorf("%d came at once, want 100", ok.Load())
	}
}

func held(t testing.TB, open Open) {
	l, _ := opened(t, open, roomy)
	for _, maximum := range []int{0, -1} {
		if _, ok := l.Enter("a", maximum); ok {
			t.Errorf("somebody entered where %d may", maximum)
		}
	}
	var inside, most, entered atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				leave, ok := l.Enter("a", 3)
				if !ok {
					runtime.Gosched()
					continue
				}
				entered.Add(1)
				n := inside.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				runtime.Gosched()
				inside.Add(-1)
				leave()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || entered.Load() == 0 {
		t.Errorf("%d held the key at once, at most 3; %d entered", most.Load(), entered.Load())
	}
	if leave, ok := l.Enter("b", 1); !ok {
		t.Error("another key has no place")
	} else {
		leave()
	}
}

func places(t testing.TB, open Open) {
	l, _ := opened(t, open, roomy)
	var leave [2]func()
	for i := range leave {
		var ok bool
		if leave[i], ok = l.Enter("a", 2); !ok {
			t.Fatal("there is no place")
		}
	}
	if _, ok := l.Enter("a", 2); ok {
		t.Error("a third caller entered")
	}
	leave[0]()
	leave[0]()
	if _, ok := l.Enter("a", 2); !ok {
		t.Error("the place that was given back is taken")
	}
	if _, ok := l.Enter("a", 2); ok {
		t.Error("one place was given back twice")
	}
	leave[1]()
	if _, ok := l.Enter("a", 2); !ok {
		t.Error("the second place was not given back")
	}
}
