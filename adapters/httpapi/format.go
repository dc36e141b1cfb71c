package httpapi

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/core/strictjson"
)

// strict reads and writes JSON by our rules.
var strict = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		var b bytes.Buffer
		if err := json.NewEncoder(&b).Encode(v); err != nil {
			panic(err) // nothing is sent yet: it becomes a 500, where huma would end a 200 with its own words
		}
		_, err := w.Write(b.Bytes())
		return err
	},
	Unmarshal: func(b []byte, v any) error {
		if err := strictjson.Check(b); err != nil {
			return err
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		return d.Decode(v)
	},
}
