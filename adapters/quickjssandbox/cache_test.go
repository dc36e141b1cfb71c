package quickjssandbox

import (
	"math/rand/v2"
	"testing"

	"github.com/ringfence/ringfence/core/ident"
)

const unit = 1 << 10

func named(tenant, decoder int) key {
	return key{tenant: ident.Tenant{byte(tenant), byte(tenant >> 8)}, decoder: ident.Decoder{byte(decoder), byte(decoder >> 8), 1}}
}

func sized(units int) *image { return &image{heap: make([]byte, units*unit)} }

func (c *images) has(k key) bool {
	im, _ := c.get(k)
	return im != nil
}

func (c *images) madeRoom(k key) bool {
	im, gave := c.get(k)
	return im == nil && gave
}

// A neighbour loads ever more large scripts: it pushes out its own, and nobody else's.
func TestWhoLoadsEverMorePushesOutItsOwn(t *testing.T) {
	for _, large := range []int{1, 3, 15} {
		c := newImages(32 * unit)
		for n := range 8 {
			c.put(named(n, 0), sized(2)) // 16 of 32
		}
		for n := range 200 {
			c.put(named(99, n), sized(large))
			if !c.has(named(99, n)) {
				t.Fatalf("of %d: the last one is not there", large)
			}
		}
		for n := range 8 {
			if !c.has(named(n, 0)) {
				t.Errorf("of %d: one of tenant %d had to go", large, n)
			}
		}
		for n := range 200 {
			if c.madeRoom(named(99, n)) {
				t.Errorf("of %d: what it pushed out itself counts as others' doing", large)
			}
		}
	}
}

func TestWhoIsAloneMayHaveAllTheRoom(t *testing.T) {
	c := newImages(32 * unit)
	for n := range 32 {
		c.put(named(1, n), sized(1))
	}
	for n := range 32 {
		if !c.has(named(1, n)) {
			t.Errorf("image %d is not there although there is room", n)
		}
	}
	c.get(named(1, 0))
	c.put(named(1, 40), sized(1))
	if !c.has(named(1, 0)) || c.has(named(1, 1)) {
		t.Error("another one than the one used longest ago had to go")
	}
	// Others come: each has its place, for which who holds most makes room.
	for n := range 24 {
		c.put(named(100+n, 0), sized(1))
	}
	for n := range 24 {
		if !c.has(named(100+n, 0)) {
			t.Errorf("tenant %d has no place", n)
		}
	}
	if c.madeRoom(named(1, 1)) || !c.madeRoom(named(1, 2)) {
		t.Error("what it pushed out itself counts as others' doing, or what others did as its own")
	}
}

// One image above a share is nobody's fault: it stays until it is the one used longest ago.
func TestOneLargeImageIsAllowed(t *testing.T) {
	c := newImages(32 * unit)
	c.put(named(1, 0), sized(15))
	for n := range 17 {
		c.put(named(10+n, 0), sized(1))
	}
	if !c.has(named(1, 0)) {
		t.Error("it had to go although there was room")
	}
	c.put(named(50, 0), sized(1))
	if !c.has(named(1, 0)) || c.has(named(10, 0)) {
		t.Error("another than the one used longest ago had to go")
	}
	if !c.madeRoom(named(10, 0)) {
		t.Error("it is not known that it made room")
	}
	c.put(named(10, 0), sized(1))
	if c.madeRoom(named(10, 0)) || !c.has(named(10, 0)) {
		t.Error("it is back")
	}
	c.put(named(60, 0), sized(40)) // more than there is room for
	if !c.has(named(60, 0)) || c.has(named(1, 0)) {
		t.Error("the last one is kept, whatever its size")
	}
}

func TestWhatMadeRoomIsForgottenInTheEnd(t *testing.T) {
	c := newImages(unit)
	for n := range maxGiven + 10 {
		c.put(named(n, 0), sized(1))
	}
	if len(c.gave) != maxGiven || c.given.Len() != maxGiven || c.madeRoom(named(0, 0)) || !c.madeRoom(named(maxGiven, 0)) {
		t.Errorf("%d are known, in order %d", len(c.gave), c.given.Len())
	}
}

func TestTheCacheCountsWhatItHas(t *testing.T) {
	c, r := newImages(64*unit), rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		k := named(r.IntN(20), r.IntN(10))
		if !c.has(k) {
			c.put(k, sized(1+r.IntN(8)*r.IntN(3)))
		}
		own, all := map[ident.Tenant]int64{}, int64(0)
		for _, i := range c.byKey {
			own[i.key.tenant] += i.image.size()
			all += i.image.size()
		}
		if all != c.bytes || all > c.max || c.order.Len() != len(c.byKey) || len(own) != len(c.owners) {
			t.Fatalf("%d bytes of %d images by %d tenants; it says %d of %d by %d", all, len(c.byKey), len(own), c.bytes, c.order.Len(), len(c.owners))
		}
		above := 0
		for tenant, bytes := range own {
			o := c.owners[tenant]
			if o.bytes != bytes {
				t.Fatalf("a tenant has %d bytes; it says %d", bytes, o.bytes)
			}
			if bytes > c.max/shares && o.order.Len() > 1 {
				above++
			}
		}
		if above != len(c.above) || above > shares {
			t.Fatalf("%d tenants are above a share; it says %d", above, len(c.above))
		}
	}
}
