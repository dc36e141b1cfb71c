package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// obj is a JSON object.
type obj map[string]any

// reply is an answer of the API as the demo looks at it.
type reply struct {
	status int
	header http.Header
	text   string
	body   obj
	err    error
	asked  string // method and path
}

func (s *story) get(token, path string) reply { return s.call(http.MethodGet, token, path, nil, "") }

func (s *story) post(token, path string, body obj) reply {
	return s.call(http.MethodPost, token, path, body, "")
}

func (s *story) call(method, token, path string, body obj, match string) reply {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return reply{err: err}
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(s.ctx, method, s.base+path, content)
	if err != nil {
		return reply{err: err}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	for k, v := range s.header {
		req.Header.Set(k, v)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	r := reply{asked: method + " " + path, status: res.StatusCode, header: res.Header, text: string(raw), err: err}
	if json.Unmarshal(raw, &r.body) != nil {
		r.body = obj{}
	}
	return r
}

// must is an answer that the story cannot go on without.
func (s *story) must(r reply, status int) (reply, error) {
	if r.err == nil && r.status != status {
		r.err = fmt.Errorf("%s: the server answered %d instead of %d: %s", r.asked, r.status, status, r.text)
	}
	return r, r.err
}

func (r reply) str(key string) string {
	v, _ := r.body[key].(string)
	return v
}

func (r reply) at(key string) reply {
	v, _ := r.body[key].(map[string]any)
	return reply{body: v}
}

func (r reply) raw(key string) string {
	b, err := json.Marshal(r.body[key])
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (r reply) list(key string) []obj {
	items, _ := r.body[key].([]any)
	out := make([]obj, 0, len(items))
	for _, i := range items {
		if o, ok := i.(map[string]any); ok {
			out = append(out, o)
		}
	}
	return out
}

func (r reply) code() string { return r.str("code") }

// without is the answer's text less one member.
func (r reply) without(key string) string {
	clone := obj{}
	for k, v := range r.body {
		if k != key {
			clone[k] = v
		}
	}
	b, err := json.Marshal(clone)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
