package signin_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/identity"
	"github.com/ringfence/ringfence/ports/store"
)

// scaled is a number of make test, or of make long.
func scaled(normal, long int) int {
	if os.Getenv("RINGFENCE_LONG") != "" {
		return long
	}
	return normal
}

// C4: whoever stole a refresh token and whoever owns it cannot both go on, however close together they use it.
func TestOfManyWhoRefreshWithOneTokenNobodyKeepsTheFamily(t *testing.T) {
	w := newWorld(t)
	for range scaled(500, 10_000) {
		g := w.login()
		const racers = 4
		var next [racers]signin.Granted
		errs := all(racers, func(i int) (err error) {
			next[i], err = w.Refresh(t.Context(), g.Refresh, at("192.0.2.1"))
			return err
		})
		if n := won(errs); n != 1 {
			t.Fatalf("%d of %d got the next tokens: %v", n, racers, errs)
		}
		for i, err := range errs {
			if err != nil {
				continue
			}
			if _, err := w.Refresh(t.Context(), next[i].Refresh, at("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
				t.Fatalf("the family goes on after a token of it was used twice: %v", err)
			}
			if _, err := w.enter.Authenticate(t.Context(), next[i].Access, at("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
				t.Fatalf("its access token is good: %v", err)
			}
		}
	}
}

func TestARefreshTokenEndsWithItsSessionAndByItsOwnAge(t *testing.T) {
	w := newWorld(t)
	g := w.login()
	for used := time.Duration(0); ; used += credential.RefreshIdle - time.Hour {
		next, err := w.Refresh(t.Context(), g.Refresh, at("192.0.2.1"))
		if used >= credential.RefreshAbsolute {
			if err == nil {
				t.Fatalf("a session of %v is refreshed", used)
			}
			break
		}
		if err != nil {
			t.Fatalf("after %v: %v", used, err)
		}
		g = next
		w.clock.on(credential.RefreshIdle - time.Hour)
	}
	g = w.login()
	w.clock.on(credential.RefreshIdle)
	if _, err := w.Refresh(t.Context(), g.Refresh, at("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after its idle time: %v", err)
	}
}

func TestAnEleventhSessionEndsTheOldest(t *testing.T) {
	w := newWorld(t)
	var all []signin.Granted
	for range credential.MaxSessions + 2 {
		all = append(all, w.login())
		w.clock.on(time.Second)
	}
	for i, g := range all {
		_, err := w.enter.Authenticate(t.Context(), g.Access, at("192.0.2.1"))
		if want := i >= 2; (err == nil) != want {
			t.Errorf("session %d: %v", i, err)
		}
	}
}

// C9: whatever a guesser changes between tries, the account's count goes on, and ends at MaxFailures.
func TestGuessingIsBoundedHoweverItIsTried(t *testing.T) {
	spelled := []string{name, "OLGA@platform.example", " olga@platform.example", "olga@PLATFORM.EXAMPLE\t", "Olga@Platform.Example "}
	for what, try := range map[string]func(w *world, i int) error{
		"by spelling": func(w *world, i int) error {
			_, err := w.Login(t.Context(), spelled[i%len(spelled)], secret.New("wrong"), i%2 == 0, at("192.0.2.1"))
			return err
		},
		"from everywhere": func(w *world, i int) error {
			_, err := w.Login(t.Context(), name, secret.New("wrong"), true, at(fmt.Sprintf("198.%d.%d.1", i/250, i%250)))
			return err
		},
		"over restarts": func(w *world, i int) error {
			_, err := w.again().Login(t.Context(), name, secret.New("wrong"), true, at("192.0.2.1"))
			return err
		},
		"by the change of a password too": func(w *world, i int) error {
			if i%2 == 1 {
				_, err := w.Login(t.Context(), name, secret.New("wrong"), true, at("192.0.2.1"))
				return err
			}
			id, err := w.enter.Authenticate(t.Context(), w.stolen, at("192.0.2.1"))
			if err != nil {
				return err
			}
			return w.ChangePassword(t.Context(), id, secret.New("wrong"), secret.New("five other random words"), enter.Once{}, at("192.0.2.1"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.stolen = w.login().Access
			before := w.passwords.looked.Load()
			for i := range 3 * credential.MaxFailures {
				if i%2 == 1 {
					w.clock.on(10 * time.Second) // a session's access token lives for ten minutes
				} else if what != "by the change of a password too" {
					w.clock.on(credential.MaxWait)
				}
				if err := try(w, i); err == nil {
					t.Fatalf("try %d got in", i)
				}
			}
			if n := w.passwords.looked.Load() - before; n > credential.MaxFailures {
				t.Errorf("%d passwords were looked at, want %d at most", n, credential.MaxFailures)
			}
		})
	}
}

func TestAtTheHundredthFailureOnlyAResetHelps(t *testing.T) {
	w := newWorld(t)
	for range credential.MaxFailures {
		w.clock.on(credential.MaxWait)
		if _, err := w.Login(t.Context(), name, secret.New("wrong"), true, at("192.0.2.1")); code(err) != "bad_sign_in" {
			t.Fatal(err)
		}
	}
	w.clock.on(24 * time.Hour)
	if _, err := w.Login(t.Context(), name, secret.New(password), true, at("192.0.2.1")); code(err) != "sign_in_locked" {
		t.Fatalf("the right password after %d failures: %v", credential.MaxFailures, err)
	}
	link, err := w.HostReset(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Reset(t.Context(), link, secret.New("five other random words"), at("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Login(t.Context(), name, secret.New("five other random words"), true, at("192.0.2.1")); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

// A flood of guesses at once must not outrun the count.
func TestTriesAtTheSameTimeAreCountedEach(t *testing.T) {
	w := newWorld(t)
	before := w.passwords.looked.Load()
	all(64, func(i int) error {
		_, err := w.Login(t.Context(), name, secret.New("wrong"), true, at(fmt.Sprintf("198.51.%d.1", i)))
		return err
	})
	if n := w.passwords.looked.Load() - before; n > credential.FreeFailures+1 {
		t.Errorf("%d of 64 guesses at one moment were looked at, want %d at most", n, credential.FreeFailures+1)
	}
}

func TestRightPasswordsAtTheSameTimeAllComeIn(t *testing.T) {
	w := newWorld(t)
	for i, err := range all(credential.MaxSessions, func(int) error {
		_, err := w.Login(t.Context(), name, secret.New(password), false, at("192.0.2.1"))
		return err
	}) {
		if err != nil {
			t.Errorf("sign-in %d: %v", i, err)
		}
	}
	// Behind failures that cost nothing yet they come in as well, and what they end is the count.
	for range credential.FreeFailures {
		if _, err := w.Login(t.Context(), name, secret.New("wrong"), false, at("192.0.2.1")); code(err) != "bad_sign_in" {
			t.Fatal(err)
		}
	}
	if n := won(all(5, func(int) error {
		_, err := w.Login(t.Context(), name, secret.New(password), false, at("192.0.2.1"))
		return err
	})); n != 5 {
		t.Errorf("%d of 5 came in", n)
	}
}

// The first of them renews the hash, which makes the others' no less right.
func TestSignInsAtTheSameTimeWithAnOldHashAllComeIn(t *testing.T) {
	w := newWorld(t)
	dearer, err := localauth.New(localauth.Options{Cost: localauth.Cost{Memory: 128, Time: 1}, TestCost: true, Waiting: 1000})
	if err != nil {
		t.Fatal(err)
	}
	before := w.person()
	w.passwords.Passwords = dearer
	for i, err := range all(8, func(int) error {
		_, err := w.Login(t.Context(), name, secret.New(password), false, at("192.0.2.1"))
		return err
	}) {
		if err != nil {
			t.Errorf("sign-in %d: %v", i, err)
		}
	}
	if after := w.person(); bytes.Equal(after.Password, before.Password) || !after.PasswordSetAt.Equal(before.PasswordSetAt) {
		t.Errorf("renewed: %t; set at %s, then %s", !bytes.Equal(after.Password, before.Password), before.PasswordSetAt, after.PasswordSetAt)
	}
}

// meanwhile does something once a password was looked at.
type meanwhile struct {
	identity.Passwords
	do func()
}

func (m meanwhile) Verify(ctx context.Context, phc string, p secret.Text) (ok, stale bool, err error) {
	ok, stale, err = m.Passwords.Verify(ctx, phc, p)
	m.do()
	return ok, stale, err
}

func TestWhoIsOvertakenByAResetOrAnEndIsRefusedAndRecorded(t *testing.T) {
	for what, change := range map[string]func(p *principal.Person, now time.Time){
		"a reset": func(p *principal.Person, now time.Time) { p.VoidBefore = now },
		"an end":  func(p *principal.Person, now time.Time) { p.DisabledAt, p.VoidBefore = now, now },
	} {
		for door, try := range map[string]func(w *world, id enter.Identity) error{
			"bad_sign_in": func(w *world, _ enter.Identity) error {
				_, err := w.Login(t.Context(), name, secret.New(password), false, at("192.0.2.1"))
				return err
			},
			"wrong_password": func(w *world, id enter.Identity) error {
				return w.ChangePassword(t.Context(), id, secret.New(password), secret.New("five other random words"), enter.Once{}, at("192.0.2.1"))
			},
		} {
			w := newWorld(t)
			id, err := w.enter.Authenticate(t.Context(), w.login().Access, at("192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			w.passwords.Passwords = meanwhile{w.passwords.Passwords, func() {
				w.clock.on(time.Second)
				w.change(ident.Platform, func(ctx context.Context, wr store.Writer) error {
					p, err := wr.Persons().Get(ctx, w.who)
					if err == nil {
						change(&p, w.clock.now())
						_, err = wr.Persons().Put(ctx, p)
					}
					return err
				})
			}}
			if err := try(w, id); code(err) != door || w.recorded(audit.LoginFail) != 1 {
				t.Errorf("%s beside %s: %v, %d recorded", door, what, err, w.recorded(audit.LoginFail))
			}
		}
	}
}

// Both knew the present password; who comes second knows the last one.
func TestAPasswordIsChangedOnceByThoseWhoKnowIt(t *testing.T) {
	w := newWorld(t)
	id, err := w.enter.Authenticate(t.Context(), w.login().Access, at("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	errs := all(4, func(i int) error {
		return w.ChangePassword(t.Context(), id, secret.New(password), secret.New(fmt.Sprint("other random words of ", i)), enter.Once{}, at("192.0.2.1"))
	})
	for _, err := range errs {
		if err != nil && code(err) != "wrong_password" {
			t.Error(err)
		}
	}
	if n := won(errs); n != 1 {
		t.Errorf("%d of 4 changed it", n)
	}
}

// busy is a server that looks at no password.
type busy struct{ identity.Passwords }

func (busy) Verify(context.Context, string, secret.Text) (ok, stale bool, err error) {
	return false, false, fault.New(fault.Exhausted, "sign_in_busy", "busy")
}

func TestWhatWasNotLookedAtIsNoFailure(t *testing.T) {
	w := newWorld(t)
	real := w.passwords.Passwords
	w.passwords.Passwords = busy{real}
	for range 3 * credential.FreeFailures {
		if _, err := w.Login(t.Context(), name, secret.New(password), false, at("192.0.2.1")); code(err) != "sign_in_busy" {
			t.Fatal(err)
		}
	}
	w.passwords.Passwords = real
	w.login()
}

func TestANetworkThatFailsTooOftenWaitsWhateverTheName(t *testing.T) {
	w := newWorld(t)
	tried := func(i int, from string) string {
		_, err := w.Login(t.Context(), fmt.Sprintf("name%d@acme.example", i), secret.New("wrong"), true, at(from))
		return code(err)
	}
	for i := range 20 {
		if got := tried(i, fmt.Sprintf("203.0.113.%d", i)); got != "bad_sign_in" {
			t.Fatalf("try %d: %s", i, got)
		}
	}
	looked := w.passwords.looked.Load()
	if got := tried(21, "203.0.113.99"); got != "sign_in_throttled" {
		t.Errorf("the 21st name from one network: %s", got)
	}
	if _, err := w.Login(t.Context(), name, secret.New(password), true, at("203.0.113.7")); code(err) != "sign_in_throttled" {
		t.Errorf("the right password from there: %v: to refuse only the wrong ones would tell which is right", err)
	}
	if w.passwords.looked.Load() != looked {
		t.Error("a password was looked at")
	}
	if got := tried(22, "203.0.114.1"); got != "bad_sign_in" {
		t.Errorf("another network: %s", got)
	}
	w.clock.on(3 * time.Second)
	if got := tried(23, "203.0.113.1"); got != "bad_sign_in" {
		t.Errorf("three seconds later: %s", got)
	}
}

// C6: how long a refusal takes tells nothing of whether the name is somebody's.
func TestTheTimeOfARefusalTellsNothingOfTheName(t *testing.T) {
	w := newWorld(t)
	var ts []float64
	for range 5 { // a leak shows most times, noise of the machine does not
		v := math.Abs(w.timed(scaled(2000, 10_000)))
		if v < distinct/2 {
			return
		}
		ts = append(ts, v)
	}
	if sort.Float64s(ts); ts[len(ts)/2] >= distinct {
		t.Errorf("known and unknown names are told apart by time: |t| = %.1f", ts)
	}
}

// quick is the bug that the test above is to find: no hash where there is no person.
type quick struct{ identity.Passwords }

func (q quick) Verify(ctx context.Context, phc string, p secret.Text) (ok, stale bool, err error) {
	if phc == "" {
		return false, false, nil
	}
	return q.Passwords.Verify(ctx, phc, p)
}

func TestAHashThatIsSparedForUnknownNamesIsSeen(t *testing.T) {
	w := costing(t, localauth.Cost{Memory: 4 << 10, Time: 1}) // what is spared stands out of the noise of a busy machine
	w.passwords.Passwords = quick{w.passwords.Passwords}
	var ts []float64
	for range 5 {
		v := w.timed(200)
		if math.Abs(v) >= distinct {
			return
		}
		ts = append(ts, v)
	}
	t.Errorf("t = %.1f", ts)
}

// distinct is the t from which two samples differ: one in 100,000 of equal ones would.
const distinct = 4.5

// timed refuses n sign-ins each of a known and an unknown name in turns, and answers Welch's t of the times.
func (w *world) timed(n int) float64 {
	const unknown = "nobody@platform.example"
	var known, missing []float64
	chance := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // which, not what
	for i := range 2 * n {
		email, into := name, &known
		if chance.IntN(2) == 1 { // in turns, whatever recurs on the machine would fall on one of them
			email, into = unknown, &missing
		}
		w.clock.on(time.Hour)
		began := time.Now()
		_, err := w.Login(w.t.Context(), email, secret.New("wrong"), true, at(fmt.Sprintf("198.%d.%d.1", i/250%250, i%250)))
		*into = append(*into, float64(time.Since(began)))
		if code(err) != "bad_sign_in" {
			w.t.Fatal(err)
		}
		if i%100 > 97 {
			w.forgive(w.who.String())
			w.forgive(signin.FailureKey(unknown))
		}
	}
	return welch(known, missing)
}

// welch is Welch's t of two samples, without their slowest tenth, which is the machine's.
func welch(a, b []float64) float64 {
	trim := func(v []float64) (mean, variance, n float64) {
		sort.Float64s(v)
		v = v[:len(v)*9/10]
		n = float64(len(v))
		for _, x := range v {
			mean += x / n
		}
		for _, x := range v {
			variance += (x - mean) * (x - mean) / (n - 1)
		}
		return mean, variance, n
	}
	ma, va, na := trim(a)
	mb, vb, nb := trim(b)
	return (ma - mb) / math.Sqrt(va/na+vb/nb)
}
