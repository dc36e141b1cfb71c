package quickjssandbox

import (
	"container/list"
	"sync"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// key names an image. It is a struct, so no two scripts can be confused by joining texts; the engine's version is fixed for
// the life of the cache.
type key struct {
	tenant  ident.Tenant
	decoder ident.Decoder
	version ident.Version
	hash    [32]byte
}

func keyOf(s sandbox.Script) key { return key{s.Tenant, s.Decoder, s.Version, s.Hash} }

// images keeps the images used last, up to a number of bytes.
type images struct {
	max int64

	mu    sync.Mutex
	bytes int64
	order *list.List // of *cached, the last used first
	byKey map[key]*list.Element
}

type cached struct {
	key   key
	image *image
}

func newImages(limit int64) *images {
	return &images{max: limit, order: list.New(), byKey: map[key]*list.Element{}}
}

func (c *images) get(k key) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byKey[k]
	if el == nil {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*cached).image //nolint:forcetypeassert // the list holds nothing else
}

func (c *images) put(k key, im *image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[k] != nil { // another worker loaded it meanwhile: the same image
		return
	}
	c.byKey[k] = c.order.PushFront(&cached{k, im})
	c.bytes += im.size()
	for c.bytes > c.max && c.order.Len() > 1 {
		last := c.order.Back()
		old := c.order.Remove(last).(*cached) //nolint:forcetypeassert // as above
		delete(c.byKey, old.key)
		c.bytes -= old.image.size()
	}
}
