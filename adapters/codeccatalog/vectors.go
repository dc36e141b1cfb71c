package codeccatalog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/secret"
)

const testPrefix = "test_decode_"

func isTest(base string) bool {
	return strings.HasPrefix(base, testPrefix) && strings.HasSuffix(base, ".json")
}

func isYAML(base string) bool { return path.Ext(base) == ".yaml" || path.Ext(base) == ".yml" }

// testOf is the name of the vectors of a ChirpStack codec's script.
func testOf(script string) string {
	folder, base := path.Split(script)
	return folder + testPrefix + strings.TrimSuffix(base, ".js") + ".json"
}

// chirpStack reads the codec of a test_decode_NAME.json.
func (c Catalog) chirpStack(ctx context.Context, file string) (Codec, error) {
	codec := Codec{Name: file}
	folder, base := path.Split(file)
	source, err := c.script(folder + strings.TrimSuffix(strings.TrimPrefix(base, testPrefix), ".json") + ".js")
	if err != nil {
		return codec, err
	}
	text, err := c.read(file, maxFile)
	if err != nil {
		return codec, err
	}
	if !json.Valid(text) {
		if text, err = c.Eval.Eval(ctx, string(text)); err != nil {
			return codec, fmt.Errorf("the vectors are no JSON, and as a JavaScript literal they cannot be read: %w", err)
		}
	}
	vectors, _, err := c.vectors(text)
	if err != nil {
		return codec, err
	}
	codec.Source, codec.Vectors = source, vectors
	return codec, nil
}

// example is a vector as both catalogues write it.
type example struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Input       struct {
		Bytes     json.RawMessage            `json:"bytes"`
		FPort     json.RawMessage            `json:"fPort"`
		RecvTime  json.RawMessage            `json:"recvTime"`
		Variables map[string]json.RawMessage `json:"variables"`
	} `json:"input"`
	Expected         *outcome        `json:"expected"`
	Output           *outcome        `json:"output"`
	NormalizedOutput json.RawMessage `json:"normalizedOutput"`
}

type outcome struct {
	Data     json.RawMessage `json:"data"`
	Warnings []string        `json:"warnings"`
	Errors   []string        `json:"errors"`
}

// vectors reads a JSON list of examples; unchecked are those that want more than is run.
func (c Catalog) vectors(text []byte) (all []Vector, unchecked int, err error) {
	var examples []json.RawMessage
	if err := json.Unmarshal(text, &examples); err != nil {
		return nil, 0, errors.New("the vectors are no list of {name, input, expected}")
	}
	if len(examples) > maxVectors {
		return nil, 0, fmt.Errorf("more than %d vectors", maxVectors)
	}
	for i, raw := range examples {
		var e example
		if json.Unmarshal(raw, &e) != nil {
			return nil, 0, fmt.Errorf("vector %d: it has another form than {name, input: {bytes, fPort, recvTime, variables}, expected: {data, warnings, errors}}", i+1)
		}
		v, err := c.vector(e)
		if err != nil {
			return nil, 0, fmt.Errorf("vector %d: %w", i+1, err)
		}
		if v.Name == "" {
			v.Name = "vector " + strconv.Itoa(i+1)
		}
		if !absent(e.NormalizedOutput) {
			unchecked++
		}
		all = append(all, v)
	}
	return all, unchecked, nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func (c Catalog) vector(e example) (v Vector, err error) {
	v.Name = e.Name
	if v.Name == "" {
		v.Name = e.Description
	}
	if v.Input.Bytes, err = payload(e.Input.Bytes); err != nil {
		return v, err
	}
	if !absent(e.Input.FPort) { // without one it is 0, as of an uplink that has none: the port to the sandbox knows no undefined
		port, ok := octet(e.Input.FPort)
		if !ok {
			return v, errors.New("fPort is no whole number within 0 and 255")
		}
		v.Input.FPort = int(port)
	}
	if v.Input.RecvTime, err = c.moment(e.Input.RecvTime); err != nil {
		return v, err
	}
	if v.Input.Variables, err = variables(e.Input.Variables); err != nil {
		return v, err
	}
	out := e.Expected
	if out == nil {
		out = e.Output
	}
	if out == nil || absent(out.Data) && len(out.Errors) == 0 {
		return v, errors.New("it expects neither data nor errors, so anything would pass")
	}
	v.Want = Want{Warnings: out.Warnings, Errors: out.Errors}
	if !absent(out.Data) {
		v.Want.Data = out.Data
	}
	return v, nil
}

// payload reads bytes: a list of numbers, or hexadecimal digits.
func payload(raw json.RawMessage) ([]byte, error) {
	if absent(raw) {
		return nil, errors.New("it has no input.bytes")
	}
	var b []byte
	if raw[0] == '"' {
		var digits string
		if err := json.Unmarshal(raw, &digits); err != nil {
			return nil, err
		}
		digits = strings.TrimPrefix(strings.NewReplacer(" ", "", ":", "", "-", "").Replace(digits), "0x")
		var err error
		if b, err = hex.DecodeString(digits); err != nil {
			return nil, errors.New("input.bytes is a text and no hexadecimal digits")
		}
	} else {
		var numbers []json.RawMessage
		if err := json.Unmarshal(raw, &numbers); err != nil {
			return nil, errors.New("input.bytes is neither a list nor a text")
		}
		b = make([]byte, len(numbers))
		for i, n := range numbers {
			var ok bool
			if b[i], ok = octet(n); !ok {
				return nil, fmt.Errorf("input.bytes[%d] is no whole number within 0 and 255", i)
			}
		}
	}
	if len(b) > decoder.MaxPayload {
		return nil, fmt.Errorf("input.bytes has more than %d bytes", decoder.MaxPayload)
	}
	return b, nil
}

// octet reads a whole number within 0 and 255, however JSON writes it: 1.0 is one.
func octet(raw json.RawMessage) (byte, bool) {
	v, err := strconv.ParseFloat(string(raw), 64)
	return byte(v), err == nil && v >= 0 && v <= 255 && v == math.Trunc(v)
}

// moment reads a receive time: a text as RFC 3339 has it, or milliseconds since 1970.
func (c Catalog) moment(raw json.RawMessage) (time.Time, error) {
	if absent(raw) {
		return c.At, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return t.UTC(), nil
		}
	}
	var ms float64
	if json.Unmarshal(raw, &ms) == nil && ms >= 0 && ms < 1e15 {
		return time.UnixMilli(int64(ms)).UTC(), nil
	}
	return time.Time{}, errors.New("input.recvTime is no time such as 2026-01-31T12:00:00Z")
}

func variables(raw map[string]json.RawMessage) ([]decoder.Variable, error) {
	var all []decoder.Variable
	for name, v := range raw {
		text := string(v)
		if len(v) > 0 && v[0] == '"' {
			if err := json.Unmarshal(v, &text); err != nil {
				return nil, err
			}
		}
		all = append(all, decoder.Variable{Name: name, Value: secret.New(text)})
	}
	slices.SortFunc(all, func(a, b decoder.Variable) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
