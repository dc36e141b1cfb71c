package redacttest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/ringfence/ringfence/core/ident"
)

// Each canary is found in each encoding, wherever in the encoded text it begins, and nothing is found where nothing is.
func TestEveryEncodingIsFoundAtEveryAlignment(t *testing.T) {
	f := finder{byHead: map[uint64][]needle{}}
	var all []*canary
	for n := range 200 {
		text := core(n)
		switch n % 3 {
		case 1:
			text = rich(text, marks)
		case 2:
			text = rich(text, headerMarks)
		}
		all = append(all, &canary{noun: secretNoun, text: text, owner: ident.Tenant{}})
		f.add(all[n])
	}
	encodings := map[string]func(string) string{
		"raw": func(s string) string { return s }, "hex": func(s string) string { return hex.EncodeToString([]byte(s)) }, "HEX": func(s string) string { return fmt.Sprintf("%X", s) },
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }, "base64url": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
		"URL": url.QueryEscape, "path": url.PathEscape, "Go": func(s string) string { return fmt.Sprintf("%q", s) },
		"JSON": func(s string) string {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		},
	}
	for name, encode := range encodings {
		for _, one := range all {
			for offset := range 4 {
				found := 0
				f.scan([]byte("noise "+encode("xxxx"[:offset]+one.text+" and more")+" noise"), func(h hit) {
					if h.of == one {
						found++
					} else {
						t.Errorf("%s of %q is taken for %q", name, one.text, h.of.text)
					}
				})
				if found != 1 {
					t.Fatalf("%s of %q at %d was found %d times", name, one.text, offset, found)
				}
			}
		}
	}
	f.scan([]byte(core(200)+core(201)), func(h hit) { t.Errorf("%q was found where it is not", h.of.text) })
}

// What is left of a canary whose beginning was cut off is one too.
func TestTheRestOfACanaryIsFound(t *testing.T) {
	f := finder{byHead: map[uint64][]needle{}}
	f.add(&canary{noun: secretNoun, text: rich(core(1), marks)})
	found := 0
	f.scan([]byte(core(1)[head:]), func(hit) { found++ })
	if found != 1 {
		t.Errorf("found %d times", found)
	}
}
