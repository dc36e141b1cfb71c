package otlp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/ringfence/ringfence/core/secret"
)

// status is an answer that is no success.
type status int

// Error says which.
func (s status) Error() string { return fmt.Sprintf("the collector answered %d", int(s)) }

// worthAgain reports whether the same may be taken later: nobody answered, or one of the answers that OTLP names.
func worthAgain(err error) bool {
	var s status
	if !errors.As(err, &s) {
		return true
	}
	switch s {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// ask sends a message. Of an answer only what OTLP says is read, and nothing of its text goes on.
func (e *Exporter) ask(path string, m, answer proto.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(e.life, http.MethodPost, e.at+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = e.headers.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "ringfence")
	res, err := e.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerBytes))
	switch {
	case res.StatusCode < 200 || res.StatusCode > 299:
		return status(res.StatusCode)
	case err != nil:
		return err
	}
	_ = proto.Unmarshal(text, answer) // who takes it and says nothing of use has taken it
	return nil
}

// ParseEndpoint reads where a collector is.
func ParseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, errors.New("want the URL of an OTLP/HTTP receiver without user, query and /v1/traces, such as https://collector:4318")
	}
	return u, nil
}

// maxHeaders bounds what is sent along with each request.
const maxHeaders = 16

// ParseHeaders reads what a collector wants to be told. Its errors repeat nothing of it.
func ParseHeaders(t secret.Text) (http.Header, error) {
	h := http.Header{}
	if t.IsZero() {
		return h, nil
	}
	for _, one := range strings.Split(t.Reveal(), ",") {
		name, value, ok := strings.Cut(one, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || value == "" || !isToken(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || len(h) == maxHeaders {
			return nil, errors.New("want NAME=VALUE, at most 16 separated by commas, their values percent-encoded, such as Authorization=Bearer%20…")
		}
		h.Add(name, value)
	}
	return h, nil
}

func isToken(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
