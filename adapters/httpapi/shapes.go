package httpapi

import (
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// What requests and answers have in common. Embedded types are exported, since huma passes over those that are not.

// TenantIn names the tenant in the path.
type TenantIn struct {
	Tenant string `path:"tenant" doc:"Id of the tenant" example:"ten_06ethoo0000000000000000000"`
}

// ListIn asks for a page.
type ListIn struct {
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
}

// NamedIn narrows a list to one name.
type NamedIn struct {
	Name string `query:"name" maxLength:"200" doc:"Exactly this name"`
}

// MatchIn names the revision that is changed.
type MatchIn struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read; needed"`
}

// one answers one resource.
type one[T any] struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Authz    string `header:"Authz-Revision"`
	Replayed string `header:"Idempotency-Replayed"`
	Body     T
}

type list[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// many answers a page.
type many[T any] struct {
	Body list[T]
}

// none answers that something was done.
type none struct {
	Authz    string `header:"Authz-Revision"`
	Replayed string `header:"Idempotency-Replayed"`
}

func done(c *Call) *none { return &none{Authz: c.authz()} }

// paged turns a page of the use cases into an answer.
func paged[V, J any](c *Call, items []V, next string, shape func(V) J) *many[J] {
	out := &many[J]{Body: list[J]{Items: make([]J, 0, len(items)), NextCursor: c.next(next)}}
	for _, v := range items {
		out.Body.Items = append(out.Body.Items, shape(v))
	}
	return out
}

// portion turns a list that a limit keeps short into one page: newest first, as all lists. The list is read whole, after the
// cursor was found good.
func portion[V, J any](c *Call, in ListIn, read func() ([]V, error), id func(V) string, shape func(V) J) (*many[J], error) {
	q, err := c.page(in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	all, err := read()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b V) int { return strings.Compare(id(b), id(a)) })
	if q.After != "" { // by place, not by name: what the last page ended with may be gone
		all = slices.DeleteFunc(all, func(v V) bool { return id(v) >= q.After })
	}
	next := ""
	if len(all) > q.Limit {
		all = all[:q.Limit]
		next = id(all[q.Limit-1])
	}
	return paged(c, all, next, shape), nil
}

// Common is what every resource has.
type Common struct {
	ID        string `json:"id"`
	Rev       uint64 `json:"rev"`
	CreatedAt string `json:"created_at" format:"date-time"`
	UpdatedAt string `json:"updated_at" format:"date-time"`
}

// stamp is a time as it is answered: RFC 3339 in UTC with microseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// maybe is a time that may be absent.
func maybe(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// ref is an id that may be absent.
func ref[K ident.Kind](id ident.ID[K]) *string {
	if id.IsZero() {
		return nil
	}
	s := id.String()
	return &s
}

// path reads an id that a path names: one of another kind or spelling is not there.
func path[K ident.Kind](s string, id *ident.ID[K]) error {
	got, err := ident.Parse[K](s)
	if err != nil {
		return fault.Missing()
	}
	*id = got
	return nil
}

// body reads an id that a body or a filter refers to; an absent one is zero.
func body[K ident.Kind](s string, pointer string, id *ident.ID[K]) error {
	if s == "" {
		*id = ident.ID[K]{}
		return nil
	}
	got, err := ident.Parse[K](s)
	if err != nil {
		return fault.New(fault.Invalid, "bad_id", "An id in the request is not one of its kind.").WithField(pointer, "want "+ident.Prefix[K]()+"_ and 26 characters")
	}
	*id = got
	return nil
}

// moment reads a time of a filter or a body.
func moment(s, pointer string, t *time.Time) error {
	if s == "" {
		return nil
	}
	got, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fault.New(fault.Invalid, "bad_time", "A time is written like 2026-11-24T12:00:00Z.").WithField(pointer, "not a time")
	}
	*t = got.UTC()
	return nil
}

// target reads what a change is about: the id in the path and the revision in If-Match.
func target[K ident.Kind](text, match string, id *ident.ID[K]) (uint64, error) {
	if err := path(text, id); err != nil {
		return 0, err
	}
	return revision(match)
}

// bodies reads a list of ids that a body refers to.
func bodies[K ident.Kind](texts []string, pointer string, out *[]ident.ID[K]) error {
	*out = make([]ident.ID[K], len(texts))
	for i, s := range texts {
		if s == "" {
			s = "-" // in a list an id is not optional
		}
		if err := body(s, pointer, &(*out)[i]); err != nil {
			return err
		}
	}
	return nil
}

func texts[K ident.Kind](ids []ident.ID[K]) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}
