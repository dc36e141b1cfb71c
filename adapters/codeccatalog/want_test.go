package codeccatalog

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/decoder"
)

func TestEachDifferenceIsFound(t *testing.T) {
	data := func(s string) decoder.Result {
		return decoder.Result{Category: decoder.Success, Data: json.RawMessage(s)}
	}
	failed := decoder.Result{Category: decoder.Exception, Errors: []string{"a", "b"}, Message: "a"}
	thrown := decoder.Result{Category: decoder.Exception, Message: "TypeError: x"}
	warned := data(`{}`)
	warned.Warnings = []string{"w"}
	for _, c := range []struct {
		name string
		want Want
		got  decoder.Result
		diff []string // path, want, got
	}{
		{"same in another order and spelling", Want{Data: []byte(`{"a":1.0,"b":[1e1,null,"é"]}`)}, data(`{"b":[10,null,"\u00e9"],"a":1}`), nil},
		{"another number", Want{Data: []byte(`{"a":{"b":[1,2]}}`)}, data(`{"a":{"b":[1,2.5]}}`), []string{"data.a.b[1] 2 2.5"}},
		{"smallest difference", Want{Data: []byte(`{"a":0.3}`)}, data(`{"a":0.30000000000000004}`), []string{"data.a 0.3 0.30000000000000004"}},
		{"another type", Want{Data: []byte(`{"a":"1"}`)}, data(`{"a":1}`), []string{`data.a "1" 1`}},
		{"null is not absent", Want{Data: []byte(`{"a":null}`)}, data(`{}`), []string{"data.a null absent"}},
		{"field too many", Want{Data: []byte(`{}`)}, data(`{"a":{}}`), []string{"data.a absent {}"}},
		{"list too short and too long", Want{Data: []byte(`{"a":[1,2],"b":[]}`)}, data(`{"a":[1],"b":[3]}`), []string{"data.a[1] 2 absent", "data.b[0] absent 3"}},
		{"list for an object", Want{Data: []byte(`{"a":{}}`)}, data(`{"a":[]}`), []string{"data.a {} []"}},
		{"scalar for an object", Want{Data: []byte(`{"a":1}`)}, data(`{"a":{"b":1}}`), []string{`data.a 1 {"b":1}`}},
		{"same warning", Want{Data: []byte(`{}`), Warnings: []string{"w"}}, warned, nil},
		{"warning too many", Want{Data: []byte(`{}`)}, warned, []string{`warnings[0] absent "w"`}},
		{"no warning", Want{Data: []byte(`{}`), Warnings: []string{"w"}}, data(`{}`), []string{`warnings[0] "w" absent`}},
		{"same errors", Want{Errors: []string{"a", "b"}}, failed, nil},
		{"another error", Want{Errors: []string{"a", "c"}}, failed, []string{`errors[1] "c" "b"`}},
		{"errors instead of data", Want{Data: []byte(`{}`)}, failed, []string{`outcome success exception: "a"`}},
		{"data instead of errors", Want{Errors: []string{"a"}}, data(`{}`), []string{"outcome errors success"}},
		{"thrown is no listed error", Want{Errors: []string{"TypeError: x"}}, thrown, []string{`outcome errors exception: "TypeError: x"`}},
		{"out of fuel", Want{Data: []byte(`{}`)}, decoder.Result{Category: decoder.Fuel}, []string{"outcome success fuel"}},
		{"cursor movements are not shown", Want{Data: []byte(`{}`)}, data("{\"a\\u001b[2J\":\"\\u009b\u202e\"}"), []string{`data.a?[2J absent "??"`}},
	} {
		var got []string
		for _, d := range c.want.Compare(c.got) {
			got = append(got, fmt.Sprint(d.Path, " ", d.Want, " ", d.Got))
		}
		if !slices.Equal(got, c.diff) {
			t.Errorf("%s: %q, want %q", c.name, got, c.diff)
		}
	}
}

func TestWhatIsToldIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, `"k%d":%q,`, i, strings.Repeat("é", 1000))
	}
	diff := Want{Data: []byte(`{}`)}.Compare(decoder.Result{Category: decoder.Success, Data: []byte("{" + strings.TrimSuffix(b.String(), ",") + "}")})
	if len(diff) != maxDifferences {
		t.Errorf("%d differences", len(diff))
	}
	for _, d := range diff {
		if len(d.Got) > maxShown+len("…") {
			t.Errorf("%d bytes of a value", len(d.Got))
		}
	}
}
