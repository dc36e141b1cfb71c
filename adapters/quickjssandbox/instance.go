package quickjssandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/ringfence/ringfence/core/decoder"
)

// quantum is how much fuel a guest gets before it asks for more: after each the host looks at the clock.
const quantum = 8192

// Offsets inside the engine's structures; they hold for the one module whose hash is checked.
const (
	runtimeStackSize  = 120
	runtimeStackLimit = 128
	contextRandom     = 288
	jsStack           = 256 << 10 // of the moved stack; what is left is for the engine's own calls
	jsMemory          = 15 << 20
	gcThreshold       = 1 << 20
)

// Tags of a JSValue, which is a NaN-boxed i64.
const (
	tagException = 6
	tagString    = -7
	tagRope      = -6
	tagNull      = 2
	tagUndefined = 3
	undefined    = tagUndefined << 32
)

// stopped says why the host stopped a guest.
type stopped uint8

const (
	running stopped = iota
	outOfFuel
	outOfTime
)

// instance is one guest: its linear memory is overwritten with an image before every call. One goroutine at a time.
type instance struct {
	ctx  context.Context //nolint:containedctx // wazero hands it to host functions, which find their instance by it
	mod  api.Module
	mem  []byte
	fuel api.MutableGlobal
	sp   api.MutableGlobal
	said api.MutableGlobal // address of the text of the last internal error that the engine threw in this call
	fn   map[string]api.Function

	granted, left int64
	deadline      time.Time
	stop          stopped
	clock         uint64 // what the guest's clock says, in nanoseconds

	last    any // tenant that ran last, so that a change of tenant drops what it left above the image
	stack   [8]uint64
	discard func([]byte)
}

type instanceKey struct{}

var exported = []string{
	"_initialize", "malloc", "free", "JS_NewRuntime", "JS_SetMemoryLimit", "JS_SetGCThreshold", "JS_NewContext", "JS_Eval",
	"JS_GetPropertyStr", "JS_GetException", "JS_NewStringLen", "JS_Call", "JS_ToCStringLen2", "JS_SetMaxStackSize", "JS_RunGC",
}

func newInstance(r wazero.Runtime, code wazero.CompiledModule, memory func(context.Context) context.Context, discard func([]byte)) (*instance, error) {
	in := &instance{fn: make(map[string]api.Function, len(exported)), discard: discard}
	in.ctx = memory(context.WithValue(context.Background(), instanceKey{}, in))
	mod, err := r.InstantiateModule(in.ctx, code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fmt.Errorf("instantiate: %w", err)
	}
	in.mod = mod
	for _, name := range exported {
		if in.fn[name] = mod.ExportedFunction(name); in.fn[name] == nil {
			return nil, fmt.Errorf("%w: no export %s", errModule, name)
		}
	}
	var ok1, ok2, ok3 bool
	in.fuel, ok1 = mod.ExportedGlobal(exportFuel).(api.MutableGlobal)
	in.sp, ok2 = mod.ExportedGlobal(exportSP).(api.MutableGlobal)
	in.said, ok3 = mod.ExportedGlobal(exportSaid).(api.MutableGlobal)
	if !ok1 || !ok2 || !ok3 {
		return nil, errModule
	}
	return in, nil
}

// view takes hold of the memory, after it has reached its full size.
func (in *instance) view() error {
	mem, ok := in.mod.Memory().Read(0, memPages*pageSize)
	if !ok {
		return errors.New("quickjssandbox: the memory is smaller than its ceiling")
	}
	in.mem = mem
	return nil
}

// arm gives a call its fuel and its outer guard.
func (in *instance) arm(fuel int64, guard time.Duration, now time.Time) {
	in.stop, in.deadline = running, time.Now().Add(guard)
	in.clock = uint64(now.UnixNano()) //nolint:gosec // receive times are of 1970 and later
	in.said.Set(0)
	in.granted = min(quantum, fuel)
	in.left = fuel - in.granted
	in.setFuel(in.granted)
}

func (in *instance) setFuel(v int64) { in.fuel.Set(uint64(uint32(int32(v)))) } //nolint:gosec // a quantum at most

func (in *instance) have() int64 { return int64(int32(uint32(in.fuel.Get()))) } //nolint:gosec // the guest's i32

// used is exact and the same on every machine. A guest that was stopped used all it was given: what it could not pay for was
// not done.
func (in *instance) used() int64 {
	if in.stop == outOfFuel {
		return in.granted
	}
	return in.granted - in.have()
}

// poll is called by a guest whose fuel is used up: it gives the next quantum, or answers that the guest must stop.
func (in *instance) poll() bool {
	have := in.have()
	for have < 1 {
		if in.left == 0 {
			in.stop = outOfFuel
			return true
		}
		grant := min(quantum, in.left)
		in.left -= grant
		in.granted += grant
		have += grant
	}
	if time.Now().After(in.deadline) {
		in.stop = outOfTime
		return true
	}
	in.setFuel(have)
	return false
}

// errGuest is a guest that was stopped or broke down: category says which, and whose fault it is.
type errGuest struct {
	category decoder.Category
	message  string
	cut      bool // the message went on
}

func (e *errGuest) Error() string { return e.message }

// call runs an exported function. A trap becomes an *errGuest; the next restore cleans everything up.
func (in *instance) call(name string, args ...uint64) (uint64, error) {
	n := copy(in.stack[:], args)
	err := in.fn[name].CallWithStack(in.ctx, in.stack[:max(n, 1)])
	if err == nil {
		return in.stack[0], nil
	}
	sp := uint32(in.sp.Get()) //nolint:gosec // the guest's i32
	in.sp.Set(stackHigh)
	switch {
	case in.stop == outOfFuel:
		return 0, &errGuest{category: decoder.Fuel, message: "The script used up its fuel. Look for a loop that does not end, or does too much."}
	case in.stop == outOfTime:
		return 0, &errGuest{category: decoder.Internal, message: "The run was stopped by the server's own clock. It will be tried again."}
	case sp < stackLow || sp > stackHigh || strings.Contains(err.Error(), "stack overflow"):
		return 0, &errGuest{category: decoder.Stack, message: "The script used up its stack. Look for a recursion that does not end."}
	default:
		return 0, &errGuest{category: decoder.Memory, message: "The script broke the engine down, which was thrown away. Look for values of extreme size."}
	}
}

func tag(v uint64) int32 { return int32(v >> 32) } //nolint:gosec // the upper half is meant

// bytes copies a text into the guest, with a zero behind it, and returns its address.
func (in *instance) bytes(text string) (uint64, error) {
	p, err := in.call("malloc", uint64(len(text)+1))
	if err != nil {
		return 0, err
	}
	if p = uint64(uint32(p)); p == 0 || p+uint64(len(text))+1 > uint64(len(in.mem)) { //nolint:gosec // an i32 address
		return 0, &errGuest{category: decoder.Memory, message: "The script left no memory for its input."}
	}
	copy(in.mem[p:], text)
	in.mem[p+uint64(len(text))] = 0
	return p, nil
}

// text reads a value as a string of at most limit bytes, and whether that is all of it. What is empty and not all has no text:
// asking for it threw. Turning a value into text may run the tenant's code: fuel stays armed.
func (in *instance) text(js *frame, v uint64, limit int) (string, bool, error) {
	p, err := in.call("JS_ToCStringLen2", js.ctx, js.len, v, 0)
	if err != nil {
		return "", false, err
	}
	if p = uint64(uint32(p)); p == 0 { //nolint:gosec // an i32 address
		return "", false, nil
	}
	n := uint64(binary.LittleEndian.Uint32(in.mem[js.len:]))
	if p+n > uint64(len(in.mem)) {
		return "", false, nil
	}
	if n > uint64(limit) { //nolint:gosec // a constant
		return string(in.mem[p : p+uint64(limit)]), false, nil //nolint:gosec // as above
	}
	return string(in.mem[p : p+n]), true, nil
}

// eval runs a source text at the top level.
func (in *instance) eval(js *frame, source, name string) (uint64, error) {
	src, err := in.bytes(source)
	if err != nil {
		return 0, err
	}
	file, err := in.bytes(name)
	if err != nil {
		return 0, err
	}
	return in.call("JS_Eval", js.ctx, src, uint64(len(source)), file, 0)
}

// exhausted says whether the engine itself ran out of memory in this call. Then it throws an error that says so or, where there
// is no room left even for that, null, which alone is not told from a script's own.
func (in *instance) exhausted() bool {
	at := min(in.said.Get(), uint64(len(in.mem)))
	return bytes.HasPrefix(in.mem[at:], []byte("out of memory"))
}

// thrown turns the pending exception into a verdict.
func (in *instance) thrown(js *frame) error {
	v, err := in.call("JS_GetException", js.ctx)
	if err != nil {
		return err
	}
	message, whole, err := in.text(js, v, decoder.MaxOutput) // far more than is shown: what is secret in it is hidden before it is cut
	if err != nil {
		return err
	}
	switch kind := tag(v); {
	case in.exhausted() && (kind == tagNull || strings.HasPrefix(message, "InternalError") || message == "" && !whole):
		return &errGuest{category: decoder.Memory, message: "The script used up its memory of 16 MiB."}
	case strings.HasPrefix(message, "RangeError: Maximum call stack size exceeded"), strings.HasPrefix(message, "InternalError: stack overflow"):
		return &errGuest{category: decoder.Stack, message: "The script used up its stack. Look for a recursion that does not end."}
	case kind == tagNull, kind == tagUndefined:
		return &errGuest{category: decoder.Exception, message: "The script threw " + message + "."}
	case message == "": // a symbol, or an object that throws again when it is asked
		return &errGuest{category: decoder.Exception, message: "The script threw a value that has no text."}
	default:
		return &errGuest{decoder.Exception, strings.ToValidUTF8(message, "\uFFFD"), !whole}
	}
}

// frame is where an image keeps what the host needs of it.
type frame struct {
	ctx  uint64 // JSContext
	run  uint64 // the prelude's entry function
	api  uint64 // the script's own functions; undefined in a base
	len  uint64 // four bytes for lengths
	argv uint64 // room for two arguments
}
