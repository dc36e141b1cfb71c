// Package strictjson reads foreign JSON in one pass and takes nothing on trust: depth, duplicate keys, encoding and NUL are
// refused while reading, before anything is built of it. It decodes no Go types: that is encoding/json's, afterwards.
package strictjson

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of every document.
const (
	MaxDepth   = 32
	MaxMembers = 4096 // of one object or array that is read member by member
)

// Errors. They say what is wrong and never echo what was read.
var (
	ErrSyntax    = errors.New("the body is not JSON")
	ErrDepth     = errors.New("the body is nested deeper than 32")
	ErrDuplicate = errors.New("an object in the body has a key twice")
	ErrText      = errors.New("a text in the body is not UTF-8, or holds NUL")
	ErrType      = errors.New("a value in the body has a wrong type")
	ErrMembers   = errors.New("an object in the body has too many members")
)

// Reader reads one document. The zero Reader reads nothing: use New.
type Reader struct {
	b     []byte
	i     int
	depth int
}

// New returns a reader of a document.
func New(b []byte) *Reader { return &Reader{b: b} }

// Check reads a whole document and answers nil if it is good JSON by the rules of this package.
func Check(b []byte) error {
	r := New(b)
	if err := r.Skip(); err != nil {
		return err
	}
	return r.End()
}

// End answers nil if nothing but white space is left.
func (r *Reader) End() error {
	r.space()
	if r.i != len(r.b) {
		return ErrSyntax
	}
	return nil
}

func (r *Reader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

func (r *Reader) peek() byte {
	r.space()
	if r.i < len(r.b) {
		return r.b[r.i]
	}
	return 0
}

func (r *Reader) accept(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.i++
	return true
}

// IsNull reads a null, if that is what comes next.
func (r *Reader) IsNull() bool {
	r.space()
	if bytes.HasPrefix(r.b[r.i:], []byte("null")) {
		r.i += 4
		return true
	}
	return false
}

// Object reads an object: member is called with each key, and must read the value. A key may come once.
func (r *Reader) Object(member func(key []byte) error) error {
	if !r.accept('{') {
		return r.wrong()
	}
	if r.depth++; r.depth > MaxDepth {
		return ErrDepth
	}
	if r.accept('}') {
		r.depth--
		return nil
	}
	var keys keys
	for n := 1; ; n++ {
		if n > MaxMembers {
			return ErrMembers
		}
		key, err := r.Text()
		if err != nil {
			return err
		}
		if !keys.add(key) {
			return ErrDuplicate
		}
		if !r.accept(':') {
			return ErrSyntax
		}
		if member == nil {
			err = r.Skip()
		} else {
			err = member(key)
		}
		if err != nil {
			return err
		}
		if r.accept('}') {
			r.depth--
			return nil
		}
		if !r.accept(',') {
			return ErrSyntax
		}
	}
}

// keys are those that an object has had so far: few are compared, many are looked up.
type keys struct {
	few  [16][]byte
	n    int
	many map[string]struct{}
}

// add answers whether a key is new.
func (k *keys) add(key []byte) bool {
	if k.many != nil {
		_, had := k.many[string(key)]
		k.many[string(key)] = struct{}{}
		return !had
	}
	for i := range k.n {
		if bytes.Equal(k.few[i], key) {
			return false
		}
	}
	if k.n < len(k.few) {
		k.few[k.n] = key
		k.n++
		return true
	}
	k.many = make(map[string]struct{}, 4*len(k.few))
	for _, had := range k.few {
		k.many[string(had)] = struct{}{}
	}
	k.many[string(key)] = struct{}{}
	return true
}

// Array reads an array: element is called for each element, and must read it.
func (r *Reader) Array(element func() error) error {
	if !r.accept('[') {
		return r.wrong()
	}
	if r.depth++; r.depth > MaxDepth {
		return ErrDepth
	}
	if r.accept(']') {
		r.depth--
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if r.accept(']') {
			r.depth--
			return nil
		}
		if !r.accept(',') {
			return ErrSyntax
		}
	}
}

// wrong tells a value of another type from what is no value.
func (r *Reader) wrong() error {
	if err := r.Skip(); err != nil {
		return err
	}
	return ErrType
}

// Text reads a string. What it answers is part of the document if the string has no escapes.
func (r *Reader) Text() ([]byte, error) {
	if r.peek() != '"' {
		return nil, r.wrong()
	}
	r.i++
	start := r.i
	ascii := true
	for r.passPlain(); r.i < len(r.b); r.passPlain() {
		switch c := r.b[r.i]; {
		case c == '"':
			text := r.b[start:r.i]
			r.i++
			if !ascii && !utf8.Valid(text) {
				return nil, ErrText
			}
			return text, nil
		case c == '\\':
			return r.escaped(start)
		case c == 0:
			return nil, ErrText
		case c < 0x20:
			return nil, ErrSyntax
		default:
			ascii = ascii && c < utf8.RuneSelf
			r.i++
		}
	}
	return nil, ErrSyntax
}

// passPlain goes forward over bytes that mean themselves, eight at a time; it may stop before one that does, too.
func (r *Reader) passPlain() {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(r.b)-r.i >= 8 {
		w := binary.LittleEndian.Uint64(r.b[r.i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// A top bit is set for each byte that is not ASCII, below 0x20, a quote or a backslash; a borrow can only set one too many above it.
		stop := (w | (w - ones*0x20) | (quote - ones) | (slash - ones)) & tops
		if stop != 0 {
			r.i += bits.TrailingZeros64(stop) >> 3
			return
		}
		r.i += 8
	}
}

// escaped reads the rest of a string that has an escape.
func (r *Reader) escaped(start int) ([]byte, error) {
	out := bytes.Clone(r.b[start:r.i])
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, ErrText
			}
			return out, nil
		case c == 0:
			return nil, ErrText
		case c < 0x20:
			return nil, ErrSyntax
		case c != '\\':
			out = append(out, c)
			continue
		}
		if r.i >= len(r.b) {
			return nil, ErrSyntax
		}
		e := r.b[r.i]
		r.i++
		switch e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			u, err := r.unicode()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, u)
		default:
			return nil, ErrSyntax
		}
	}
	return nil, ErrSyntax
}

func (r *Reader) unicode() (rune, error) {
	u, err := r.hex4()
	if err != nil || u == 0 {
		if err == nil {
			err = ErrText
		}
		return 0, err
	}
	if !utf16.IsSurrogate(u) {
		return u, nil
	}
	if r.i+1 >= len(r.b) || r.b[r.i] != '\\' || r.b[r.i+1] != 'u' {
		return 0, ErrText
	}
	r.i += 2
	low, err := r.hex4()
	if err != nil {
		return 0, err
	}
	if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
		return 0, ErrText // half of a pair
	}
	return u, nil
}

func (r *Reader) hex4() (rune, error) {
	if r.i+4 > len(r.b) {
		return 0, ErrSyntax
	}
	var u rune
	for _, c := range r.b[r.i : r.i+4] {
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			u = u<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			u = u<<4 | rune(c-'A'+10)
		default:
			return 0, ErrSyntax
		}
	}
	r.i += 4
	return u, nil
}

// number reads a number's text.
func (r *Reader) number() ([]byte, error) {
	r.space()
	start := r.i
	if r.i < len(r.b) && r.b[r.i] == '-' {
		r.i++
	}
	switch {
	case r.i < len(r.b) && r.b[r.i] == '0':
		r.i++
	case !r.digits():
		return nil, ErrSyntax
	}
	if r.i < len(r.b) && r.b[r.i] == '.' {
		r.i++
		if !r.digits() {
			return nil, ErrSyntax
		}
	}
	if r.i < len(r.b) && (r.b[r.i] == 'e' || r.b[r.i] == 'E') {
		r.i++
		if r.i < len(r.b) && (r.b[r.i] == '+' || r.b[r.i] == '-') {
			r.i++
		}
		if !r.digits() {
			return nil, ErrSyntax
		}
	}
	return r.b[start:r.i], nil
}

func (r *Reader) digits() bool {
	start := r.i
	for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i > start
}

// Uint reads a whole number of at most limit, without fraction or exponent.
func (r *Reader) Uint(limit uint64) (uint64, error) {
	if c := r.peek(); c != '-' && (c < '0' || c > '9') {
		return 0, r.wrong()
	}
	text, err := r.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || n > limit {
		return 0, ErrType
	}
	return n, nil
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	r.space()
	rest := r.b[r.i:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		r.i += 4
		return true, nil
	case bytes.HasPrefix(rest, []byte("false")):
		r.i += 5
		return false, nil
	}
	return false, r.wrong()
}

// Skip reads any value by all the rules and forgets it.
func (r *Reader) Skip() error {
	switch c := r.peek(); {
	case c == '{':
		return r.Object(nil)
	case c == '[':
		return r.Array(r.Skip)
	case c == '"':
		_, err := r.Text()
		return err
	case c == '-' || (c >= '0' && c <= '9'):
		_, err := r.number()
		return err
	default:
		rest := r.b[r.i:]
		for _, word := range []string{"true", "false", "null"} {
			if bytes.HasPrefix(rest, []byte(word)) {
				r.i += len(word)
				return nil
			}
		}
		return ErrSyntax
	}
}
