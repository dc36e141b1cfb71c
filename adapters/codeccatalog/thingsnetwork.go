package codeccatalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// thingsNetwork reads the codec of a YAML that has an uplinkDecoder; others are none.
func (c Catalog) thingsNetwork(file string) (Codec, error) {
	codec := Codec{Name: file}
	text, err := c.read(file, maxFile)
	if err != nil {
		return codec, err
	}
	if !bytes.Contains(text, []byte("uplinkDecoder")) {
		return codec, errNone
	}
	raw, err := yamlToJSON(text)
	if err != nil {
		return codec, err
	}
	var root struct {
		UplinkDecoder *struct {
			FileName string          `json:"fileName"`
			Examples json.RawMessage `json:"examples"`
		} `json:"uplinkDecoder"`
	}
	if err := json.Unmarshal(raw, &root); err != nil {
		return codec, fmt.Errorf("the codec has another form than {uplinkDecoder: {fileName, examples}}: %w", err)
	}
	if root.UplinkDecoder == nil {
		return codec, errNone
	}
	script := root.UplinkDecoder.FileName
	if !filepath.IsLocal(script) || path.Ext(script) != ".js" {
		return codec, errors.New("fileName is no .js file in the codec's folder")
	}
	source, err := c.script(path.Join(path.Dir(file), script))
	if err != nil {
		return codec, err
	}
	if !absent(root.UplinkDecoder.Examples) {
		if codec.Vectors, codec.Unchecked, err = c.vectors(root.UplinkDecoder.Examples); err != nil {
			return Codec{Name: file}, err
		}
	}
	codec.Source = source
	return codec, nil
}

// Bounds of a YAML text; an alias counts as all that it stands for.
const (
	maxNodes = 200_000
	maxDepth = 64
)

// yamlToJSON gives the JSON of a YAML text's one document, as a JavaScript reader of YAML would see it.
func yamlToJSON(text []byte) ([]byte, error) {
	var root yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("the YAML cannot be read: %w", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the YAML has more than one document")
	}
	w := writer{}
	if err := w.node(&root, 0); err != nil {
		return nil, err
	}
	return w.out.Bytes(), nil
}

type writer struct {
	out   bytes.Buffer
	nodes int
}

func (w *writer) node(n *yaml.Node, depth int) error {
	if w.nodes++; w.nodes > maxNodes {
		return fmt.Errorf("the YAML has more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return fmt.Errorf("the YAML is nested deeper than %d", maxDepth)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return w.node(n.Content[0], depth)
	case yaml.AliasNode:
		return w.node(n.Alias, depth+1)
	case yaml.SequenceNode:
		w.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				w.out.WriteByte(',')
			}
			if err := w.node(item, depth+1); err != nil {
				return err
			}
		}
		w.out.WriteByte(']')
		return nil
	case yaml.MappingNode:
		return w.mapping(n, depth)
	case yaml.ScalarNode:
		return w.scalar(n)
	}
	return fmt.Errorf("line %d: neither value, list nor mapping", n.Line)
}

func (w *writer) mapping(n *yaml.Node, depth int) error {
	seen := make(map[string]bool, len(n.Content)/2)
	w.out.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: a key is no text", key.Line)
		case key.ShortTag() == "!!merge":
			return fmt.Errorf("line %d: merge keys are not read", key.Line)
		case seen[key.Value]:
			return fmt.Errorf("line %d: a key comes twice", key.Line)
		}
		seen[key.Value] = true
		if i > 0 {
			w.out.WriteByte(',')
		}
		if err := w.value(key.Value); err != nil {
			return err
		}
		w.out.WriteByte(':')
		if err := w.node(n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	return nil
}

func (w *writer) scalar(n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!str":
		return w.value(n.Value)
	case "!!null":
		return w.value(nil)
	case "!!bool", "!!int", "!!float":
		var v any
		var err error
		if n.ShortTag() == "!!int" && !strings.ContainsAny(n.Value, "xXoObB") { // decimal, 010 too: YAML 1.2 and its JavaScript readers have 0o10
			v, err = strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		} else {
			err = n.Decode(&v)
		}
		if err != nil {
			return fmt.Errorf("line %d: the value is not of its kind", n.Line)
		}
		if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			v = nil // as JSON.stringify writes them
		}
		return w.value(v)
	case "!!timestamp":
		var t time.Time
		if err := n.Decode(&t); err != nil {
			return fmt.Errorf("line %d: no time", n.Line)
		}
		return w.value(t.UTC().Format("2006-01-02T15:04:05.000Z")) // as a Date is written
	}
	return fmt.Errorf("line %d: a value of a kind that JSON lacks", n.Line)
}

func (w *writer) value(v any) error {
	b, err := json.Marshal(v)
	w.out.Write(b)
	return err
}
