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

const (
	shares   = 8     // a tenant that holds more than one of them makes room first
	maxGiven = 8_192 // images that are known to have made room for others'
)

// images keeps the images used last, up to a number of bytes. Room is made first by who holds most above a share, so that who loads
// ever more pushes out its own; a tenant's one image may be of any size.
type images struct {
	max int64

	mu     sync.Mutex
	bytes  int64
	order  *list.List // of *cached, the last used first
	byKey  map[key]*cached
	owners map[ident.Tenant]*owner
	above  map[ident.Tenant]*owner // a share, with several images: they are few
	given  *list.List              // keys of images that made room for others', the last one first
	gave   map[key]*list.Element
}

type cached struct {
	key   key
	image *image
	at    *list.Element // among all
	own   *list.Element // among the tenant's
}

type owner struct {
	bytes int64
	order *list.List // of *cached, the last used first
}

func newImages(limit int64) *images {
	return &images{max: limit, order: list.New(), byKey: map[key]*cached{}, owners: map[ident.Tenant]*owner{}, above: map[ident.Tenant]*owner{}, given: list.New(), gave: map[key]*list.Element{}}
}

// get answers an image; if there is none, whether it was there and made room for others', so that loading it again is no fault of
// its tenant's.
func (c *images) get(k key) (im *image, gave bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.byKey[k]
	if i == nil {
		return nil, c.gave[k] != nil
	}
	c.order.MoveToFront(i.at)
	c.owners[k.tenant].order.MoveToFront(i.own)
	return i.image, false
}

func (c *images) put(k key, im *image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[k] != nil { // another worker loaded it meanwhile: the same image
		return
	}
	if el := c.gave[k]; el != nil {
		c.given.Remove(el)
		delete(c.gave, k)
	}
	o := c.owners[k.tenant]
	if o == nil {
		o = &owner{order: list.New()}
		c.owners[k.tenant] = o
	}
	i := &cached{key: k, image: im}
	i.at, i.own, c.byKey[k] = c.order.PushFront(i), o.order.PushFront(i), i
	c.weigh(k.tenant, o, im.size())
	for c.bytes > c.max && c.order.Len() > 1 {
		last := c.order.Back()
		if most := c.most(); most != nil {
			last = most.order.Back()
		}
		out := c.drop(last)
		if out.tenant == k.tenant {
			continue // its own doing
		}
		c.gave[out] = c.given.PushFront(out)
		if c.given.Len() > maxGiven {
			delete(c.gave, c.given.Remove(c.given.Back()).(key)) //nolint:forcetypeassert // the list holds nothing else
		}
	}
}

// most is who holds most above a share; nil: nobody does.
func (c *images) most() (most *owner) {
	for _, o := range c.above {
		if most == nil || o.bytes > most.bytes {
			most = o
		}
	}
	return most
}

func (c *images) drop(el *list.Element) key {
	i := el.Value.(*cached) //nolint:forcetypeassert // the lists hold nothing else
	o := c.owners[i.key.tenant]
	c.order.Remove(i.at)
	o.order.Remove(i.own)
	delete(c.byKey, i.key)
	c.weigh(i.key.tenant, o, -i.image.size())
	if o.order.Len() == 0 {
		delete(c.owners, i.key.tenant)
	}
	return i.key
}

// weigh counts what came to a tenant's images or went.
func (c *images) weigh(t ident.Tenant, o *owner, bytes int64) {
	c.bytes += bytes
	if o.bytes += bytes; o.bytes > c.max/shares && o.order.Len() > 1 {
		c.above[t] = o
	} else {
		delete(c.above, t)
	}
}
