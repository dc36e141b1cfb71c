package credential

import (
	"crypto/rand"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/secret"
)

func minted(t testing.TB, kind Kind) Token {
	t.Helper()
	var random [RandomLen]byte
	_, _ = rand.Read(random[:])
	return Mint(kind, random)
}

func TestATokenIsWholeOrNothing(t *testing.T) {
	for n := range 100 {
		kind := Kinds()[n%len(Kinds())]
		token := minted(t, kind)
		whole := token.Whole.Reveal()
		got, err := Parse(whole)
		if err != nil || got.Kind != kind || got.Accessor != token.Accessor || !regexp.MustCompile("^"+Pattern+"$").MatchString(whole) {
			t.Fatalf("%s: %v, %v", kind, got, err)
		}
		refused := func(what, s string) {
			if _, err := Parse(s); err == nil && !token.Whole.Equal(secret.New(s)) {
				t.Errorf("%s was taken", what)
			}
		}
		for i := range len(whole) {
			refused("a prefix", whole[:i])
			refused("a suffix", whole[i+1:])
			for c := range 256 { // the alphabet, and all that is outside of it
				refused("a changed character", whole[:i]+string([]byte{byte(c)})+whole[i+1:])
				refused("an inserted character", whole[:i]+string([]byte{byte(c)})+whole[i:])
			}
			refused("a character of two bytes", whole[:i]+"ÿ"+whole[i+1:])
		}
		for _, s := range []string{whole + "0", " " + whole, whole + "\n", strings.ToUpper(whole), strings.ToLower(whole), "rf_" + whole} {
			refused("another spelling", s)
		}
	}
}

func TestAKindOfTokenIsNoOther(t *testing.T) {
	for _, a := range Kinds() {
		whole := minted(t, a).Whole.Reveal()
		for _, b := range Kinds() {
			other := strings.Replace(whole, "rf_"+string(a)+"_", "rf_"+string(b)+"_", 1)
			if got, err := Parse(other); a != b && err == nil {
				t.Errorf("a token of kind %s was taken as %s", a, got.Kind)
			}
		}
	}
}

func TestNoValueBeyondItsBitsIsTaken(t *testing.T) {
	for _, body := range []string{
		strings.Repeat("z", accessorLen) + strings.Repeat("0", secretLen), strings.Repeat("0", accessorLen) + strings.Repeat("z", secretLen),
	} {
		s := "rf_pat_" + body
		if _, err := Parse(s + checksum(s)); err == nil {
			t.Errorf("a second spelling was taken: %s", body[:8])
		}
	}
}

func TestVerifierDependsOnPepperAndWholeToken(t *testing.T) {
	a, b := minted(t, KindPersonal), minted(t, KindPersonal)
	v := Verifier([]byte("pepper"), a.Whole)
	if !Match(v, Verifier([]byte("pepper"), a.Whole)) || Match(v, Verifier([]byte("salt"), a.Whole)) || Match(v, Verifier([]byte("pepper"), b.Whole)) ||
		Match(v, Verifier([]byte("pepper"), secret.New(a.Whole.Reveal()[:77]))) {
		t.Error("verifiers do not tell tokens apart")
	}
}

func TestSessionsEndByIdleTimeByAgeAndByRevocation(t *testing.T) {
	made := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	s := Session{Idle: SessionIdle, Stored: Stored{CreatedAt: made, ExpiresAt: made.Add(SessionAbsolute)}}
	used := s
	used.LastUsed = made.Add(SessionAbsolute - time.Minute)
	revoked := s
	revoked.RevokedAt = made
	for _, c := range []struct {
		name string
		s    Session
		at   time.Duration
		want bool
	}{
		{"fresh", s, 0, true}, {"just before its idle time", s, SessionIdle - 1, true}, {"after its idle time", s, SessionIdle, false},
		{"used a minute ago", used, SessionAbsolute - 1, true}, {"at its greatest age", used, SessionAbsolute, false}, {"revoked", revoked, time.Second, false},
		{"from the future", s, -2 * time.Minute, false},
	} {
		if got := c.s.Live(made.Add(c.at)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	l := Link{Stored: Stored{CreatedAt: made, ExpiresAt: made.Add(ResetLife)}, UsedAt: made}
	if l.Live(made) {
		t.Error("a used link is good")
	}
}

func TestWaitsDoubleFromTheFifthFailure(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: 0, 4: 0, 5: time.Second, 6: 2 * time.Second, 7: 4 * time.Second, 14: 512 * time.Second, 15: MaxWait, 1000: MaxWait} {
		if got := Wait(failures); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}
}

func TestPasswordsAreLongAndNotKnown(t *testing.T) {
	common := func(s string) bool { return s == "passwordpassword" || s == "password" || s == "qwertyuiopasdfg" }
	for _, c := range []struct {
		password string
		good     bool
	}{
		{"four random words here", true}, {"ççççççççççççççö", true}, {"short", false}, {"fourteen chars", false}, {"qwertyuiopasdfg", false},
		{"passwordpasswordpassword", false}, {"aaaaaaaaaaaaaaaa", false}, {"ab ab ab ab ab ab", true}, {strings.Repeat("x1y2z3 ", 40), false}, {"ana@acme.example ana@acme.example", false},
		{"PASSWORDpassword", false}, {"acmewateracmewater", false}, {"acmewater-acme_water", false}, {"water water acme water", false}, {"a cup of water, please", true}, {"!!!!????....,,,,;;;;", true},
	} {
		if err := CheckPassword(c.password, common, []string{"ana@acme.example", "Ana", "Acme Water"}); (err == nil) != c.good {
			t.Errorf("%.20q: %v", c.password, err)
		} else if err != nil && strings.Contains(err.Error(), c.password) {
			t.Errorf("%.20q is echoed", c.password)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(minted(f, KindPersonal).Whole.Reveal())
	f.Add("rf_at_")
	f.Add("rf__" + strings.Repeat("0", 71))
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := Parse(s); err == nil && (!got.Whole.Equal(secret.New(s)) || len(got.Accessor) != accessorLen) {
			t.Fatal("a token was taken for another")
		}
	})
}
