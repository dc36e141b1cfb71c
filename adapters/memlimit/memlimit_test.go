package memlimit

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringfence/ringfence/ports/limit"
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

func TestRefusedThingsAreNotCounted(t *testing.T) {
	now := time.Unix(0, 0)
	l := New(func() time.Time { return now }, 10)
	r := limit.PerSecond(1, 1)
	l.Take("a", 1, r)
	for range 100 {
		l.Take("a", 1, r)
	}
	now = now.Add(time.Second)
	if !l.Take("a", 1, r).OK {
		t.Error("hammering made the wait longer")
	}
}

func TestKeysAreBoundedAndTheOldestIsForgotten(t *testing.T) {
	now := time.Unix(0, 0)
	l := New(func() time.Time { return now }, 100)
	r := limit.PerSecond(1, 1)
	l.Take("mine", 1, r)
	for i := range 1000 {
		l.Take(fmt.Sprint(i), 1, r)
		if l.Take("mine", 1, r).OK {
			t.Fatalf("a key in use was forgotten after %d others", i)
		}
	}
	if len(l.byKey) > 100 || l.order.Len() != len(l.byKey) {
		t.Errorf("%d keys are held", len(l.byKey))
	}
}

func TestPlacesAreGivenBackOnce(t *testing.T) {
	l := New(time.Now, 10)
	first, ok := l.Enter("a", 2)
	if !ok {
		t.Fatal("no place")
	}
	second, ok := l.Enter("a", 2)
	if !ok {
		t.Fatal("no second place")
	}
	if _, ok := l.Enter("a", 2); ok {
		t.Error("a third caller entered")
	}
	first()
	first() // twice gives back one place
	if _, ok := l.Enter("a", 2); !ok {
		t.Error("the place that was given back is taken")
	}
	if _, ok := l.Enter("a", 2); ok {
		t.Error("one place was given back twice")
	}
	second()
}
