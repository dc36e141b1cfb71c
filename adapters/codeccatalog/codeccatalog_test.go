package codeccatalog_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ringfence/ringfence/adapters/codeccatalog"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
)

var at = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// jsonOnly evaluates what is JSON but for a comment in front; tests of what an engine makes of a literal have an engine.
type jsonOnly struct{}

func (jsonOnly) Eval(_ context.Context, literal string) ([]byte, error) {
	_, rest, found := strings.Cut(literal, "*/")
	if rest = strings.TrimSuffix(rest, ";"); !found || !json.Valid([]byte(rest)) {
		return nil, errors.New("a syntax error")
	}
	return []byte(rest), nil
}

func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return m
}

type read struct {
	codec codeccatalog.Codec
	err   error
}

func all(t *testing.T, files fs.FS, name string) (list []read) {
	t.Helper()
	for codec, err := range (codeccatalog.Catalog{Files: files, Eval: jsonOnly{}, At: at}).Read(t.Context(), name) {
		list = append(list, read{codec, err})
	}
	return list
}

const (
	script = "function decodeUplink(i) { return {data: {n: i.bytes.length}} }"
	vector = `[{"name":"one","input":{"bytes":[1],"fPort":2},"expected":{"data":{"n":1}}}]`
	yaml   = "uplinkDecoder:\n  fileName: a.js\n  examples:\n    - description: one\n      input: {fPort: 2, bytes: [0x01]}\n      output: {data: {n: 1}}\n"
)

func TestBothLayoutsAreRead(t *testing.T) {
	got := all(t, files(
		"vendors/v/codecs/a.js", script, "vendors/v/codecs/test_decode_a.json", vector, "vendors/v/codecs/test_encode_a.json", "not read",
		"vendors/v/codecs/b.js", script, "vendors/v/codecs/test_decode_b.json", "\ufeff/* bare */"+vector+";",
		"vendors/v/codecs/untested.js", script, "vendors/v/devices/a.toml", "not read",
		"vendor/w/a.js", script, "vendor/w/a-codec.yaml", yaml, "vendor/w/a.yaml", "name: not a codec\n", "vendor/w/index.yaml", "}{",
	), ".")
	want := []string{"vendor/w/a-codec.yaml", "vendors/v/codecs/test_decode_a.json", "vendors/v/codecs/test_decode_b.json", "vendors/v/codecs/untested.js"}
	if len(got) != len(want) {
		t.Fatalf("%d codecs: %+v", len(got), got)
	}
	for i, r := range got {
		vectors := []codeccatalog.Vector{{Name: "one", Input: decoder.Input{Bytes: []byte{1}, FPort: 2, RecvTime: at}, Want: codeccatalog.Want{Data: json.RawMessage(`{"n":1}`)}}}
		if i == 3 {
			vectors = nil
		}
		if r.err != nil || r.codec.Name != want[i] || r.codec.Source != script || !reflect.DeepEqual(r.codec.Vectors, vectors) {
			t.Errorf("%s: %+v, %v", want[i], r.codec, r.err)
		}
	}
}

func TestACodecIsNamedByAnyOfItsFiles(t *testing.T) {
	tree := files("codecs/a.js", script, "codecs/test_decode_a.json", vector, "w/a.js", script, "w/a-codec.yaml", yaml, "w/b.js", script)
	for name, want := range map[string]string{
		"codecs/a.js": "codecs/test_decode_a.json", "codecs/test_decode_a.json": "codecs/test_decode_a.json", "w/a.js": "w/a-codec.yaml", "w/a-codec.yaml": "w/a-codec.yaml",
		"w/b.js": "w/b.js", "codecs": "codecs/test_decode_a.json", "w": "w/a-codec.yaml",
	} {
		if got := all(t, tree, name); len(got) != 1 || got[0].err != nil || got[0].codec.Name != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What is wrong with one codec is told under its name, and the others are read all the same.
func TestWhatCannotBeReadIsTold(t *testing.T) {
	expects := `,"expected":{"data":{}}}]`
	for _, c := range []struct{ name, text, want string }{
		{"no JSON", `[{]`, "JavaScript literal"},
		{"no list", `{"a":1}`, "no list"},
		{"no bytes", `[{"input":{"fPort":1}` + expects, "input.bytes"},
		{"byte of 256", `[{"input":{"bytes":[256]}` + expects, "within 0 and 255"},
		{"byte as a text", `[{"input":{"bytes":["1"]}` + expects, "within 0 and 255"},
		{"odd digits", `[{"input":{"bytes":"abc"}` + expects, "hexadecimal"},
		{"long payload", `[{"input":{"bytes":"` + strings.Repeat("00", decoder.MaxPayload+1) + `"}` + expects, "more than 4096"},
		{"port of 256", `[{"input":{"bytes":[],"fPort":256}` + expects, "fPort"},
		{"port of a half", `[{"input":{"bytes":[],"fPort":1.5}` + expects, "vector 1: fPort"},
		{"port as a text", `[{"input":{"bytes":[]}` + strings.TrimSuffix(expects, "]") + `,{"input":{"bytes":[],"fPort":"1"}` + expects, "vector 2: fPort"},
		{"byte of a half", `[{"input":{"bytes":[0.5]}` + expects, "within 0 and 255"},
		{"another form", `[{"input":{"bytes":[]},"expected":{"data":{}}},{"name":"two","input":1}]`, "vector 2: it has another form"},
		{"no time", `[{"input":{"bytes":[],"recvTime":"noon"}` + expects, "recvTime"},
		{"nothing expected", `[{"input":{"bytes":[]},"expected":{}}]`, "anything would pass"},
		{"no expectation", `[{"input":{"bytes":[]}}]`, "anything would pass"},
		{"too large", strings.Repeat(" ", 1<<20) + vector, "larger than"},
	} {
		got := all(t, files("codecs/a.js", script, "codecs/test_decode_a.json", c.text, "codecs/b.js", script, "codecs/test_decode_b.json", vector), ".")
		if len(got) != 2 || got[0].err == nil || !strings.Contains(got[0].err.Error(), c.want) || got[0].codec.Name != "codecs/test_decode_a.json" || len(got[0].codec.Vectors) != 0 || got[1].err != nil {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	for _, c := range []struct{ name, text, want string }{
		{"no YAML", "uplinkDecoder: [", "cannot be read"},
		{"no file name", "uplinkDecoder: {}", "fileName"},
		{"file outside", "uplinkDecoder: {fileName: ../a.js}", "fileName"},
		{"file of the system", "uplinkDecoder: {fileName: /etc/passwd.js}", "fileName"},
		{"no script", "uplinkDecoder: {fileName: gone.js}", "the script"},
		{"key twice", "uplinkDecoder: {fileName: a.js, fileName: b.js}", "twice"},
		{"merge", "base: &b {fileName: a.js}\nuplinkDecoder: {<<: *b}", "merge"},
		{"two documents", yaml + "---\n" + yaml, "more than one"},
		{"too deep", "x: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "\n" + yaml, "deeper"},
		{"alias of itself", "x: &x [*x]\n" + yaml, ""},
		{"bomb of aliases", bomb() + yaml, ""},
		{"own type", "x: !!binary aGk=\n" + yaml, "JSON lacks"},
	} {
		got := all(t, files("w/a.js", script, "w/a-codec.yaml", c.text), ".")
		if len(got) != 1 || got[0].err == nil || !strings.Contains(got[0].err.Error(), c.want) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	whole := strings.NewReplacer(`[1]`, `[1.0]`, `"fPort":2`, `"fPort":0.2e1`).Replace(vector)
	if got := all(t, files("codecs/a.js", script, "codecs/test_decode_a.json", whole), "."); len(got) != 1 || got[0].err != nil || got[0].codec.Vectors[0].Input.FPort != 2 || got[0].codec.Vectors[0].Input.Bytes[0] != 1 {
		t.Errorf("whole numbers with a point: %+v", got)
	}
	if got := all(t, files("codecs/test_decode_a.json", vector), "."); len(got) != 1 || !errors.Is(got[0].err, fs.ErrNotExist) {
		t.Errorf("vectors without a script: %+v", got)
	}
	if got := all(t, files("codecs/a.js", strings.Repeat(" ", decoder.MaxScript+1)), "."); len(got) != 1 || got[0].err == nil {
		t.Errorf("a script beyond its bound: %+v", got)
	}
	if got := all(t, files("a.txt", ""), "a.txt"); len(got) != 1 || got[0].err == nil {
		t.Errorf("a file of no kind: %+v", got)
	}
}

// bomb is a YAML of a billion values in a few lines.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n")
	for i := range 8 {
		name, last := string(rune('1'+i)), string(rune('0'+i))
		b.WriteString("a" + name + ": &a" + name + " [" + strings.TrimSuffix(strings.Repeat("*a"+last+",", 10), ",") + "]\n")
	}
	return b.String()
}

func TestYAMLIsReadAsJavaScriptReadsIt(t *testing.T) {
	text := strings.Replace(yaml, "{data: {n: 1}}", `{data: {s: "1", old: 010, neg: -0_17, new: 0o10, bin: 0b11, nine: 09, hex: 0xb0, f: 20.0, e: 1e3, yes: yes, t: true, n: ~, nan: .nan, day: 2026-03-04, at: 2026-03-04T05:06:07Z, l: [1, two]}}`, 1)
	got := all(t, files("w/a.js", script, "w/a-codec.yaml", text), ".")
	want := `{"s":"1","old":10,"neg":-17,"new":8,"bin":3,"nine":9,"hex":176,"f":20,"e":1000,"yes":"yes","t":true,"n":null,"nan":null,"day":"2026-03-04T00:00:00.000Z","at":"2026-03-04T05:06:07.000Z","l":[1,"two"]}`
	if len(got) != 1 || got[0].err != nil || len(got[0].codec.Vectors) != 1 || string(got[0].codec.Vectors[0].Want.Data) != want {
		t.Errorf("%+v", got)
	}
}

func TestNoLinkLeadsOutOfTheFolder(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret.js"), script)
	write(t, filepath.Join(inside, "a-codec.yaml"), strings.Replace(yaml, "a.js", "link.js", 1))
	if err := os.Symlink(filepath.Join(outside, "secret.js"), filepath.Join(inside, "link.js")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, r := range all(t, root.FS(), ".") {
		if r.err == nil || r.codec.Source != "" {
			t.Errorf("read: %+v", r)
		}
	}
}

// A link that stays in the folder is read as what it leads to; one to a folder, out or nowhere may hide codecs, and is told.
func TestLinksAreReadOrTold(t *testing.T) {
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "v", "codecs"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "a.js"), script)
	for name, to := range map[string]string{"codecs/a.js": "../../a.js", "codecs/b.js": "../../gone.js", "more": "codecs", "out": t.TempDir(), "x.txt": "../a.js"} {
		if err := os.Symlink(to, filepath.Join(folder, "v", name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var got []string
	for _, r := range all(t, root.FS(), "v") {
		if got = append(got, r.codec.Name); (r.err == nil) != (r.codec.Name == "v/codecs/a.js") {
			t.Errorf("%+v", r)
		}
	}
	if want := []string{"v/codecs/a.js", "v/codecs/b.js", "v/more", "v/out"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(true, []byte(yaml))
	f.Add(true, []byte("x: &x [*x]\nuplinkDecoder: *x"))
	f.Add(true, []byte("uplinkDecoder: {fileName: a.js, examples: [{input: {bytes: ff, fPort: 1, recvTime: 0}, output: {errors: [e]}}]}"))
	f.Add(true, []byte("? [a]\n: uplinkDecoder"))
	f.Add(false, []byte(vector))
	f.Add(false, []byte(`/**/[{"input":{"bytes":"0x01 02","recvTime":1e12,"variables":{"a":1}},"output":{"data":null,"errors":["x"]}}]`))
	f.Fuzz(func(t *testing.T, asYAML bool, text []byte) {
		name := "codecs/test_decode_a.json"
		if asYAML {
			name = "codecs/a.yaml"
		}
		for _, r := range all(t, files("codecs/a.js", script, name, string(text)), name) {
			for _, v := range r.codec.Vectors {
				if r.err != nil || len(v.Input.Bytes) > decoder.MaxPayload || v.Input.FPort < 0 || v.Input.FPort > 255 || v.Want.Data == nil && len(v.Want.Errors) == 0 {
					t.Fatalf("beyond its bounds: %+v, %v", v, r.err)
				}
				v.Want.Compare(decoder.Result{Category: decoder.Success, Data: json.RawMessage(`{"a":[1]}`)})
			}
		}
	})
}

// own are the decoders of testdata with what came of each vector.
func own(t *testing.T, change func(codec codeccatalog.Codec) codeccatalog.Codec, judge func(codec codeccatalog.Codec, v codeccatalog.Vector, r decoder.Result)) (codecs int) {
	t.Helper()
	engine, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.WithoutCancel(t.Context()))
	for codec, err := range (codeccatalog.Catalog{Files: os.DirFS("../../testdata/decoders"), Eval: engine, At: at}).Read(t.Context(), ".") {
		if err != nil {
			t.Errorf("%s: %v", codec.Name, err)
			continue
		}
		codecs++
		codec = change(codec)
		s := sandbox.Script{Hash: sha256.Sum256([]byte(codec.Source)), Source: codec.Source, Limits: decoder.DefaultLimits}
		for _, v := range codec.Vectors {
			r, err := engine.Run(t.Context(), sandbox.Job{Script: s, Input: v.Input})
			if err != nil {
				t.Fatal(err)
			}
			judge(codec, v, r)
		}
	}
	return codecs
}

func TestOurDecodersPassTheirVectorsInTheSandbox(t *testing.T) {
	vectors := 0
	n := own(t, func(c codeccatalog.Codec) codeccatalog.Codec { return c }, func(c codeccatalog.Codec, v codeccatalog.Vector, r decoder.Result) {
		vectors++
		for _, d := range v.Want.Compare(r) {
			t.Errorf("%s, %s: %+v", c.Name, v.Name, d)
		}
	})
	if n != 12 || vectors < 48 {
		t.Errorf("%d decoders with %d vectors", n, vectors)
	}
}

func TestAPlantedBugInADecoderIsCaughtByItsVectors(t *testing.T) {
	planted := map[string][2]string{
		"room-climate": {"v - 0x10000", "v - 0xffff"}, "door-contact": {"sum * 256", "sum * 255"}, "asset-tracker": {"now + 3600", "now + 360000"},
		"water-pulse": {">>> 0", "| 0"}, "soil-probe": {"^ 0x8000) - 0x8000", "^ 0x8000) - 0x7fff"}, "energy-bus": {"crc & 1 ?", "crc & 2 ?"},
		"people-counter": {"o.total.in - o.total.out", "o.in - o.out"}, "co2-air": {"> 1400", "> 1600"}, "parking-bay": {"& 31", "& 15"},
		"leak-rope": {`"puddle", "flood"`, `"flood", "puddle"`}, "tank-level": {"i * interval", "interval"}, "weather-mast": {"7 - (this.at & 7)", "this.at & 7"},
	}
	caught := map[string]bool{}
	own(t, func(c codeccatalog.Codec) codeccatalog.Codec {
		for name, bug := range planted {
			if strings.Contains(c.Name, name) {
				if !strings.Contains(c.Source, bug[0]) {
					t.Errorf("%s: nowhere to plant", name)
				}
				c.Name, c.Source = name, strings.Replace(c.Source, bug[0], bug[1], 1)
			}
		}
		return c
	}, func(c codeccatalog.Codec, v codeccatalog.Vector, r decoder.Result) {
		caught[c.Name] = caught[c.Name] || len(v.Want.Compare(r)) > 0
	})
	for name := range planted {
		if !caught[name] {
			t.Errorf("%s: no vector caught it", name)
		}
	}
}
