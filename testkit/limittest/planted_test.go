package limittest_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/limit"
	"github.com/ringfence/ringfence/testkit/limittest"
)

// recorder is a test that a check may fail without failing ours.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
}

func (r *recorder) fail()                 { r.mu.Lock(); r.failed = true; r.mu.Unlock() }
func (r *recorder) Helper()               {}
func (r *recorder) Error(...any)          { r.fail() }
func (r *recorder) Errorf(string, ...any) { r.fail() }
func (r *recorder) Fatal(...any)          { r.fail(); runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) { r.fail(); runtime.Goexit() }

// fails reports whether the check of a name fails on the limiters that open answers.
func fails(t *testing.T, name string, open limittest.Open) bool {
	t.Helper()
	for _, c := range limittest.Checks() {
		if c.Name != name {
			continue
		}
		r, done := &recorder{TB: t}, make(chan struct{})
		go func() {
			defer close(done)
			c.Run(r, open)
		}()
		<-done
		return r.failed
	}
	t.Fatalf("there is no check %s", name)
	return false
}

// plain is a limiter that is right and has no more bounds than a map, or has one bug.
type plain struct {
	now     func() time.Time
	keys    int
	bug     string
	mu      sync.Mutex
	whole   map[string]time.Time
	first   limit.Rate
	last    time.Time
	order   []string
	holders map[string]int
	meet    chan struct{}
}

func (p *plain) Take(key string, n int, r limit.Rate) limit.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.bug {
	case "all keys are one":
		key = ""
	case "keys are cut":
		key = key[:min(len(key), 1)]
	case "the first rate is for ever":
		if p.first == (limit.Rate{}) {
			p.first = r
		}
		r = p.first
	}
	if p.bug != "what is negative is credit" && n < 0 {
		return limit.Verdict{RetryAfter: time.Minute}
	}
	if r.Every <= 0 || r.Burst <= 0 || n > r.Burst {
		if p.bug == "no rate is any rate" {
			return limit.Verdict{OK: true}
		}
		return limit.Verdict{RetryAfter: time.Minute}
	}
	now, whole := p.now(), p.whole[key]
	if p.bug == "the clock has seconds" {
		now = now.Truncate(time.Second)
	}
	if p.bug == "a window begins anew by the clock" {
		if p.last.Before(now.Truncate(5 * time.Second)) {
			whole = now
		}
		p.last = now
	}
	if whole.Before(now) {
		whole = now
	}
	window := r.Every * time.Duration(r.Burst)
	if p.bug == "the burst is one more" {
		window += r.Every
	}
	if p.bug == "a large burst turns negative" && window/r.Every != time.Duration(r.Burst) {
		return limit.Verdict{RetryAfter: time.Minute}
	}
	if window/r.Every != time.Duration(r.Burst) {
		window = 1 << 62
	}
	next := whole.Add(r.Every * time.Duration(n))
	v := limit.Verdict{Limit: r.Burst}
	if p.bug == "two callers look at once" {
		p.mu.Unlock()
		select { // until there is another, who has looked as well
		case p.meet <- struct{}{}:
		case <-p.meet:
		case <-time.After(5 * time.Millisecond):
		}
		p.mu.Lock()
	}
	if over := next.Sub(now) - window; over > 0 {
		v.RetryAfter = over
		if p.bug == "the wait is told short" {
			v.RetryAfter -= time.Millisecond
		}
		if p.bug == "the refused are counted" {
			p.keep(key, next)
		}
	} else {
		v.OK, whole = true, next
		p.keep(key, next)
	}
	v.Reset = whole.Sub(now)
	v.Remaining = max(int((window-v.Reset)/r.Every), 0)
	switch p.bug {
	case "one more is told to remain":
		v.Remaining++
	case "the reset is told short":
		v.Reset -= r.Every
	case "less than none remain":
		v.Remaining = int((window - v.Reset) / r.Every)
	}
	return v
}

func (p *plain) keep(key string, whole time.Time) {
	if _, ok := p.whole[key]; !ok && p.bug != "nothing is let go" && (p.bug == "the oldest is let go" || len(p.whole) >= 500) {
		p.order = append(p.order, key)
		if len(p.order) > p.keys {
			delete(p.whole, p.order[0])
			p.order = p.order[1:]
		}
	}
	p.whole[key] = whole
}

func (p *plain) Enter(key string, maximum int) (func(), bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holders[key] >= maximum && p.bug != "anybody enters" && (p.bug != "no maximum is any" || maximum > 0) {
		return nil, false
	}
	p.holders[key]++
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.bug == "places are never given back" {
			return
		}
		p.holders[key]--
		if p.holders[key] == 0 && p.bug != "left keys stay" {
			delete(p.holders, key)
		}
	}
	if p.bug == "a place is given back twice" {
		return leave, true
	}
	return sync.OnceFunc(leave), true
}

func planted(bug string) limittest.Open {
	return func(_ testing.TB, now func() time.Time, keys int) limit.Limiter {
		return &plain{now: now, keys: keys, bug: bug, whole: map[string]time.Time{}, holders: map[string]int{}, meet: make(chan struct{})}
	}
}

func TestEachPlantedBugIsCaughtByTheCheckNamedForIt(t *testing.T) {
	for _, c := range limittest.Checks() {
		if fails(t, c.Name, planted("")) {
			t.Errorf("%s fails without a bug", c.Name)
		}
	}
	for bug, check := range map[string]string{
		"the burst is one more":             "BurstThenOneInEvery",
		"the clock has seconds":             "BurstThenOneInEvery",
		"a window begins anew by the clock": "NoWindowHoldsMoreThanItsRate",
		"the wait is told short":            "WhatIsToldIsTrue",
		"one more is told to remain":        "WhatIsToldIsTrue",
		"the reset is told short":           "WhatIsToldIsTrue",
		"the refused are counted":           "WhatIsRefusedIsNotCounted",
		"all keys are one":                  "KeysAreApart",
		"keys are cut":                      "KeysAreApart",
		"no rate is any rate":               "NothingAndTooMuchAreRefused",
		"what is negative is credit":        "NothingAndTooMuchAreRefused",
		"a large burst turns negative":      "NothingAndTooMuchAreRefused",
		"the first rate is for ever":        "AChangedRateIsObeyedAtOnce",
		"less than none remain":             "AChangedRateIsObeyedAtOnce",
		"the oldest is let go":              "ForgettingGivesNothingBack",
		"nothing is let go":                 "HostileKeysCostNoMemory",
		"left keys stay":                    "HostileKeysCostNoMemory",
		"two callers look at once":          "CallersAtOnceShareOneBurst",
		"anybody enters":                    "NoMoreThanTheMaximumHoldAKey",
		"no maximum is any":                 "NoMoreThanTheMaximumHoldAKey",
		"places are never given back":       "APlaceIsGivenBackOnce",
		"a place is given back twice":       "APlaceIsGivenBackOnce",
	} {
		if !fails(t, check, planted(bug)) {
			t.Errorf("%s did not catch: %s", check, bug)
		}
	}
}
