package quickjssandbox

import (
	"bytes"
	"errors"
	"fmt"
)

// What the rewriter puts into the module, and where it puts the stack.
const (
	pageSize   = 65536
	memPages   = 256 // 16 MiB: the hard ceiling of one instance
	stackLow   = 196608
	stackHigh  = 589824 // first address above the moved stack, and of our heap
	sentinel   = 0x52464e43
	exportFuel = "rf_fuel"
	exportSP   = "rf_sp"
	exportSaid = "rf_said"
	thrower    = "JS_ThrowInternalError" // throws what the engine itself has to say; a script's own throw does not come by it
)

var errModule = errors.New("quickjssandbox: the module is not one that can be metered")

// rewrite makes the engine's module one that can be stopped: every loop header counts fuel down and asks the host when it
// is used up, bulk memory costs by its size, and the stack pointer is checked after every write, since the module has no
// stack limit of its own that holds; and it keeps what the engine said last when it threw an internal error. With metered
// false only memory and stack are mended, for comparing costs.
func rewrite(module []byte, metered bool) ([]byte, error) {
	if len(module) < 8 || !bytes.Equal(module[:8], []byte{0, 'a', 's', 'm', 1, 0, 0, 0}) {
		return nil, errModule
	}
	w := rewriter{metered: metered, poll: -1, thrower: -1}
	out := bytes.Clone(module[:8])
	r := &scanner{b: module[8:]}
	for len(r.b) > 0 && r.err == nil {
		id := r.byte()
		body := r.take(int(r.u32()))
		if r.err != nil {
			break
		}
		section, err := w.section(id, body)
		if err != nil {
			return nil, err
		}
		if section != nil {
			out = append(out, id)
			out = appendU32(out, uint32(len(section))) //nolint:gosec // smaller than the module
			out = append(out, section...)
		}
	}
	if r.err != nil || !w.seen[5] || !w.seen[6] || !w.seen[7] || !w.seen[10] || w.poll < 0 || !w.told {
		return nil, errModule
	}
	return out, nil
}

type rewriter struct {
	metered bool
	poll    int64    // index of fd_close, which a loop calls when its fuel is used up
	funcs   int64    // imported ones, whose indices come first
	thrower int64    // index of the function that throws internal errors
	told    bool     // it keeps what it was told
	types   [][]byte // parameters of each type
	typeOf  []uint32 // of our functions
	fuel    uint32   // index of the global that counts; scratch and said are the next ones
	seen    [13]bool
}

func (w *rewriter) section(id byte, body []byte) ([]byte, error) {
	if int(id) >= len(w.seen) {
		return nil, errModule
	}
	w.seen[id] = true
	switch id {
	case 0: // custom: names and the like
		return nil, nil
	case 1:
		return body, w.signatures(body)
	case 2:
		return body, w.imports(body)
	case 3:
		r := &scanner{b: body}
		for range r.count() {
			w.typeOf = append(w.typeOf, r.u32())
		}
		return body, r.end()
	case 5:
		return append([]byte{1, 1}, appendU32(appendU32(nil, stackHigh/pageSize), memPages)...), nil
	case 6:
		return w.globals(body)
	case 7:
		return w.exports(body)
	case 10:
		return w.code(body)
	default:
		return body, nil
	}
}

func (w *rewriter) signatures(body []byte) error {
	r := &scanner{b: body}
	for range r.count() {
		r.byte()
		w.types = append(w.types, r.take(int(r.count())))
		r.take(int(r.count()))
	}
	return r.end()
}

func (w *rewriter) imports(body []byte) error {
	r := &scanner{b: body}
	for range r.count() {
		r.take(int(r.u32()))
		name := r.take(int(r.u32()))
		if r.byte() != 0 { // only functions are imported: everything else stays inside
			return errModule
		}
		r.u32()
		if string(name) == "fd_close" {
			w.poll = w.funcs
		}
		w.funcs++
	}
	return r.end()
}

func (w *rewriter) globals(body []byte) ([]byte, error) {
	r := &scanner{b: body}
	n := r.count()
	// The stack pointer comes first: i32, mutable, i32.const.
	if n == 0 || r.byte() != 0x7f || r.byte() != 1 || r.byte() != 0x41 {
		return nil, errModule
	}
	r.s64()
	if r.byte() != 0x0b || r.err != nil {
		return nil, errModule
	}
	w.fuel = n
	out := appendU32(nil, n+3)
	out = append(out, 0x7f, 1, 0x41)
	out = appendS32(out, stackHigh)
	out = append(out, 0x0b)
	out = append(out, r.b...)
	for range 3 { // fuel, scratch and said
		out = append(out, 0x7f, 1, 0x41, 0, 0x0b)
	}
	return out, nil
}

func (w *rewriter) exports(body []byte) ([]byte, error) {
	r := &scanner{b: body}
	n := r.count()
	if r.err != nil {
		return nil, errModule
	}
	out := appendU32(nil, n+3)
	out = append(out, r.b...)
	for range n {
		name := string(r.take(int(r.u32())))
		if kind, index := r.byte(), r.u32(); kind == 0 && name == thrower {
			w.thrower = int64(index)
		}
	}
	out = export(out, exportFuel, w.fuel)
	out = export(out, exportSP, 0)
	return export(out, exportSaid, w.fuel+2), r.end()
}

func export(out []byte, name string, global uint32) []byte {
	out = append(out, byte(len(name)))
	out = append(out, name...)
	return appendU32(append(out, 3), global)
}

func (w *rewriter) code(body []byte) ([]byte, error) {
	r := &scanner{b: body}
	n := r.count()
	out := appendU32(nil, n)
	for i := range n {
		f, err := w.function(i, r.take(int(r.u32())))
		if err != nil {
			return nil, err
		}
		out = appendU32(out, uint32(len(f))) //nolint:gosec // a small multiple of the module
		out = append(out, f...)
	}
	return out, r.end()
}

// function copies a body and puts the checks in.
func (w *rewriter) function(index uint32, body []byte) ([]byte, error) {
	r := &scanner{b: body}
	for range r.count() {
		r.u32()
		r.byte()
	}
	out := make([]byte, 0, len(body)+len(body)/4)
	out = append(out, body[:len(body)-len(r.b)]...)
	if w.funcs+int64(index) == w.thrower { // said = the address of its format, its second parameter
		if !w.takesText(index) {
			return nil, errModule
		}
		out = appendU32(append(out, 0x20, 1, 0x24), w.fuel+2)
		w.told = true
	}
	for len(r.b) > 0 && r.err == nil {
		at := r.b
		op := r.byte()
		sub := r.immediates(op)
		if r.err != nil {
			return nil, r.err
		}
		text := at[:len(at)-len(r.b)]
		switch {
		case op == 0x03 && w.metered:
			out = append(out, text...)
			out = w.count(out)
		case op == 0xfc && (sub == 10 || sub == 11) && w.metered:
			out = w.charge(out)
			out = append(out, text...)
		case op == 0x24 && sub == 0:
			out = append(out, text...)
			out = guardStack(out)
		default:
			out = append(out, text...)
		}
	}
	return out, r.err
}

// takesText answers whether a function's second parameter can be an address: an i32.
func (w *rewriter) takesText(index uint32) bool {
	if int(index) >= len(w.typeOf) || int(w.typeOf[index]) >= len(w.types) {
		return false
	}
	p := w.types[w.typeOf[index]]
	return len(p) > 1 && p[1] == 0x7f
}

// count: fuel -= 1; poll if it is used up.
func (w *rewriter) count(out []byte) []byte {
	out = appendU32(append(out, 0x23), w.fuel)
	out = append(out, 0x41, 1, 0x6b)
	return w.ask(appendU32(append(out, 0x24), w.fuel))
}

// charge: scratch = n; fuel -= n >> 6; poll if it is used up; n again. Nothing is copied that was not paid for.
func (w *rewriter) charge(out []byte) []byte {
	out = appendU32(append(out, 0x24), w.fuel+1)
	out = appendU32(append(out, 0x23), w.fuel)
	out = appendU32(append(out, 0x23), w.fuel+1)
	out = append(out, 0x41, 6, 0x76, 0x6b)
	out = appendU32(append(out, 0x24), w.fuel)
	return appendU32(append(w.ask(out), 0x23), w.fuel+1)
}

// ask: if fuel < 1 { if poll(sentinel) { unreachable } }.
func (w *rewriter) ask(out []byte) []byte {
	out = appendU32(append(out, 0x23), w.fuel)
	out = append(out, 0x41, 1, 0x48, 0x04, 0x40)
	out = appendS32(append(out, 0x41), sentinel)
	out = appendU32(append(out, 0x10), uint32(w.poll)) //nolint:gosec // an index of imports
	return append(out, 0x04, 0x40, 0x00, 0x0b, 0x0b)
}

// guardStack: if sp - stackLow > stackHigh - stackLow (unsigned) { unreachable }.
func guardStack(out []byte) []byte {
	out = append(out, 0x23, 0)
	out = appendS32(append(out, 0x41), stackLow)
	out = append(out, 0x6b)
	out = appendS32(append(out, 0x41), stackHigh-stackLow)
	return append(out, 0x4b, 0x04, 0x40, 0x00, 0x0b)
}

// scanner reads a module. After an error it answers zeros.
type scanner struct {
	b   []byte
	err error
}

func (r *scanner) fail() { r.b, r.err = nil, errModule }

func (r *scanner) end() error {
	if r.err == nil && len(r.b) != 0 {
		return errModule
	}
	return r.err
}

func (r *scanner) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *scanner) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	t := r.b[:n]
	r.b = r.b[n:]
	return t
}

// count is a vector's length, which cannot be more than the bytes left.
func (r *scanner) count() uint32 {
	n := r.u32()
	if int64(n) > int64(len(r.b)) {
		r.fail()
		return 0
	}
	return n
}

// u32 and s64 read LEB128, padded or not.
func (r *scanner) u32() uint32 {
	var v uint64
	for shift := uint(0); shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 0xffffffff {
				r.fail()
				return 0
			}
			return uint32(v)
		}
	}
	r.fail()
	return 0
}

func (r *scanner) s64() {
	for range 10 {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail()
}

// immediates skips what follows an opcode; it answers an index, or for 0xfc the second opcode. An opcode that the engine's module is
// not known to use is an error: a new module must be looked at before it is trusted.
func (r *scanner) immediates(op byte) uint32 {
	switch {
	case op == 0x02 || op == 0x03 || op == 0x04:
		r.s64() // block type: an s33
	case op == 0x0c || op == 0x0d || op == 0x10 || (op >= 0x20 && op <= 0x26) || op == 0xd2:
		return r.u32()
	case op == 0x0e:
		for range r.count() {
			r.u32()
		}
		r.u32()
	case op == 0x11 || (op >= 0x28 && op <= 0x3e):
		r.u32()
		r.u32()
	case op == 0x1c:
		r.take(int(r.count()))
	case op == 0x3f || op == 0x40 || op == 0xd0:
		r.byte()
	case op == 0x41 || op == 0x42:
		r.s64()
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == 0xfc:
		sub := r.u32()
		switch {
		case sub <= 7:
		case sub == 11:
			r.byte()
		case sub == 10:
			r.take(2)
		default:
			r.err = fmt.Errorf("%w: opcode 0xfc %d", errModule, sub)
		}
		return sub
	case op <= 0x01 || op == 0x05 || op == 0x0b || op == 0x0f || op == 0x1a || op == 0x1b || (op >= 0x45 && op <= 0xc4) || op == 0xd1:
	default:
		r.err = fmt.Errorf("%w: opcode %#x", errModule, op)
	}
	return 0
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS32(b []byte, v int32) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
