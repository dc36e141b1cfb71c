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

// members tells each member of a canonical object, its value as it stands, and answers whether b is one as far as can be seen
// without looking into the values: the keys ascend, so that none stands twice.
func members(b []byte, tell func(key, value []byte)) bool {
	if len(b) == 0 || b[0] != '{' {
		return false
	}
	var last []byte
	for i := 1; ; i++ {
		colon := valueEnd(b, i)
		if colon < i+2 || b[i] != '"' || b[colon] != ':' {
			return false
		}
		key, end := b[i+1:colon-1], valueEnd(b, colon+1)
		if end <= colon+1 || bytes.Compare(key, last) <= 0 {
			return false
		}
		tell(key, b[colon+1:end])
		if last, i = key, end; b[i] == '}' {
			return i == len(b)-1
		} else if b[i] != ',' {
			return false
		}
	}
}

// valueEnd is where what stands behind the value at i is, or 0 if the bytes end before.
func valueEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ':':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 && i+1 < len(b) {
			return i + 1
		}
	}
	return 0
}
