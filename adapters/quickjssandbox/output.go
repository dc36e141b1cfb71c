package quickjssandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/strictjson"
)

// inputText is the JSON of an uplink as the prelude reads it. It is written by hand, since it is built for every uplink.
func inputText(in decoder.Input) (string, error) {
	if err := in.Check(); err != nil {
		return "", err
	}
	b := make([]byte, 0, 128+4*len(in.Bytes))
	b = append(b, `{"bytes":[`...)
	for i, c := range in.Bytes {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(c), 10)
	}
	b = append(b, `],"fPort":`...)
	b = strconv.AppendInt(b, int64(in.FPort), 10)
	b = append(b, `,"recvTime":`...)
	b = strconv.AppendInt(b, in.RecvTime.UnixMilli(), 10)
	b = append(b, `,"variables":{`...)
	for i, v := range in.Variables {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(quoted(b, v.Name), ':')
		b = quoted(b, v.Value.Reveal())
	}
	return string(append(b, '}', '}')), nil
}

func quoted(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string always has a JSON form
		return append(b, '"', '"')
	}
	return append(b, q...)
}

// engineName is how much of a property's name the engine's own messages hold, in bytes.
const engineName = 63

// secretsOf are the texts to hide: each secret as it is, as much of it as the engine names (a script may catch such a message
// and put it into its output), and as a script's JSON.stringify writes it.
func secretsOf(in decoder.Input) []string {
	var s []string
	for _, v := range in.Variables {
		text := v.Value.Reveal()
		if !v.Secret || text == "" {
			continue
		}
		s = append(s, text)
		if len(text) > engineName {
			s = append(s, upTo(text, engineName))
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' }) {
			s = append(s, stringified(text))
		}
	}
	return s
}

// stringified is a text as it stands between the quotes that JSON.stringify gives it, which escapes less than ours.
func stringified(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch i := strings.IndexRune("\"\\\b\f\n\r\t", r); {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte("\"\\bfnrt"[i])
		case r < 0x20:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r) // U+2028 too, unlike Go's
		}
	}
	return b.String()
}

const mask = "***"

// masked hides the device's secret variables in a text that leaves the sandbox.
func masked(text string, secrets []string) string {
	if hidden := found(text, secrets); hidden != nil {
		return without(text, hidden)
	}
	return text
}

// found marks the bytes of a text that belong to a secret; nil if none does. Secrets may overlap, so nothing is replaced before
// all were looked for.
func found(text string, secrets []string) (hidden []bool) {
	for _, s := range secrets {
		if !strings.Contains(text, s) {
			continue
		}
		if hidden == nil {
			hidden = make([]bool, len(text))
		}
		cover(hidden, text, s)
	}
	return hidden
}

// cover marks every occurrence of a text that is not empty, those that overlap too, in one pass (Knuth, Morris, Pratt): a
// script must not make us compare a long secret at every byte of its output.
func cover(hidden []bool, text, s string) {
	border := make([]int, len(s)+1) // of each beginning of s: how much of its end is a beginning as well
	k := 0
	step := func(c byte) {
		for k > 0 && s[k] != c {
			k = border[k]
		}
		if s[k] == c {
			k++
		}
	}
	for i := 1; i < len(s); i++ {
		step(s[i])
		border[i+1] = k
	}
	k = 0
	marked := 0
	for i := range len(text) {
		if step(text[i]); k == len(s) {
			for ; marked <= i; marked++ {
				hidden[marked] = hidden[marked] || marked > i-len(s)
			}
			k = border[k]
		}
	}
}

// without puts a mask in the place of each run of marked bytes.
func without(text string, hidden []bool) string {
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString(mask)
		}
	}
	return b.String()
}

// part is how many characters in a row a message must share with a secret to have them hidden.
const part = 5

// shown is what is told of a message that a script threw, or the engine: that one names a secret in part, up to a NUL or its
// first word. cut says that the message went on, maybe with the rest of a secret.
func shown(text string, secrets []string, cut bool) string {
	if len(secrets) == 0 {
		return short(text)
	}
	hidden := found(text, secrets)
	if hidden == nil {
		hidden = make([]bool, len(text))
	}
	end := len(text)
	if cut {
		for _, s := range secrets {
			end = min(end, max(0, len(text)-len(s)))
		}
	}
	// Parts are looked for only in as much as is told, since each is looked for in all secrets; but past its end, or half of one
	// would be told there.
	for i, room := 0, decoder.MaxMessage; i < end; i++ {
		switch {
		case !hidden[i]:
			room--
		case i == 0 || !hidden[i-1]:
			room -= len(mask)
		}
		if room <= 0 {
			end = len(upTo(text, i+1))
		}
	}
	for i := range text[:end] {
		j := i
		for range part {
			_, size := utf8.DecodeRuneInString(text[j:])
			j += size
		}
		gram := text[i:j]
		if slices.Contains(hidden[i:j], false) && utf8.RuneCountInString(gram) == part && slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(s, gram) }) {
			for ; i < j; i++ {
				hidden[i] = true
			}
		}
	}
	return short(without(text[:end], hidden))
}

// maskJSON hides them in every string of a JSON text; numbers and structure stay as they are.
func maskJSON(raw []byte, secrets []string) []byte {
	if len(secrets) == 0 {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '"' {
			out = append(out, raw[i])
			i++
			continue
		}
		end := i + 1
		for end < len(raw) && raw[end] != '"' {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(raw))
		var s string
		if json.Unmarshal(raw[i:end], &s) == nil && found(s, secrets) != nil {
			out = quoted(out, masked(s, secrets))
		} else {
			out = append(out, raw[i:end]...)
		}
		i = end
	}
	return out
}

// verdict turns a guest's failure into a result; other errors are ours.
func verdict(err error, secrets []string) (decoder.Result, error) {
	if err == nil {
		return decoder.Result{Category: decoder.Success}, nil
	}
	var g *errGuest
	if !errors.As(err, &g) {
		return decoder.Result{}, err
	}
	if g.category != decoder.Exception && g.category != decoder.Load {
		secrets = nil // the words are ours, and stay readable
	}
	return decoder.Result{Category: g.category, Message: shown(g.message, secrets, g.cut)}, nil
}

func bad(message string) decoder.Result {
	return decoder.Result{Category: decoder.BadOutput, Message: message}
}

// refused says why a strict reader would not take the data.
func refused(err error) string {
	switch {
	case errors.Is(err, strictjson.ErrDepth):
		return "The script's output is nested deeper than 32."
	case errors.Is(err, strictjson.ErrText):
		return "A text in data holds NUL, or half of a surrogate pair."
	case errors.Is(err, strictjson.ErrDuplicate):
		return "Two keys of an object in data are the same, now that secret variables are hidden in them."
	case errors.Is(err, strictjson.ErrMembers):
		return fmt.Sprintf("An object in data may have %d keys.", strictjson.MaxMembers)
	default:
		return "data is not JSON."
	}
}

// short cuts a message to its bound, between characters. A NUL, which not every reader takes, does not go out.
func short(s string) string {
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	return upTo(s, decoder.MaxMessage)
}

// upTo is as much of a text as fits into n bytes, in whole characters.
func upTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// maxMessages bounds a script's warnings and errors.
const maxMessages = 64

// output judges what a script returned.
func output(text string, secrets []string) decoder.Result {
	var o struct {
		Data     json.RawMessage `json:"data"`
		Warnings []*string       `json:"warnings"`
		Errors   []*string       `json:"errors"`
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil || slices.Contains(o.Warnings, nil) || slices.Contains(o.Errors, nil) {
		return bad("warnings and errors must be arrays of texts.")
	}
	if len(o.Warnings) > maxMessages || len(o.Errors) > maxMessages {
		return bad("A run may give 64 warnings and 64 errors.")
	}
	warnings, errs := messages(o.Warnings, secrets), messages(o.Errors, secrets)
	if len(errs) > 0 {
		return decoder.Result{Category: decoder.Exception, Warnings: warnings, Errors: errs, Message: cmp.Or(errs[0], "The script gave an error that has no text.")}
	}
	if data := bytes.TrimSpace(o.Data); len(data) == 0 || data[0] != '{' {
		return bad("data must be an object.")
	}
	data := maskJSON(o.Data, secrets)
	if err := strictjson.Check(data); err != nil { // what was masked, too: two keys may have become one
		return bad(refused(err))
	}
	return decoder.Result{Category: decoder.Success, Data: data, Warnings: warnings}
}

func messages(list []*string, secrets []string) (out []string) {
	for _, m := range list {
		out = append(out, short(masked(*m, secrets)))
	}
	return out
}
