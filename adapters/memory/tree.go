package memory

import (
	"hash/fnv"
	"iter"
)

// tree is a sorted map that is never changed: put and drop answer another one, which shares all but the way to what is new.
// So a snapshot is a copy of one pointer, however much there is. It is a treap: sorted by key, and heaped by a hash of the
// key, which keeps it level.
type tree[V any] struct {
	root *branch[V]
	n    int
}

type branch[V any] struct {
	key         string
	value       V
	weight      uint64
	left, right *branch[V]
}

func weigh(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return h.Sum64()
}

func (t tree[V]) get(key string) (v V, ok bool) {
	for b := t.root; b != nil; {
		switch {
		case key == b.key:
			return b.value, true
		case key < b.key:
			b = b.left
		default:
			b = b.right
		}
	}
	return v, false
}

func (t tree[V]) put(key string, v V) tree[V] {
	if _, ok := t.get(key); !ok {
		t.n++
	}
	t.root = insert(t.root, &branch[V]{key: key, value: v, weight: weigh(key)})
	return t
}

// insert answers a copy of b with fresh in it. What it returns is new, so that a rotation may change it.
func insert[V any](b, fresh *branch[V]) *branch[V] {
	if b == nil {
		return fresh
	}
	c := *b
	switch {
	case fresh.key == c.key:
		c.value = fresh.value
	case fresh.key < c.key:
		if c.left = insert(c.left, fresh); c.left.weight > c.weight {
			up := c.left
			c.left, up.right = up.right, &c
			return up
		}
	default:
		if c.right = insert(c.right, fresh); c.right.weight > c.weight {
			up := c.right
			c.right, up.left = up.left, &c
			return up
		}
	}
	return &c
}

func (t tree[V]) drop(key string) tree[V] {
	if _, ok := t.get(key); ok {
		t.n--
		t.root = remove(t.root, key)
	}
	return t
}

func remove[V any](b *branch[V], key string) *branch[V] {
	c := *b
	switch {
	case key == c.key:
		return join(c.left, c.right)
	case key < c.key:
		c.left = remove(c.left, key)
	default:
		c.right = remove(c.right, key)
	}
	return &c
}

// join makes one of two whose keys do not overlap.
func join[V any](a, b *branch[V]) *branch[V] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.weight > b.weight:
		c := *a
		c.right = join(a.right, b)
		return &c
	default:
		c := *b
		c.left = join(a, b.left)
		return &c
	}
}

// up runs from a key on, in order.
func (t tree[V]) up(from string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { t.root.up(from, yield) }
}

func (b *branch[V]) up(from string, yield func(string, V) bool) bool {
	if b == nil {
		return true
	}
	if b.key < from {
		return b.right.up(from, yield)
	}
	return b.left.up(from, yield) && yield(b.key, b.value) && b.right.up("", yield)
}

// down runs from below a key to the beginning; "" is above all.
func (t tree[V]) down(below string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { t.root.down(below, yield) }
}

func (b *branch[V]) down(below string, yield func(string, V) bool) bool {
	if b == nil {
		return true
	}
	if below != "" && b.key >= below {
		return b.left.down(below, yield)
	}
	return b.right.down(below, yield) && yield(b.key, b.value) && b.left.down("", yield)
}
