package redacttest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/ringfence/ringfence/core/ident"
)

// canary is a text that stands nowhere unless somebody carried it there.
type canary struct {
	noun  string // what it is, such as "secret" or "device name"; columns lists where it may stand
	place string // where it was put in
	text  string
	owner ident.Tenant // of names and payloads: whose they are
}

const secretNoun = "secret"

// marks are characters that every encoding but the raw one writes in another way. What a header carries has no quote.
const (
	marks       = `"\<é&/+?~`
	headerMarks = `<&/+?~=`
)

// core is the n-th text of a run: 16 letters and digits, the same in each run so that a finding can be had again.
func core(n int) string {
	sum := sha256.Sum256([]byte(fmt.Sprint("canary ", n)))
	return strings.ToLower(base32.HexEncoding.EncodeToString(sum[:10]))
}

const head = 5 // characters of a core before the marks; the rest is long enough to be found alone

func rich(core, marks string) string { return core[:head] + marks + core[head:] }

// needle is one spelling of a canary.
type needle struct {
	text     []byte
	encoding string
	of       *canary
}

const window = 8 // bytes that a needle is looked up by

// finder looks for many needles in one pass.
type finder struct {
	filter [1 << 14]uint64 // of hashed windows: nearly all places of a text end here
	byHead map[uint64][]needle
}

func slot(head uint64) uint64 { return head * 0x9e3779b97f4a7c15 >> 44 }

// add makes a canary known in all its spellings.
func (f *finder) add(c *canary) {
	seen := map[string]bool{}
	put := func(encoding, text string) {
		if len(text) < window || seen[text] {
			return
		}
		seen[text] = true
		at := binary.LittleEndian.Uint64([]byte(text))
		s := slot(at)
		f.filter[s/64] |= 1 << (s % 64)
		f.byHead[at] = append(f.byHead[at], needle{[]byte(text), encoding, c})
	}
	put("raw", c.text)
	put("hex", hex.EncodeToString([]byte(c.text)))
	put("hex", strings.ToUpper(hex.EncodeToString([]byte(c.text))))
	put("URL-escaped", url.QueryEscape(c.text))
	put("URL-escaped", url.PathEscape(c.text))
	for _, s := range jsonSpellings(c.text) {
		put("JSON-escaped", s)
		put("JSON-escaped", strings.Trim(strconv.Quote(s), `"`)) // JSON within JSON
	}
	encoded := func(text string) {
		for offset := range 3 {
			put("base64", aligned(base64.RawStdEncoding, text, offset))
			put("base64url", aligned(base64.RawURLEncoding, text, offset))
		}
	}
	encoded(c.text)
	if i := strings.LastIndexAny(c.text, marks+headerMarks); i >= 0 && len(c.text)-i > window { // what is left when the beginning was cut off, or spelt in two ways at once
		rest := c.text[i+1:]
		put("raw", rest)
		put("hex", hex.EncodeToString([]byte(rest)))
		encoded(rest)
	}
}

func jsonSpellings(text string) []string {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a text is always encoded
	escaped, _ := json.Marshal(text)
	return []string{
		strings.Trim(strings.TrimSpace(plain.String()), `"`), strings.Trim(string(escaped), `"`), strings.Trim(strconv.QuoteToASCII(text), `"`),
	}
}

// aligned is the base64 of a text that begins offset bytes into a group of three: less the characters that what stands
// before and behind it decides too.
func aligned(enc *base64.Encoding, text string, offset int) string {
	all := enc.EncodeToString([]byte("\x00\x00"[:offset] + text))
	first := (offset*8 + 5) / 6
	return all[first : (offset+len(text))*8/6]
}

// hit is a canary that was found, and how it was written.
type hit struct {
	of       *canary
	encoding string
}

// scan tells each canary of a text once.
func (f *finder) scan(text []byte, tell func(hit)) {
	var told map[*canary]bool
	for i := 0; i+window <= len(text); i++ {
		at := binary.LittleEndian.Uint64(text[i:])
		if s := slot(at); f.filter[s/64]&(1<<(s%64)) == 0 {
			continue
		}
		for _, n := range f.byHead[at] {
			if !told[n.of] && bytes.HasPrefix(text[i:], n.text) {
				if told == nil {
					told = map[*canary]bool{}
				}
				told[n.of] = true
				tell(hit{n.of, n.encoding})
			}
		}
	}
}
