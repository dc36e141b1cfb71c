package quickjssandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// The parts of the memory that an image keeps. What lies between them is the stack, or was never used.
const (
	lowStart  = 102400 // below it there are constants only: one copy serves all images
	lowEnd    = stackLow
	tailStart = memPages*pageSize - 4096
)

// image is a memory at rest: after the prelude (a base) or after a script was loaded.
type image struct {
	constants []byte // [0, lowStart), shared
	low       []byte // [lowStart, lowEnd)
	heap      []byte // [stackHigh, stackHigh+len)
	tail      []byte // [tailStart, end)
	frame     frame
}

func (im *image) top() int { return stackHigh + len(im.heap) }

// size is what the image costs beyond what it shares.
func (im *image) size() int64 { return int64(len(im.low) + len(im.heap) + len(im.tail)) }

// restore overwrites the guest with an image. A guest that served another tenant also forgets what lies beyond it.
func (in *instance) restore(im *image, tenant any) {
	if in.last != tenant {
		in.forget(im.top())
		in.last = tenant
	}
	copy(in.mem, im.constants)
	copy(in.mem[lowStart:], im.low)
	copy(in.mem[stackHigh:], im.heap)
	copy(in.mem[tailStart:], im.tail)
	in.sp.Set(stackHigh)
}

// forget drops everything between a heap's top and the tail, and the old stack. Giving many pages back takes a millisecond:
// a call that used much pays for it itself, before its guest is free, and not the tenant who comes next.
func (in *instance) forget(top int) {
	in.discard(in.mem[stackLow:stackHigh])
	in.discard(in.mem[(top+4095)&^4095 : tailStart])
}

// freeze copies the guest's memory. Only what lies above was zero before the script was loaded counts as its heap.
func (in *instance) freeze(base *image, f frame) *image {
	im := &image{low: bytes.Clone(in.mem[lowStart:lowEnd]), tail: bytes.Clone(in.mem[tailStart:]), frame: f}
	if base != nil {
		im.constants = base.constants
	} else {
		im.constants = bytes.Clone(in.mem[:lowStart])
	}
	top := stackHigh + touched(in.mem[stackHigh:tailStart])
	for top > stackHigh && binary.LittleEndian.Uint64(in.mem[top-8:]) == 0 {
		top -= 8
	}
	top = min((top+4095)&^4095, tailStart)
	im.heap = bytes.Clone(in.mem[stackHigh:top])
	return im
}

// epoch is what a guest's clock says while no uplink is at hand.
var epoch = time.Unix(0, 0).Add(time.Nanosecond)

// baseFuel is enough for anything of ours; a base that needs more is broken.
const baseFuel = 1 << 30

// boot makes a base image in a fresh guest: the memory at its full size for ever, the engine's limits where they hold, the
// random generator seeded, our prelude run.
func (in *instance) boot(prelude string) (*image, error) {
	in.arm(baseFuel, time.Minute, epoch)
	if _, err := in.call("_initialize"); err != nil {
		return nil, err
	}
	if mem := in.mod.Memory(); mem.Size() < memPages*pageSize {
		// One block of all that is left, freed at once: the allocator owns the whole memory and never grows it again.
		p, err := in.call("malloc", uint64(memPages*pageSize-mem.Size()-4096))
		if err != nil {
			return nil, err
		}
		if _, err := in.call("free", p); err != nil {
			return nil, err
		}
	}
	if err := in.view(); err != nil {
		return nil, err
	}
	rt, err := in.call("JS_NewRuntime")
	if err != nil {
		return nil, err
	}
	rt = uint64(uint32(rt)) //nolint:gosec // an i32 address
	if _, err := in.call("JS_SetMaxStackSize", rt, 0x5aa5); err != nil {
		return nil, err
	}
	if got := binary.LittleEndian.Uint32(in.mem[rt+runtimeStackSize:]); got != 0x5aa5 {
		return nil, fmt.Errorf("%w: its runtime is laid out in another way", errModule)
	}
	if _, err := in.call("JS_SetMemoryLimit", rt, jsMemory); err != nil {
		return nil, err
	}
	if _, err := in.call("JS_SetGCThreshold", rt, gcThreshold); err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(in.mem[rt+runtimeStackLimit:], stackHigh-jsStack)
	ctx, err := in.call("JS_NewContext", rt)
	if err != nil {
		return nil, err
	}
	f := frame{ctx: uint64(uint32(ctx)), api: undefined} //nolint:gosec // an i32 address
	binary.LittleEndian.PutUint64(in.mem[f.ctx+contextRandom:], 0x9e3779b97f4a7c15)
	if f.len, err = in.call("malloc", 8); err != nil {
		return nil, err
	}
	if f.argv, err = in.call("malloc", 16); err != nil {
		return nil, err
	}
	f.len, f.argv = uint64(uint32(f.len)), uint64(uint32(f.argv)) //nolint:gosec // i32 addresses
	if f.run, err = in.eval(&f, prelude, "prelude"); err != nil {
		return nil, err
	}
	if tag(f.run) == tagException {
		return nil, fmt.Errorf("prelude: %w", in.thrown(&f))
	}
	// Self-check: recursion must end in an error that a script can catch, not in overwritten data.
	v, err := in.eval(&f, `(function () { function f() { return f() + 1 } try { f(); return "no" } catch (e) { return e instanceof RangeError ? "yes" : "no" } })()`, "check")
	if err != nil {
		return nil, fmt.Errorf("self-check: %w", err)
	}
	if answer, _, err := in.text(&f, v, 16); err != nil || answer != "yes" {
		return nil, fmt.Errorf("%w: its stack limit does not hold", errModule)
	}
	if _, err := in.call("JS_RunGC", rt); err != nil {
		return nil, err
	}
	in.discard(in.mem[stackLow:stackHigh])
	return in.freeze(nil, f), nil
}

// adopt makes a fresh guest fit for images: its memory is as large as theirs.
func (in *instance) adopt() error {
	if mem := in.mod.Memory(); mem.Size() < memPages*pageSize {
		if _, ok := mem.Grow(memPages - mem.Size()/pageSize); !ok {
			return fmt.Errorf("%w: its memory does not grow", errModule)
		}
	}
	return in.view()
}
