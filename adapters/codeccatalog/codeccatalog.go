// Package codeccatalog reads decoders with their test vectors from folders laid out as ChirpStack's device profiles
// (codecs/NAME.js beside codecs/test_decode_NAME.json) or as The Things Network's device repository (a codec's YAML that names
// its script and has examples). It says what a result should have been, too. It runs no decoder: that is ports/sandbox.
package codeccatalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
)

// Codec is one decoder with what it must give.
type Codec struct {
	Name      string // path of the file that holds the vectors, or of the script if none does
	Source    string
	Vectors   []Vector
	Unchecked int // examples of normalizeUplink and the like, which are not run
}

// Vector is one input and what must come of it.
type Vector struct {
	Name  string
	Input decoder.Input
	Want  Want
}

// Evaluator gives the JSON of a JavaScript expression, or of what a small program exports: some test files are literals with
// comments, hexadecimal numbers and bare keys. What it is given is as foreign as a decoder, so it must be a sandbox.
type Evaluator interface {
	Eval(ctx context.Context, text string) ([]byte, error)
}

// Bounds of a catalogue.
const (
	maxFile    = 1 << 20 // bytes of vectors
	maxFiles   = 200_000
	maxFolders = 16 // deep
	maxVectors = 10_000
)

// Catalog is a folder of codecs.
type Catalog struct {
	Files fs.FS     // an os.Root's, so that no link leads out of it
	Eval  Evaluator // reads vectors that are no JSON
	At    time.Time // receive time of vectors that name none
	Bare  bool      // Files is itself a folder named codecs, as ChirpStack has them
}

// Read gives each codec at or below a name, in order of names. An error beside a codec concerns that one alone, which then
// has its name and nothing else; other errors end the reading.
func (c Catalog) Read(ctx context.Context, name string) iter.Seq2[Codec, error] {
	return func(yield func(Codec, error) bool) {
		info, err := fs.Stat(c.Files, name)
		if err != nil {
			yield(Codec{Name: name}, err)
			return
		}
		if !info.IsDir() {
			yield(c.file(ctx, name))
			return
		}
		files := 0
		err = fs.WalkDir(c.Files, name, func(file string, entry fs.DirEntry, err error) error {
			files++
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				return err
			case files > maxFiles:
				return fmt.Errorf("more than %d files: name a smaller folder", maxFiles)
			case entry.IsDir() && strings.Count(file, "/") >= maxFolders:
				return fs.SkipDir
			case entry.Type() == fs.ModeSymlink && !c.has(file): // to a folder, out of this one or nowhere: there may be codecs
				err = errors.New("a link that is not followed: name what it leads to")
			case !entry.Type().IsRegular() && entry.Type() != fs.ModeSymlink:
				return nil
			}
			codec := Codec{Name: file}
			if err == nil {
				codec, err = c.found(ctx, file)
			}
			if errors.Is(err, errNone) {
				return nil
			}
			if !yield(codec, err) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Codec{Name: name}, err)
		}
	}
}

// errNone says that a file is no codec of its own.
var errNone = errors.New("no codec")

// found reads the codec that a file of a folder stands for.
func (c Catalog) found(ctx context.Context, file string) (Codec, error) {
	switch folder, base := path.Split(file); {
	case isTest(base):
		return c.chirpStack(ctx, file)
	case isYAML(base):
		return c.thingsNetwork(file)
	case path.Ext(base) == ".js" && (path.Base(folder) == "codecs" || c.Bare && folder == ""):
		if c.has(testOf(file)) {
			return Codec{}, errNone // its vectors bring it
		}
		return c.untested(file)
	}
	return Codec{}, errNone
}

// file reads the codec that somebody named by one file of it.
func (c Catalog) file(ctx context.Context, file string) (Codec, error) {
	if path.Ext(file) == ".js" {
		stem := strings.TrimSuffix(file, ".js")
		for _, vectors := range []string{testOf(file), stem + "-codec.yaml", stem + ".yaml"} {
			if c.has(vectors) {
				return c.file(ctx, vectors)
			}
		}
		return c.untested(file)
	}
	codec, err := c.found(ctx, file)
	if errors.Is(err, errNone) {
		err = errors.New("neither a script, nor test_decode_NAME.json, nor a codec's YAML with an uplinkDecoder")
	}
	return codec, err
}

func (c Catalog) has(file string) bool {
	info, err := fs.Stat(c.Files, file)
	return err == nil && info.Mode().IsRegular()
}

func (c Catalog) untested(file string) (Codec, error) {
	source, err := c.script(file)
	return Codec{Name: file, Source: source}, err
}

func (c Catalog) script(file string) (string, error) {
	b, err := c.read(file, decoder.MaxScript)
	if err != nil {
		return "", fmt.Errorf("the script: %w", err)
	}
	return string(b), nil
}

// read reads a bounded file, without the byte order mark that some editors put before it.
func (c Catalog) read(file string, limit int64) ([]byte, error) {
	f, err := c.Files.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path.Base(file), limit)
	}
	return bytes.TrimPrefix(b, []byte("\ufeff")), nil
}
