package codeccatalog

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ringfence/ringfence/core/decoder"
)

// Want is what must come of an input: data and warnings, or errors alone. Lists that are not there are empty ones.
type Want struct {
	Data     json.RawMessage
	Warnings []string
	Errors   []string
}

// Difference is one place where a result is not what was wanted. Want and Got are JSON on one line, or «absent».
type Difference struct {
	Path string `json:"path"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// Bounds of what is told about one vector.
const (
	maxDifferences = 50
	maxShown       = 200
)

const nothing = "absent"

// Compare answers the differences, or nothing if the result is what was wanted. Numbers are compared as JavaScript's.
func (w Want) Compare(got decoder.Result) []Difference {
	var d differences
	if len(w.Errors) > 0 && len(got.Errors) > 0 { // whatever else a failed decode gave is not kept
		d.texts("errors", w.Errors, got.Errors)
		return d
	}
	if len(w.Errors) > 0 {
		return differences{{"outcome", "errors", ended(got)}}
	}
	if got.Category != decoder.Success {
		return differences{{"outcome", string(decoder.Success), ended(got)}}
	}
	d.raw("data", w.Data, got.Data)
	d.texts("warnings", w.Warnings, got.Warnings)
	return d
}

func ended(r decoder.Result) string {
	if r.Message == "" {
		return string(r.Category)
	}
	return string(r.Category) + ": " + shown(r.Message)
}

type differences []Difference

func (d *differences) add(path, want, got string) {
	if len(*d) < maxDifferences {
		*d = append(*d, Difference{path, want, got})
	}
}

func (d *differences) texts(path string, want, got []string) {
	for i := range max(len(want), len(got)) {
		w, g := nothing, nothing
		if i < len(want) {
			w = shown(want[i])
		}
		if i < len(got) {
			g = shown(got[i])
		}
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			d.add(path+"["+strconv.Itoa(i)+"]", w, g)
		}
	}
}

func (d *differences) raw(path string, want, got json.RawMessage) {
	var w, g any
	if err := json.Unmarshal(want, &w); err != nil {
		d.add(path, "JSON", "a vector that is none")
		return
	}
	if err := json.Unmarshal(got, &g); err != nil {
		d.add(path, shown(w), "no JSON")
		return
	}
	d.value(path, w, g)
}

func (d *differences) value(path string, want, got any) {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			d.objects(path, w, g)
			return
		}
	case []any:
		if g, ok := got.([]any); ok {
			for i := range max(len(w), len(g)) {
				at := path + "[" + strconv.Itoa(i) + "]"
				switch {
				case i >= len(g):
					d.add(at, shown(w[i]), nothing)
				case i >= len(w):
					d.add(at, nothing, shown(g[i]))
				default:
					d.value(at, w[i], g[i])
				}
			}
			return
		}
	default:
		switch got.(type) {
		case map[string]any, []any:
		default:
			if want == got {
				return
			}
		}
	}
	d.add(path, shown(want), shown(got))
}

func (d *differences) objects(path string, want, got map[string]any) {
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		at := path + "." + Printable(key)
		w, wanted := want[key]
		g, had := got[key]
		switch {
		case !had:
			d.add(at, shown(w), nothing)
		case !wanted:
			d.add(at, nothing, shown(g))
		default:
			d.value(at, w, g)
		}
	}
}

// shown is a value as JSON on one line of bounded length.
func shown(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "?"
	}
	return Printable(strings.TrimSuffix(b.String(), "\n"))
}

// Printable is a foreign text for a terminal: bounded, and without characters that would move its cursor.
func Printable(s string) string {
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
