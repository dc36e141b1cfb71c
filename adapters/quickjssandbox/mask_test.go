package quickjssandbox

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/secret"
)

// A secret that a script puts into JSON of its own is written with escapes, and is hidden all the same. One that is the
// beginning of another leaves nothing of the longer one.
func TestSecretsAreHiddenAsJSONWritesThem(t *testing.T) {
	quote, long := "a\"b\\c<d>\né\u2028\u2029\x01\b\f\r\t\x1f", "abcdefgh-and-more"
	in := decoder.Input{Variables: []decoder.Variable{
		{Name: "short", Value: secret.New("abcdefgh"), Secret: true}, {Name: "quote", Value: secret.New(quote), Secret: true}, {Name: "long", Value: secret.New(long), Secret: true},
		{Name: "open", Value: secret.New("visible")},
	}}
	secrets := secretsOf(in)
	if got := shown("Error: "+long, secrets, false); got != "Error: ***" {
		t.Errorf("a message became %q", got)
	}
	for text, want := range map[string]string{
		`all: ["` + stringified(quote) + `"]`: `all: ["***"]`,
		"it is " + quote:                      "it is ***",
		long + " visible":                     "*** visible",
	} {
		if got := masked(text, secrets); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	inner, err := json.Marshal(map[string]string{"config": `{"key":"` + stringified(quote) + `"}`})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(maskJSON(inner, secrets)); strings.Contains(got, "d>") || !strings.Contains(got, "***") {
		t.Errorf("JSON in JSON: %s", got)
	}
}

// However secrets overlap, nothing of them is left, and what is beside them stays.
func TestSecretsThatOverlapAreHiddenWhole(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"-abcdefghi-", "-***-"}, {"-defabcdef-", "-def***-"}, {"-xyxyxyxyxy-", "-***-"}, {"-xyxyx-", "-***x-"}, {"abcdefdefghi", "***"}, {"abcde", "abcde"},
	} {
		if got := masked(c.text, []string{"abcdef", "defghi", "xyxy"}); got != c.want {
			t.Errorf("%q became %q, want %q", c.text, got, c.want)
		}
	}
}

// A message hides what it shares with a secret from five characters on, wherever it is cut.
func TestMessagesHideTheRunsOfSecrets(t *testing.T) {
	secrets := []string{"hunter2-and-more", "prödukte-9ß", "aa"}
	for _, c := range []struct{ text, want string }{
		{"SyntaxError: unexpected token: 'hunter2'", "SyntaxError: unexpected token: '***'"},
		{"read property 'hunt' of undefined", "read property 'hunt' of undefined"},
		{"-prödu -dukte-9", "-*** -***"},
		{"hunter2-and-mor", "***"},
		{"a baab", "a b***b"},
		{strings.Repeat("x", decoder.MaxMessage-4) + "hunter2-an", strings.Repeat("x", decoder.MaxMessage-4) + "***"},
		{strings.Repeat("x", decoder.MaxMessage-1) + "unter2-an", strings.Repeat("x", decoder.MaxMessage-1) + "*"},
		{strings.Repeat("hunter2-", 100) + "hunt", "***"},
		{strings.Repeat("hunter2-and-more", 1000) + " of ß", "*** of ß"},
	} {
		if got := shown(c.text, secrets, false); got != c.want {
			t.Errorf("%q became %q, want %q", c.text, got, c.want)
		}
	}
	if got := shown("xhunter2-and-morehunter2-and-mo", secrets, true); got != "x" && got != "x***" {
		t.Errorf("cut by the guest: %q", got)
	}
}

func BenchmarkMessage(b *testing.B) {
	var secrets []string
	for i := range 64 {
		secrets = append(secrets, strings.Repeat("a", 1024-i))
	}
	for name, text := range map[string]string{"short": "TypeError: cannot read property 'x' of undefined", "long": strings.Repeat("a", decoder.MaxOutput), "nothing": strings.Repeat("aaaab", decoder.MaxOutput/5)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				shown(text, secrets, true)
			}
		})
	}
}
