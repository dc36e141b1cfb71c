package localauth

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

func cheap(t testing.TB, o Options) *Passwords {
	t.Helper()
	o.TestCost = true
	if o.Cost == (Cost{}) {
		o.Cost = Cost{Memory: 64, Time: 1}
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStoredHashesAreArgon2idAtTheDefaultCost(t *testing.T) {
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	phc, err := p.Hash(t.Context(), secret.New("four random words here"))
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=47104,t=1,p=1$") {
		t.Fatalf("%s, %v", phc, err)
	}
	if _, err := New(Options{Cost: Cost{Memory: 64, Time: 1}}); err == nil {
		t.Error("a cost below the floor was taken")
	}
}

func TestVerifyTellsRightFromWrongAndStale(t *testing.T) {
	p := cheap(t, Options{})
	long := strings.Repeat("x", 80)
	phc, err := p.Hash(t.Context(), secret.New(long+"1"))
	if err != nil {
		t.Fatal(err)
	}
	dearer := cheap(t, Options{Cost: Cost{Memory: 128, Time: 1}})
	for _, c := range []struct {
		name, phc, password string
		by                  *Passwords
		ok, stale           bool
	}{
		{"right", phc, long + "1", p, true, false},
		{"another last character of many", phc, long + "2", p, false, false},
		{"right, with a dearer cost today", phc, long + "1", dearer, true, true},
		{"nobody", "", long + "1", p, false, false},
		{"no text", phc, "\x00", p, false, false},
	} {
		ok, stale, err := c.by.Verify(t.Context(), c.phc, secret.New(c.password))
		if err != nil || ok != c.ok || stale != c.stale {
			t.Errorf("%s: %v, stale %v, %v", c.name, ok, stale, err)
		}
	}
}

func TestOneFormOfAPasswordIsAllForms(t *testing.T) {
	p := cheap(t, Options{})
	phc, err := p.Hash(t.Context(), secret.New("caf\u00e9 caf\u00e9 caf\u00e9 caf\u00e9"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := p.Verify(t.Context(), phc, secret.New("cafe\u0301 cafe\u0301\u00a0cafe\u0301 cafe\u0301")); err != nil || !ok {
		t.Errorf("the same text in another form of Unicode: %v, %v", ok, err)
	}
}

func TestKnownPasswordsAreRefused(t *testing.T) {
	p := cheap(t, Options{Known: strings.NewReader("a very private phrase\n")})
	for password, good := range map[string]bool{"four random words here": true, "passwordpassword": false, "A Very Private Phrase": false, "ringfenceringfence": false} {
		if err := p.Check(secret.New(password), []string{"ringfence"}); (err == nil) != good {
			t.Errorf("%q: %v", password, err)
		}
	}
	if len(p.known) < 10_000 {
		t.Errorf("only %d known passwords", len(p.known))
	}
}

func TestAFloodOfSignInsIsToldToComeBack(t *testing.T) {
	p := cheap(t, Options{Parallel: 1, Waiting: 2})
	leave, err := p.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	refused := make(chan error, 10)
	for range 10 {
		wg.Go(func() {
			_, err := p.Hash(ctx, secret.New("four random words here"))
			refused <- err
		})
	}
	busy := 0
	for range 8 { // two may wait, eight are refused at once
		if err := <-refused; fault.Is(err, fault.Exhausted) && fault.As(err).RetryAfter > 0 {
			busy++
		}
	}
	cancel()
	wg.Wait()
	leave()
	if busy != 8 {
		t.Errorf("%d of 8 were told to come back", busy)
	}
	if _, err := p.Hash(t.Context(), secret.New("four random words here")); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43))
	f.Add("$argon2id$v=19$m=99999999,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := parse(s); err == nil && (h.cost.Memory > maxMemory || h.cost.Time > maxTime || len(h.salt) != saltLen) {
			t.Fatalf("%+v", h)
		}
	})
}
