package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
)

var update = flag.Bool("update", false, "write the golden files")

// catalog writes files below a new folder, given as name and text in turn, and goes there, so that outputs have no path of this machine.
func catalog(t *testing.T, pairs ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for i := 0; i < len(pairs); i += 2 {
		if err := os.MkdirAll(filepath.Dir(pairs[i]), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pairs[i], []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDecoderTestShowsWhatDiffers(t *testing.T) {
	file, err := filepath.Abs("testdata/decoder-test.golden")
	if err != nil {
		t.Fatal(err)
	}
	catalog(t,
		"v/codecs/bad.js", "function decodeUplink(i) { if (i.fPort > 1) throw new Error('port'); return {data: {sum: i.bytes[0] + i.bytes[1], unit: 'C'}, warnings: ['w']} }",
		"v/codecs/test_decode_bad.json", `[ // a literal
			{name: "right", input: {bytes: [1, 2], fPort: 1}, expected: {data: {sum: 3, unit: "C"}, warnings: ["w"]}},
			{name: "wrong", input: {bytes: [0x10, 2], fPort: 1}, expected: {data: {sum: 0x11, unit: "C", more: [1]}}},
			{name: "throws\u001b[31m", input: {bytes: [], fPort: 2}, expected: {data: {}}}]`,
		"v/codecs/endless.js", "while (true);", "v/codecs/test_decode_endless.json", `[{"name":"loads","input":{"bytes":[]},"expected":{"data":{}}}]`,
		"v/codecs/good.js", "const decode = i => ({n: i.bytes.length})", "v/codecs/test_decode_good.json", `[{"input":{"bytes":"0a0b"},"expected":{"data":{"n":2}}}]`,
		"v/codecs/unreadable.js", "", "v/codecs/test_decode_unreadable.json", `[{"input":`,
		"v/codecs/untested.js", "function decodeUplink() {}", "v/codecs/broken.js", "function (",
		"w/t.js", "function decodeUplink(i) { return {errors: ['never']} }",
		"w/t-codec.yaml", "uplinkDecoder:\n  fileName: t.js\n  examples:\n    - description: refused\n      input: {fPort: 1, bytes: [1]}\n      output: {errors: [never]}\n      normalizedOutput: {data: {}}\n",
	)
	code, out, errs := command(t.Context(), "decoder", "test", "v", "w") // the whole way, as main goes it
	if code != exitNo || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	if *update {
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || out != string(want) {
		t.Errorf("%v; got\n%s\nwant\n%s", err, out, want)
	}
}

// An engine takes seconds to compile under the race detector, so these share one.
func TestDecoderTestAnswersByWhatItFound(t *testing.T) {
	engine, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.WithoutCancel(t.Context()))
	t.Run("our decoders, for machines", func(t *testing.T) {
		var out bytes.Buffer
		var report testReport
		paths := []string{"../../testdata/decoders"}
		if err := (decoderTestCmd{Paths: paths, machine: machine{true}, At: time.Unix(0, 0)}).test(t.Context(), engine, &out); err != nil {
			t.Errorf("%v: %s", err, &out)
		}
		if err := json.Unmarshal(out.Bytes(), &report); err != nil || len(report.Decoders) != 12 || report.Passed < 48 || report.Failed != 0 || report.Problems != 0 || report.Engine != engine.Version() {
			t.Errorf("%v: %d decoders, %d passed, %d failed, %d problems", err, len(report.Decoders), report.Passed, report.Failed, report.Problems)
		}
		for _, d := range report.Decoders {
			for _, v := range d.Vectors {
				if v.Fuel <= 0 || v.Name == "" {
					t.Errorf("%s: %+v", d.Name, v)
				}
			}
		}
		bench, err := decoderBenchCmd{Paths: paths, For: 100 * time.Millisecond}.measure(t.Context(), engine)
		if err != nil || bench.Decodes == 0 || bench.PerSecond <= 0 || bench.P99 < bench.P50 || bench.Vectors != report.Passed {
			t.Errorf("%v: %+v", err, bench)
		}
	})
	good := []string{"v/codecs/good.js", "const decode = i => ({n: i.bytes.length})", "v/codecs/test_decode_good.json", `[{"input":{"bytes":"0a0b"},"expected":{"data":{"n":2}}}]`}
	bad := []string{"v/codecs/bad.js", "const decode = i => ({n: 1})", "v/codecs/test_decode_bad.json", `[{"input":{"bytes":"0a0b"},"expected":{"data":{"n":2}}}]`}
	broken := []string{"v/codecs/broken.js", "function ("}
	unreadable := []string{"v/codecs/a.js", "", "v/codecs/test_decode_a.json", "{"}
	for _, c := range []struct {
		name  string
		files []string
		path  string
		code  int
	}{
		{"all pass", good, "v", exitDone},
		{"one file", good, "v/codecs/good.js", exitDone},
		{"one fails", slices.Concat(good, bad), "v", exitNo},
		{"one fails and one is unreadable", slices.Concat(bad, unreadable), "v", exitNo},
		{"one is unreadable", slices.Concat(good, unreadable), "v", exitFail},
		{"nothing there", good, "gone", exitFail},
		{"no vectors at all", []string{"v/codecs/a.js", "function decodeUplink() {}"}, "v", exitFail},
		{"a folder of codecs", slices.Concat(good, broken), "v", exitNo},
		{"a folder of codecs, named itself", slices.Concat(good, broken), "v/codecs", exitNo},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog(t, c.files...)
			var out bytes.Buffer
			code := exitDone
			if err := (decoderTestCmd{Paths: []string{c.path}, At: time.Unix(0, 0)}).test(t.Context(), engine, &out); errors.Is(err, errNo) {
				code = exitNo
			} else if err != nil {
				code = exitFail
			}
			if code != c.code {
				t.Errorf("%d: %s", code, &out)
			}
		})
	}
	t.Run("standing in a folder of codecs", func(t *testing.T) {
		catalog(t, slices.Concat(good, broken)...)
		t.Chdir("v/codecs")
		if err := (decoderTestCmd{Paths: []string{"."}, At: time.Unix(0, 0)}).test(t.Context(), engine, io.Discard); !errors.Is(err, errNo) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a link to a codec elsewhere", func(t *testing.T) {
		catalog(t, slices.Concat(good, []string{"elsewhere/codecs/a.js", "function ("})...)
		if err := os.Symlink("../elsewhere/codecs", "v/more"); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := (decoderTestCmd{Paths: []string{"v"}, At: time.Unix(0, 0)}).test(t.Context(), engine, &out); err == nil || errors.Is(err, errNo) || !strings.Contains(out.String(), "v/more  a link") {
			t.Errorf("%v: %s", err, &out)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		catalog(t, good...)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := (decoderTestCmd{Paths: []string{"v"}}).test(ctx, engine, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestDecoderCommandsSayHowTheyAreUsed(t *testing.T) {
	for _, args := range [][]string{{"decoder", "test"}, {"decoder", "test", ".", "--quick"}, {"decoder", "test", ".", "--at", "noon"}, {"decoder", "test", ".", "--at", "1900-01-01T00:00:00Z"}, {"decoder", "test", ".", "--at", "2262-01-01T00:00:00Z"}, {"decoder", "bench"}} {
		if code, _, errs := command(t.Context(), args...); code != exitUsage || errs == "" {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
}
