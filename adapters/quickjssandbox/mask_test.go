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
