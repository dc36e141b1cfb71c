package store

import (
	"context"

	"github.com/ringfence/ringfence/core/access"
)

// Shelf reads records of one noun.
//
// Get must answer fault.Missing() for what is not there and for what is another tenant's.
//
// List must:
//   - answer records within Query.Reach alone; of a noun that stands on no node it answers all, if the reach is not empty;
//   - order them newest first by id, unless the noun says otherwise, and never answer one twice over the pages of a list;
//   - answer at most Query.Limit records (MaxPage at most, MaxPage if 0), and Page.Next = "" on the last page only.
type Shelf[K comparable, V any] interface {
	Get(ctx context.Context, id K) (V, error)
	List(ctx context.Context, q Query) (Page[V], error)
}

// Records also writes them.
//
// Put must insert a record whose Rev is 0 (fault Conflict, code "exists", if the id is taken) and replace one whose Rev is
// the stored one (ErrRevision otherwise; fault.Missing() if it is not there); it returns the record with its new Rev, which
// grows by one. A record equal to another in what must be unique in the tenant is a fault Conflict, code "taken". Whatever is
// refused, fn may go on with its handles.
//
// Delete must remove the record of that Rev (ErrRevision, fault.Missing() likewise).
type Records[K comparable, V any] interface {
	Shelf[K, V]
	Put(ctx context.Context, v V) (V, error)
	Delete(ctx context.Context, id K, rev uint64) error
}

// Query says which part of a list is wanted.
type Query struct {
	Reach access.Reach
	After string // Page.Next of the page before; "" begins. Anything else is ErrCursor
	Limit int
}

// Page is one part of a list.
type Page[V any] struct {
	Items []V
	Next  string
}

// MaxPage bounds a page.
const MaxPage = 200
