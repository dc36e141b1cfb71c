package audit

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// writer builds canonical JSON (RFC 8785) of objects whose members are given in sorted order: entries are hashed as bytes,
// so there is one spelling of each. Only strings, integers and objects of these occur.
type writer struct{ b []byte }

func (w *writer) open()  { w.sep(); w.b = append(w.b, '{') }
func (w *writer) close() { w.b = append(w.b, '}') }

// sep puts a comma between members or elements, and nothing after an opening or a colon.
func (w *writer) sep() {
	if n := len(w.b); n > 0 {
		switch w.b[n-1] {
		case '{', '[', ':':
		default:
			w.b = append(w.b, ',')
		}
	}
}

func (w *writer) key(k string) {
	w.sep()
	w.quote(k)
	w.b = append(w.b, ':')
}

func (w *writer) str(k, v string) {
	w.key(k)
	w.quote(v)
}

// opt writes a member unless it is empty: what is absent is not there, rather than null.
func (w *writer) opt(k, v string) {
	if v != "" {
		w.str(k, v)
	}
}

func (w *writer) num(k string, v int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}

const hexDigits = "0123456789abcdef"

// quote writes a string as RFC 8785 §3.2.2.2 asks: the two-character escapes, \u00xx for other controls, all else as it
// is. Bytes that are no UTF-8 become U+FFFD, so that a leaf is always valid JSON.
func (w *writer) quote(s string) {
	w.b = append(w.b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			w.b = utf8.AppendRune(w.b, r)
			i += n
			continue
		}
		i++
		switch c {
		case '"', '\\':
			w.b = append(w.b, '\\', c)
		case '\b':
			w.b = append(w.b, '\\', 'b')
		case '\t':
			w.b = append(w.b, '\\', 't')
		case '\n':
			w.b = append(w.b, '\\', 'n')
		case '\f':
			w.b = append(w.b, '\\', 'f')
		case '\r':
			w.b = append(w.b, '\\', 'r')
		default:
			if c < 0x20 {
				w.b = append(w.b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			} else {
				w.b = append(w.b, c)
			}
		}
	}
	w.b = append(w.b, '"')
}

// scanner reads canonical JSON back: of objects, arrays, strings and integers, without a space, members in ascending order.
type scanner struct {
	b []byte
	i int
}

// maxDepth bounds how deep values stand in one another; a leaf's stand three deep.
const maxDepth = 8

// next passes over one byte, if it is this one.
func (s *scanner) next(c byte) bool {
	if s.i >= len(s.b) || s.b[s.i] != c {
		return false
	}
	s.i++
	return true
}

// object passes over one, and tells each member with its value as it stands.
func (s *scanner) object(depth int, tell func(key, value []byte)) bool {
	if !s.next('{') {
		return false
	}
	if s.next('}') {
		return true // one whose members are all absent
	}
	for last := []byte(nil); ; {
		from := s.i
		if !s.text() || !s.next(':') {
			return false
		}
		key, at := s.b[from+1:s.i-2], s.i
		if bytes.Compare(key, last) <= 0 || !s.value(depth+1) {
			return false
		}
		if last = key; tell != nil {
			tell(key, s.b[at:s.i])
		}
		if !s.next(',') {
			return s.next('}')
		}
	}
}

func (s *scanner) value(depth int) bool {
	if s.i >= len(s.b) || depth > maxDepth {
		return false
	}
	switch s.b[s.i] {
	case '"':
		return s.text()
	case '{':
		return s.object(depth, nil)
	case '[':
		for s.i++; s.value(depth + 1); {
			if !s.next(',') {
				return s.next(']')
			}
		}
		return false
	default:
		return s.integer()
	}
}

// text passes over a string that quote could have written.
func (s *scanner) text() bool {
	if !s.next('"') {
		return false
	}
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			return true
		case c < 0x20:
			return false
		case c == '\\':
			if s.i >= len(s.b) || bytes.IndexByte([]byte(`"\btnfru`), s.b[s.i]) < 0 {
				return false
			}
			if s.b[s.i] == 'u' && (s.i+5 > len(s.b) || !bytes.HasPrefix(s.b[s.i+1:], []byte("00")) || !isHex(s.b[s.i+3]) || !isHex(s.b[s.i+4])) {
				return false
			}
			s.i++
		}
	}
	return false
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

func (s *scanner) integer() bool {
	minus := s.next('-')
	from := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	n := s.i - from
	return n > 0 && (s.b[from] != '0' || n == 1 && !minus)
}
