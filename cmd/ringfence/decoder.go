package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ringfence/ringfence/adapters/codeccatalog"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// decoderTestCmd runs decoders against their vectors, in the sandbox and within the limits of the server.
type decoderTestCmd struct {
	machine
	Paths []string  `arg:"" name:"path" help:"Folders or files: codecs/NAME.js with test_decode_NAME.json, or a codec's YAML with examples."`
	At    time.Time `help:"Receive time of vectors that name none." default:"2026-01-01T00:00:00Z"`
}

// tested is what decoder test tells about one codec.
type tested struct {
	Name      string         `json:"name"`
	Vectors   []testedVector `json:"vectors"`
	Unchecked int            `json:"unchecked,omitempty"` // normalized outputs, which are not run
	Problem   string         `json:"problem,omitempty"`   // why it could not be tested
}

type testedVector struct {
	Name        string                    `json:"name"`
	Passed      bool                      `json:"passed"`
	Category    decoder.Category          `json:"category"`
	Fuel        int64                     `json:"fuel"`
	Differences []codeccatalog.Difference `json:"differences,omitempty"`
}

// testReport is the whole of decoder test.
type testReport struct {
	Engine   string   `json:"engine"`
	Decoders []tested `json:"decoders"`
	Passed   int      `json:"passed"`
	Failed   int      `json:"failed"`
	Problems int      `json:"problems"`
}

// Validate is called before Run: what is wrong with a flag is told as the usage.
func (c decoderTestCmd) Validate() error {
	if err := (decoder.Input{RecvTime: c.At}).Check(); err != nil {
		return fmt.Errorf("--at: %w", err)
	}
	return nil
}

func (c decoderTestCmd) Run(ctx context.Context, env environment) error {
	engine, err := quickjssandbox.New(ctx, quickjssandbox.Options{})
	if err != nil {
		return err
	}
	return errors.Join(c.test(ctx, engine, env.stdout), engine.Close(context.WithoutCancel(ctx)))
}

// test answers nil if all passed, errNo if some did not, and another error where it could not find out.
func (c decoderTestCmd) test(ctx context.Context, engine *quickjssandbox.Engine, stdout io.Writer) error {
	report := testReport{Engine: engine.Version(), Decoders: []tested{}}
	for codec, err := range codecs(ctx, engine, c.Paths, c.At) {
		t := tested{Name: codec.Name, Unchecked: codec.Unchecked, Vectors: []testedVector{}}
		if err == nil {
			err = t.run(ctx, engine, codec)
		}
		if err != nil {
			t.Problem = codeccatalog.Printable(err.Error())
			report.Problems++
		}
		for _, v := range t.Vectors {
			if v.Passed {
				report.Passed++
			} else {
				report.Failed++
			}
		}
		report.Decoders = append(report.Decoders, t)
		if !c.JSON {
			t.tell(stdout)
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch err := errors.Join(report.tell(stdout, c.JSON), ctx.Err()); {
	case err != nil:
		return err
	case report.Failed > 0:
		return errNo
	case report.Problems > 0:
		return errors.New("not every decoder could be tested; those with a ? above say why")
	case report.Passed == 0:
		return errors.New("there is no vector there: nothing was tested")
	}
	return nil
}

// run fills in what comes of a codec's vectors. An error is no verdict on the decoder.
func (t *tested) run(ctx context.Context, engine sandbox.Engine, codec codeccatalog.Codec) error {
	script := scriptOf(codec.Source)
	if len(codec.Vectors) == 0 {
		r, err := engine.Check(ctx, script)
		if err == nil && r.Category != decoder.Success {
			t.Vectors = append(t.Vectors, testedVector{Name: "it loads", Category: r.Category, Fuel: r.Fuel, Differences: codeccatalog.Want{}.Compare(r)})
		}
		return err
	}
	for _, v := range codec.Vectors {
		r, err := engine.Run(ctx, sandbox.Job{Script: script, Input: v.Input})
		if err == nil && r.Category == decoder.Internal {
			err = errors.New("the engine gave up, which is no verdict; try again on a quieter machine")
		}
		if err != nil {
			return err
		}
		diff := v.Want.Compare(r)
		t.Vectors = append(t.Vectors, testedVector{v.Name, len(diff) == 0, r.Category, r.Fuel, diff})
	}
	return nil
}

// scriptOf is a script under the ids of nobody: here there is no tenant.
func scriptOf(source string) sandbox.Script {
	hash := sha256.Sum256([]byte(source))
	s := sandbox.Script{Hash: hash, Source: source, Limits: decoder.DefaultLimits}
	copy(s.Tenant[:], "decoder test")
	copy(s.Version[:], hash[:])
	return s
}

func (t tested) tell(w io.Writer) {
	failed := 0
	for _, v := range t.Vectors {
		if !v.Passed {
			failed++
		}
	}
	name := codeccatalog.Printable(t.Name)
	switch {
	case failed > 0:
		fmt.Fprintf(w, "FAIL  %s  %d of %d\n", name, failed, len(t.Vectors))
	case t.Problem != "":
	case len(t.Vectors) == 0:
		fmt.Fprintf(w, "none  %s  it loads, and has no vectors\n", name)
	default:
		fmt.Fprintf(w, "ok    %s  %d\n", name, len(t.Vectors))
	}
	for _, v := range t.Vectors {
		if !v.Passed {
			fmt.Fprintf(w, "      %s\n", codeccatalog.Printable(v.Name))
		}
		for _, d := range v.Differences {
			fmt.Fprintf(w, "        %s\n        - want %s\n        + got  %s\n", d.Path, d.Want, d.Got)
		}
	}
	if t.Problem != "" {
		fmt.Fprintf(w, "?     %s  %s\n", name, t.Problem)
	}
	if t.Unchecked > 0 {
		fmt.Fprintf(w, "      %d normalized outputs are not checked: decodeUplink alone is run\n", t.Unchecked)
	}
}

func (r testReport) tell(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var fuel []int64
	for _, d := range r.Decoders {
		for _, v := range d.Vectors {
			fuel = append(fuel, v.Fuel)
		}
	}
	fmt.Fprintf(w, "\n%d decoders, %d vectors: %d passed, %d failed", len(r.Decoders), len(fuel), r.Passed, r.Failed)
	if r.Problems > 0 {
		fmt.Fprintf(w, ", %d decoders not tested", r.Problems)
	}
	if slices.Sort(fuel); len(fuel) > 0 {
		fmt.Fprintf(w, "; fuel %d in the middle, %d at most", fuel[len(fuel)/2], fuel[len(fuel)-1])
	}
	_, err := fmt.Fprintln(w)
	return err
}

// codecs gives the codecs of all paths. What a path's links point to outside of it is not read.
func codecs(ctx context.Context, eval codeccatalog.Evaluator, paths []string, at time.Time) func(func(codeccatalog.Codec, error) bool) {
	return func(yield func(codeccatalog.Codec, error) bool) {
		for _, p := range paths {
			if !codecsOf(ctx, eval, p, at, yield) {
				return
			}
		}
	}
}

func codecsOf(ctx context.Context, eval codeccatalog.Evaluator, p string, at time.Time, yield func(codeccatalog.Codec, error) bool) bool {
	folder, name := p, "."
	if info, err := os.Stat(p); err != nil {
		return yield(codeccatalog.Codec{Name: p}, err)
	} else if !info.IsDir() {
		folder, name = filepath.Dir(p), filepath.Base(p)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return yield(codeccatalog.Codec{Name: p}, err)
	}
	defer func() { _ = root.Close() }()
	whole, err := filepath.Abs(folder) // "." has no name
	if err != nil {
		return yield(codeccatalog.Codec{Name: p}, err)
	}
	for codec, err := range (codeccatalog.Catalog{Files: root.FS(), Eval: eval, At: at, Bare: filepath.Base(whole) == "codecs"}).Read(ctx, name) {
		codec.Name = filepath.ToSlash(filepath.Join(folder, codec.Name))
		if !yield(codec, err) {
			return false
		}
	}
	return true
}
