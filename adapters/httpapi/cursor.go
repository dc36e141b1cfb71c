package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/ringfence/ringfence/ports/store"
)

// page is the part of a list that the request asks for.
func (c *Call) page(cursor string, limit int) (store.Query, error) {
	q := store.Query{Limit: limit}
	if cursor == "" {
		return q, nil
	}
	if len(cursor) > maxCursor {
		return q, store.ErrCursor
	}
	raw, err := cursorText.DecodeString(cursor)
	if err != nil {
		return q, store.ErrCursor
	}
	after, err := c.api.cursors.Open(nil, nil, raw, c.bound())
	if err != nil {
		return q, store.ErrCursor
	}
	q.After = string(after)
	return q, nil
}

// next seals where the next page begins. It is good for this tenant, route, caller and filter alone.
func (c *Call) next(after string) *string {
	if after == "" {
		return nil
	}
	s := cursorText.EncodeToString(c.api.cursors.Seal(nil, nil, []byte(after), c.bound()))
	return &s
}

func (c *Call) bound() []byte {
	var b []byte
	for _, part := range []string{c.Tenant.String(), c.d.Operation, c.Identity.Subject.Principal.String(), c.Query} {
		b = fmt.Appendf(b, "%d:%s", len(part), part)
	}
	return b
}

// cursorText is how a sealed cursor is written: one spelling each.
var cursorText = base64.RawURLEncoding.Strict()

// filters is the query without cursor and limit, in one spelling: what a cursor is bound to.
func filters(r *http.Request) string {
	q := r.URL.Query()
	q.Del("cursor")
	q.Del("limit")
	return q.Encode()
}
