package httpapi

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	slashed "path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
)

// Bounds of every request.
const (
	maxBody      = 1 << 20
	maxIngest    = 256 << 10
	maxPath      = 1024
	maxQuery     = 8 << 10
	maxFilters   = 32
	maxHeader    = 16 << 10
	readTimeout  = 10 * time.Second
	maxIdempoKey = 128
	maxCursor    = 1024
)

func bodyLimit(r *http.Request) int64 {
	if strings.HasPrefix(r.URL.Path, "/v1/ingest/") {
		return maxIngest
	}
	return maxBody
}

// bounded reads one byte behind its limit and no more, whoever asks. Its errors are answers: whoever reads passes them on.
type bounded struct {
	io.ReadCloser
	limit, read int64
	ended       bool // it was read to its end
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read > b.limit {
		return 0, tooLarge(b.limit)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.limit+1-b.read)])
	if b.read += int64(n); b.read > b.limit { // whatever came with the last byte
		return 0, tooLarge(b.limit)
	}
	if b.ended = errors.Is(err, io.EOF); err != nil && !b.ended {
		err = cutShort(err)
	}
	return n, err
}

func tooLarge(limit int64) error {
	return fault.New(fault.Invalid, "too_large", "The body is larger than this route takes, which is %d bytes.", limit)
}

// cutShort is why a body did not arrive whole.
func cutShort(err error) error {
	var slow net.Error
	switch {
	case fault.As(err) != nil:
		return err
	case errors.As(err, &slow) && slow.Timeout(): // not as its cause, which huma would answer in its own words
		return fault.New(fault.Invalid, "body_timeout", "The body did not arrive in time, which is %d seconds, and nothing was done.", readTimeout/time.Second)
	}
	return fault.Wrap(err, fault.Invalid, "unreadable", "The body did not arrive whole.")
}

// Close does nothing: the server closes what it opened, and would read on before.
func (b *bounded) Close() error { return nil }

// precheck refuses what no route may see, before anybody is authenticated.
func precheck(r *http.Request) error {
	bad := func(code, format string, args ...any) error { return fault.New(fault.Invalid, code, format, args...) }
	switch {
	case r.ContentLength > bodyLimit(r):
		return tooLarge(bodyLimit(r))
	case headerSize(r) > maxHeader:
		return bad("headers_too_large", "The header fields are larger than %d bytes together.", maxHeader)
	case r.URL.RawPath != "":
		return bad("bad_path", "The path has an encoded slash or another second spelling. Write ids as they are.")
	case len(r.URL.Path) > maxPath || !utf8.ValidString(r.URL.Path) || strings.ContainsFunc(r.URL.Path, control):
		return bad("bad_path", "The path is too long, or is no text.")
	case len(r.URL.RawQuery) > maxQuery:
		return bad("bad_query", "The query is too long.")
	case r.URL.Path != slashed.Clean(r.URL.Path) || r.URL.Path[0] != '/':
		return notFound() // the router would redirect: a path has one spelling
	}
	if enc := r.Header.Values("Content-Encoding"); len(enc) > 0 && (len(enc) > 1 || !strings.EqualFold(enc[0], "identity")) {
		return bad("content_encoding", "Bodies are taken as they are: send no Content-Encoding.")
	}
	return queryCheck(r.URL.RawQuery)
}

// queryCheck lets through what every parser reads alike: each name once and as it is, values of text.
func queryCheck(raw string) error {
	if raw == "" {
		return nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil || len(q) > maxFilters {
		return fault.New(fault.Invalid, "bad_query", "The query cannot be read, or has more than %d parameters.", maxFilters)
	}
	for part := range strings.SplitSeq(raw, "&") {
		if name, _, _ := strings.Cut(part, "="); name == "" || strings.ContainsAny(name, "%+") {
			return fault.New(fault.Invalid, "bad_query", "A parameter of the query has no name, or an encoded one.")
		}
	}
	for k, vs := range q {
		if len(vs) > 1 || !utf8.ValidString(k+vs[0]) || strings.ContainsFunc(k+vs[0], control) {
			return fault.New(fault.Invalid, "bad_query", "A parameter of the query stands twice, or is no text.")
		}
		if vs[0] == "" { // else a filter whose value was forgotten would answer everything
			return fault.New(fault.Invalid, "bad_query", "A parameter of the query has no value. Give it one, or leave it out.")
		}
	}
	return nil
}

func control(c rune) bool { return c < 0x20 || c == 0x7f }

// headerSize is what the header fields take on the wire. (net/http's own bound is 4 KiB wider than what it is told.)
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for k, vs := range r.Header {
		for _, v := range vs {
			n += len(k) + len(v) + 4
		}
	}
	return n
}

// typed refuses a body of another media type than the route takes. A body without a type is one: a browser's form could
// send it across sites without asking.
func typed(r *http.Request, types ...string) error {
	if r.ContentLength == 0 {
		return nil
	}
	said := r.Header.Values("Content-Type")
	if len(said) == 1 {
		kind, params, err := mime.ParseMediaType(said[0])
		charset, ok := params["charset"]
		if err == nil && (!ok || strings.EqualFold(charset, "utf-8")) {
			for _, t := range types {
				if kind == t {
					return nil
				}
			}
		}
	}
	return fault.New(fault.Invalid, "unsupported_media_type", "This route takes %s, in UTF-8. Say so in Content-Type.", types[0])
}
