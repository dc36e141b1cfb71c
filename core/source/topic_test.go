package source

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// rule is Topics, or a planted one with bugs.
type rule interface {
	MayPublish(topic string, retain bool) error
	MaySubscribe(filter string) error
	MayBe(client string) error
}

// reference is the rule in other words, for holding the first against it: regular expressions over the whole text.
type reference struct{ publish, subscribe, client *regexp.Regexp }

func newReference(t Topics) reference {
	own := "^rf/" + t.Tenant.String() + "/" + t.Source.String() + "/"
	level := `[^/.*+#\x00-\x1f\x7f-\x{9f}\x{fffd}]+`
	return reference{
		publish:   regexp.MustCompile(own + `up(/` + level + `)*$`),
		subscribe: regexp.MustCompile(own + `down(/(` + level + `|\+))*(/#)?$`),
		client:    regexp.MustCompile(`^` + t.Source.String() + `(-[-_:=@~0-9A-Za-z]*)?$`),
	}
}

func (r reference) allows(a action, text string) bool {
	if strings.ToValidUTF8(text, "\x00") != text || len(text) > map[bool]int{true: 128, false: 255}[a == be] {
		return false
	}
	switch a {
	case publish:
		return r.publish.MatchString(text)
	case subscribe:
		return r.subscribe.MatchString(text)
	case be:
		return r.client.MatchString(text)
	case retain:
	}
	return false
}

type action int

const (
	publish action = iota
	retain
	subscribe
	be
)

func ask(r rule, a action, text string) error {
	switch a {
	case publish, retain:
		return r.MayPublish(text, a == retain)
	case subscribe:
		return r.MaySubscribe(text)
	case be:
		return r.MayBe(text)
	}
	return nil
}

// three sources: two of one tenant, one of another.
func three() []Topics {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
	mint := ident.Mint{Now: func() time.Time { return time.Unix(1_790_000_000, 0) }, Random: func(b []byte) {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	}}
	var out [3]Topics
	for i := range out {
		ident.Fresh(mint, &out[i].Tenant)
		ident.Fresh(mint, &out[i].Source)
	}
	out[1].Tenant = out[0].Tenant
	return out[:]
}

// text makes what a client may ask for: mostly nearly right.
func text(r *rand.Rand, all []Topics) string {
	one := all[r.IntN(len(all))]
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	odd := func() string {
		return pick("+", "#", "", ".", "a.b", "*", "a*", "$SYS", "$share", "a#", "+b", "\x00", "a\x00b", "\xff", "\xc3\x28", "\ufffd", "\u0085", "\n", "ü", "a b", "..", "rf", "up", "down", one.Tenant.String(), one.Source.String(), strings.Repeat("x", r.IntN(250)))
	}
	levels := []string{"rf", one.Tenant.String(), one.Source.String(), pick("up", "down")}
	if r.IntN(8) == 0 { // one's source in another's tenant, or the other way about
		levels[1] = all[r.IntN(len(all))].Tenant.String()
	}
	for range r.IntN(4) {
		levels = append(levels, pick("a", "event", "7", "x-y", "$a", odd()))
	}
	switch r.IntN(12) {
	case 0: // as it is
	case 1:
		levels[r.IntN(len(levels))] = odd()
	case 2:
		i := r.IntN(len(levels))
		levels[i] += pick("x", "/", "-", ".", "\x00", " ", "#", "+")
	case 3:
		i := r.IntN(len(levels))
		levels[i] = levels[i][:len(levels[i])/2]
	case 4:
		levels = levels[:r.IntN(len(levels)+1)]
	case 5:
		levels = append([]string{pick("$share", "$SHARE", "$queue", "$SYS", "$share/g", "")}, append([]string{pick("g", "+", "#", "", "rf")}, levels...)...)
	case 6:
		i := r.IntN(len(levels))
		levels[i] = strings.ToUpper(levels[i])
	case 7:
		return one.Source.String() + pick("", "-", "-1", "-gateway-7", "_1", "-\x00", "-ü", "-a/b", "-a.b", "1", "-"+strings.Repeat("x", r.IntN(120)), strings.Repeat("-", 100))
	case 8:
		return pick("", odd(), one.Source.String()[:29], "x"+one.Source.String(), one.Tenant.String())
	case 9:
		return strings.Join(levels, pick(".", "/", "//"))
	case 10:
		levels = append(levels, "#")
	case 11:
		levels = append(levels, "+", pick("+", "#", "a"))
	}
	return strings.Join(levels, "/")
}

// disagreements holds a rule against the reference, n times, until there are as many disagreements as are wanted, and answers
// how often each kind of question was to be allowed.
func disagreements(of func(Topics) rule, n, most int) (wrong []string, allowed map[action]int) {
	r := rand.New(rand.NewPCG(7, 9)) //nolint:gosec // the same every time
	all, allowed := three(), map[action]int{}
	var rules []rule
	var references []reference
	for _, t := range all {
		rules, references = append(rules, of(t)), append(references, newReference(t))
	}
	for i := 0; i < n && len(wrong) < most; i++ {
		i, a, s := r.IntN(len(all)), action(r.IntN(4)), text(r, all)
		want, err := references[i].allows(a, s), ask(rules[i], a, s)
		if (err == nil) != want {
			wrong = append(wrong, fmt.Sprintf("%d asks for %d %q: %v", i, a, s, err))
		}
		if want {
			allowed[a]++
		}
	}
	return wrong, allowed
}

func TestTheRuleOfTopicsAndTheReferenceAgree(t *testing.T) {
	n := 100_000
	if os.Getenv("RINGFENCE_LONG") != "" {
		n = 5_000_000
	}
	wrong, allowed := disagreements(func(t Topics) rule { return t }, n, 20)
	for _, w := range wrong {
		t.Error(w)
	}
	for _, a := range []action{publish, subscribe, be} {
		if allowed[a] < n/500 {
			t.Errorf("action %d was allowed %d times: too little is tried", a, allowed[a])
		}
	}
	if allowed[retain] != 0 {
		t.Error("the reference retains")
	}
}

// planted is a rule with one bug.
type planted struct {
	Topics
	publish   func(t Topics, topic string, retain bool) error
	subscribe func(t Topics, filter string) error
	be        func(t Topics, client string) error
}

func (p planted) MayPublish(topic string, retain bool) error {
	if p.publish != nil {
		return p.publish(p.Topics, topic, retain)
	}
	return p.Topics.MayPublish(topic, retain)
}

func (p planted) MaySubscribe(filter string) error {
	if p.subscribe != nil {
		return p.subscribe(p.Topics, filter)
	}
	return p.Topics.MaySubscribe(filter)
}

func (p planted) MayBe(client string) error {
	if p.be != nil {
		return p.be(p.Topics, client)
	}
	return p.Topics.MayBe(client)
}

func TestPlantedRulesOfTopicsAreCaught(t *testing.T) {
	refuse := func(ok bool) error {
		if ok {
			return nil
		}
		return errForeign
	}
	on := func(change func(string) string) (func(Topics, string, bool) error, func(Topics, string) error) {
		return func(t Topics, s string, retain bool) error { return t.MayPublish(change(s), retain) }, func(t Topics, s string) error { return t.MaySubscribe(change(s)) }
	}
	bugs := map[string]planted{
		"a prefix is enough to publish": {publish: func(t Topics, s string, r bool) error {
			return refuse(strings.HasPrefix(s, t.Up()) && wellFormed(s, false) == nil && !r)
		}},
		"a prefix is enough to subscribe": {subscribe: func(t Topics, s string) error {
			return refuse(strings.HasPrefix(s, t.Down()) && wellFormed(s, true) == nil)
		}},
		"retain is let through": {publish: func(t Topics, s string, _ bool) error { return t.MayPublish(s, false) }},
		"the source is not looked at": {publish: func(t Topics, s string, r bool) error {
			got, err := ParseUp(s)
			return refuse(err == nil && got.Tenant == t.Tenant && !r)
		}},
		"the tenant is not looked at": {publish: func(t Topics, s string, r bool) error {
			got, err := ParseUp(s)
			return refuse(err == nil && got.Source == t.Source && !r || t.MayPublish(s, r) == nil)
		}},
		"a wildcard is published": {publish: func(t Topics, s string, r bool) error { return refuse(t.at(s, up) && wellFormed(s, true) == nil && !r) }},
		"a filter of up is subscribed": {subscribe: func(t Topics, s string) error {
			return refuse(t.MaySubscribe(s) == nil || t.at(s, up) && wellFormed(s, true) == nil)
		}},
		"# stands anywhere":  {subscribe: func(t Topics, s string) error { return t.MaySubscribe(strings.ReplaceAll(s, "#/", "+/")) }},
		"# hangs on a level": {subscribe: func(t Topics, s string) error { return t.MaySubscribe(strings.TrimRight(s, "#")) }},
		"any client id":      {be: func(Topics, string) error { return nil }},
		"a client id that only begins": {be: func(t Topics, s string) error {
			return refuse(strings.HasPrefix(s, t.Source.String()) && !strings.ContainsFunc(s, unfit) && len(s) <= MaxClientID)
		}},
		"a longer client id": {be: func(t Topics, s string) error { return t.MayBe(s[:min(len(s), MaxClientID)]) }},
	}
	for name, change := range map[string]func(string) string{
		"$share is stripped": func(s string) string {
			if rest, ok := strings.CutPrefix(s, "$share/"); ok {
				_, rest, _ = strings.Cut(rest, "/")
				return rest
			}
			return s
		},
		"case is folded":              strings.ToLower,
		"empty levels are joined":     func(s string) string { return strings.ReplaceAll(s, "//", "/") },
		"dots are levels":             func(s string) string { return strings.ReplaceAll(s, ".", "/") },
		"dots are letters":            func(s string) string { return strings.ReplaceAll(s, ".", "_") },
		"NUL ends the text":           func(s string) string { return strings.SplitN(s, "\x00", 2)[0] },
		"NUL is a letter":             func(s string) string { return strings.ReplaceAll(s, "\x00", "_") },
		"bytes of no text are left":   func(s string) string { return strings.ToValidUTF8(s, "_") },
		"what is too long is cut":     func(s string) string { return s[:min(len(s), MaxTopic)] },
		"a trailing slash is nothing": func(s string) string { return strings.TrimSuffix(s, "/") },
	} {
		var p planted
		p.publish, p.subscribe = on(change)
		bugs[name] = p
	}
	for name, bug := range bugs {
		wrong, _ := disagreements(func(t Topics) rule { bug.Topics = t; return bug }, 100_000, 1)
		if len(wrong) == 0 {
			t.Errorf("a rule where %s is not caught", name)
		}
	}
}

func TestATopicSaysWhoseItIsAndWhatKindOfEvent(t *testing.T) {
	one := three()[0]
	for _, s := range []string{one.Up(), one.Up() + "/a", one.Up() + "/application/7/device/x/event/up"} {
		if got, err := ParseUp(s); err != nil || got != one {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{one.Down(), one.Up() + "x", "rf/" + one.Tenant.String() + "/" + one.Source.String(), "rf/x/" + one.Source.String() + "/up", "x" + one.Up(), "rf/" + one.Source.String() + "/" + one.Tenant.String() + "/up"} {
		if _, err := ParseUp(s); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for topic, kind := range map[string]string{"": "", "a": "", "event/up": "", "a/event/up": "up", "a/event/join": "join", "a/b/up": "", "a/event": "", "a/event/up/b": ""} {
		if got := Event(topic); got != kind {
			t.Errorf("%s: %q", topic, got)
		}
	}
}

func FuzzTopics(f *testing.F) {
	all := three()
	one := all[0]
	for _, s := range []string{one.Up(), one.Down() + "/#", one.Up() + "/a/event/up", "$share/g/" + one.Down() + "/#", "$SYS/#", "#", "+/+/+/up", one.Up() + "/\x00", one.Up() + ".x", one.Source.String() + "-1", all[2].Up()} {
		f.Add(s)
	}
	references := []reference{newReference(all[0]), newReference(all[1]), newReference(all[2])}
	f.Fuzz(func(t *testing.T, s string) {
		publishers := 0
		for i, one := range all {
			for _, a := range []action{publish, retain, subscribe, be} {
				if got, want := ask(one, a, s) == nil, references[i].allows(a, s); got != want {
					t.Fatalf("%d asks for %d %q: %v", i, a, s, got)
				}
			}
			if one.MayPublish(s, false) == nil {
				publishers++
				if got, err := ParseUp(s); err != nil || got != one {
					t.Fatalf("%q is %v's: %v", s, got, err)
				}
			}
		}
		if publishers > 1 {
			t.Fatalf("%q is published by %d sources", s, publishers)
		}
		if got, err := ParseUp(s); err == nil && got.MayPublish(s, false) != nil {
			t.Fatalf("%q is read and not published", s)
		}
	})
}
