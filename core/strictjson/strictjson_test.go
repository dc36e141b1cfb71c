package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestEachRuleIsKept(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"good", ` {"a":[1,-2.5e+3,true,false,null,"x\u00e9\ud83d\ude00\n"],"b":{}} `, nil},
		{"duplicate key", `{"a":1,"a":2}`, ErrDuplicate},
		{"duplicate key in another spelling", `{"a":1,"\u0061":2}`, ErrDuplicate},
		{"duplicate key after many", `{` + many(40) + `,"k3":1}`, ErrDuplicate},
		{"too deep", strings.Repeat("[", 33) + strings.Repeat("]", 33), ErrDepth},
		{"deep enough", strings.Repeat("[", 32) + strings.Repeat("]", 32), nil},
		{"bomb of depth", strings.Repeat("[", 100000), ErrDepth},
		{"not UTF-8", "{\"a\":\"\xff\"}", ErrText},
		{"not UTF-8 behind an escape", "{\"a\":\"\\n\xff\"}", ErrText},
		{"NUL", "{\"a\":\"\x00\"}", ErrText},
		{"escaped NUL", `{"a":"\u0000"}`, ErrText},
		{"half a pair", `"\ud83d"`, ErrText},
		{"two low halves", `"\ude00\ude00"`, ErrText},
		{"behind the end", `{} {}`, ErrSyntax},
		{"leading zero", `01`, ErrSyntax},
		{"bare plus", `+1`, ErrSyntax},
		{"no digit after the point", `1.`, ErrSyntax},
		{"empty", ``, ErrSyntax},
		{"control character", "\"\x01\"", ErrSyntax},
		{"trailing comma", `[1,]`, ErrSyntax},
		{"open string", `"abc`, ErrSyntax},
		{"unknown escape", `"\x"`, ErrSyntax},
	} {
		if err := Check([]byte(c.text)); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + string(rune('0'+i%10)))
		b.WriteString(strings.Repeat("x", i/10) + `":1`)
	}
	return b.String()
}

// Whatever is good here is JSON to encoding/json too.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,2,{"b":null}]}`, `"\ud83d\ude00"`, `-0.1e-5`, `{"a":1,"a":2}`, "\"\xff\"", `[`, `{"\u0061":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(b)
		if err == nil && !json.Valid(b) {
			t.Fatalf("%q is no JSON", b)
		}
		if errors.Is(err, ErrSyntax) && json.Valid(b) {
			t.Fatalf("%q is JSON", b)
		}
	})
}

// A text means what it means to encoding/json, wherever in it the eight bytes at a time begin and end.
func FuzzText(f *testing.F) {
	for n := range 20 {
		f.Add([]byte(`"` + strings.Repeat("a", n) + `\"\\\u00e9é` + strings.Repeat("~", n) + `"`))
		f.Add([]byte(`"` + strings.Repeat("\x7f", n) + "\x1f" + `"`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := New(b)
		got, err := r.Text()
		if err != nil || r.End() != nil {
			return
		}
		var want string
		if err := json.Unmarshal(b, &want); err != nil || string(got) != want {
			t.Fatalf("%q became %q, and by encoding/json %q, %v", b, got, want, err)
		}
	})
}

// Every byte at every place among eight is seen for what it is.
func TestNoByteIsPassedOver(t *testing.T) {
	for at := range 17 {
		for c := range 256 {
			text := []byte(`"` + strings.Repeat("a", 17) + `"`)
			text[1+at] = byte(c)
			good := c >= 0x20 && c < 0x80 && c != '"' && c != '\\'
			if err := Check(text); (err == nil) != good {
				t.Errorf("%#x at %d: %v", c, at, err)
			}
		}
	}
}
