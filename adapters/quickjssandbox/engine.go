// Package quickjssandbox fills ports/sandbox with QuickJS-NG as WebAssembly on wazero. The module is rewritten at start so
// that every loop costs fuel; before each call the guest's whole memory is overwritten with the image of one script, so
// nothing survives a call and one guest serves tenants in turn. It reads no file and opens no connection for a script.
package quickjssandbox

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	quickjswasi "github.com/aperturerobotics/go-quickjs-wasi-reactor"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// moduleHash is of the one module that the offsets in this package hold for.
const moduleHash = "718f30dac3b2b42f2ab18d622f8ca11139e193e40f941519165710e4a9b168a3"

//go:embed js/prelude.js
var prelude string

//go:embed js/buffer.js
var bufferPrelude string

//go:embed js/entry.js
var entry string

// Options of an engine. Zero fields take the defaults.
type Options struct {
	Instances  int           // guests, each of 16 MiB; default GOMAXPROCS
	CacheBytes int64         // of script images; default 64 MiB
	CompileDir string        // keeps compiled machine code between starts; must be private. "" keeps nothing
	Guard      sandbox.Guard // default 1 s and 5 s
	unmetered  bool          // benchmarks alone
	interpret  bool          // tests alone: wazero's interpreter, which is another machine to the guest
}

// Engine is the adapter.
type Engine struct {
	o       Options
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	version string
	plain   *image // base without Buffer
	buffer  *image // base with it
	guests  chan *instance
	images  *images
	closed  chan struct{}
	once    sync.Once
}

var _ sandbox.Engine = (*Engine)(nil)

// New compiles the engine and makes its base images.
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Instances <= 0 {
		o.Instances = runtime.GOMAXPROCS(0)
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.Guard.Run <= 0 {
		o.Guard.Run = time.Second
	}
	if o.Guard.Load <= 0 {
		o.Guard.Load = 5 * time.Second
	}
	if sum := sha256.Sum256(quickjswasi.QuickJSWASM); hex.EncodeToString(sum[:]) != moduleHash {
		return nil, fmt.Errorf("%w: it is not the pinned version", errModule)
	}
	module, err := rewrite(quickjswasi.QuickJSWASM, !o.unmetered)
	if err != nil {
		return nil, err
	}
	e := &Engine{o: o, guests: make(chan *instance, o.Instances), images: newImages(o.CacheBytes), closed: make(chan struct{}), version: versionOf(module)}
	config := wazero.NewRuntimeConfig()
	if o.interpret {
		config = wazero.NewRuntimeConfigInterpreter()
	}
	config = config.WithMemoryLimitPages(memPages)
	if o.CompileDir != "" {
		if err := private(o.CompileDir); err != nil {
			return nil, err
		}
		if e.cache, err = wazero.NewCompilationCacheWithDir(o.CompileDir); err != nil {
			return nil, fmt.Errorf("compile cache: %w", err)
		}
		config = config.WithCompilationCache(e.cache)
	}
	e.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if err := e.start(ctx, module); err != nil {
		_ = e.runtime.Close(ctx)
		return nil, err
	}
	return e, nil
}

// versionOf names everything that a script's result depends on beside the script and its input.
func versionOf(module []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{module, []byte(prelude), []byte(bufferPrelude), []byte(entry), fmt.Appendf(nil, "%d/%d/%d", jsStack, jsMemory, gcThreshold)} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		_, _ = h.Write(part)
	}
	return "quickjs-ng/0.15.1+" + hex.EncodeToString(h.Sum(nil)[:8])
}

// private refuses a folder that others may write or read: what lies in it is run.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("compile cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("compile cache: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("compile cache: %s must be readable by its owner alone (chmod 700)", dir)
	}
	return nil
}

func (e *Engine) start(ctx context.Context, module []byte) error {
	code, err := e.runtime.CompileModule(ctx, module)
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	if err := hostModule(ctx, e.runtime, code); err != nil {
		return err
	}
	boot := func(source string) (*image, error) {
		in, err := newInstance(e.runtime, code, withMemory, discard)
		if err != nil {
			return nil, err
		}
		defer func() { _ = in.mod.Close(ctx) }()
		return in.boot(source)
	}
	if e.plain, err = boot(prelude); err != nil {
		return fmt.Errorf("base image: %w", err)
	}
	if e.buffer, err = boot(bufferPrelude + prelude); err != nil {
		return fmt.Errorf("base image with Buffer: %w", err)
	}
	e.buffer.constants = e.plain.constants
	for range e.o.Instances {
		in, err := newInstance(e.runtime, code, withMemory, discard)
		if err != nil {
			return err
		}
		if err := in.adopt(); err != nil {
			return err
		}
		e.guests <- in
	}
	return nil
}

// hostModule gives the guest what it imports: a clock that stands, an empty environment, the poll, and nothing else.
func hostModule(ctx context.Context, r wazero.Runtime, code wazero.CompiledModule) error {
	const badFile = 8 // WASI's EBADF
	b := r.NewHostModuleBuilder("wasi_snapshot_preview1")
	for _, f := range code.ImportedFunctions() {
		_, name, _ := f.Import()
		var fn api.GoModuleFunc
		switch name {
		case "fd_close":
			fn = func(ctx context.Context, _ api.Module, stack []uint64) {
				if uint32(stack[0]) != sentinel { //nolint:gosec // an i32
					stack[0] = badFile
					return
				}
				stack[0] = 0
				if in, ok := ctx.Value(instanceKey{}).(*instance); !ok || in.poll() {
					stack[0] = 1
				}
			}
		case "clock_time_get":
			fn = func(ctx context.Context, m api.Module, stack []uint64) {
				in, ok := ctx.Value(instanceKey{}).(*instance)
				if !ok || !m.Memory().WriteUint64Le(uint32(stack[2]), in.clock) { //nolint:gosec // an i32 address
					stack[0] = badFile
					return
				}
				stack[0] = 0
			}
		case "environ_sizes_get":
			fn = func(_ context.Context, m api.Module, stack []uint64) {
				ok1 := m.Memory().WriteUint32Le(uint32(stack[0]), 0) //nolint:gosec // an i32 address
				ok2 := m.Memory().WriteUint32Le(uint32(stack[1]), 0) //nolint:gosec // an i32 address
				stack[0] = 0
				if !ok1 || !ok2 {
					stack[0] = badFile
				}
			}
		case "environ_get":
			fn = func(_ context.Context, _ api.Module, stack []uint64) { stack[0] = 0 }
		case "proc_exit":
			fn = func(context.Context, api.Module, []uint64) { panic(errors.New("the guest wanted to exit")) }
		default:
			fn = func(_ context.Context, _ api.Module, stack []uint64) { stack[0] = badFile }
		}
		b.NewFunctionBuilder().WithGoModuleFunction(fn, f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("host module: %w", err)
	}
	return nil
}

// Version identifies the rewritten module, the prelude and the limits.
func (e *Engine) Version() string { return e.version }

// Close waits for the guests to come back and releases them.
func (e *Engine) Close(ctx context.Context) error {
	var err error
	e.once.Do(func() {
		close(e.closed)
		for range e.o.Instances {
			select {
			case <-e.guests:
			case <-ctx.Done():
				err = ctx.Err()
				return
			}
		}
		err = e.runtime.Close(ctx)
		if e.cache != nil {
			err = errors.Join(err, e.cache.Close(ctx))
		}
	})
	return err
}

// guest waits for a free guest.
func (e *Engine) guest(ctx context.Context) (*instance, error) {
	select {
	case <-e.closed:
		return nil, fault.New(fault.Unavailable, "engine_closed", "The decoder engine is shutting down. Try again.")
	default:
	}
	select {
	case in := <-e.guests:
		return in, nil
	case <-e.closed:
		return nil, fault.New(fault.Unavailable, "engine_closed", "The decoder engine is shutting down. Try again.")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Check loads a script afresh.
func (e *Engine) Check(ctx context.Context, s sandbox.Script) (decoder.Result, error) {
	in, err := e.guest(ctx)
	if err != nil {
		return decoder.Result{}, err
	}
	defer func() { e.guests <- in }()
	began := time.Now()
	_, used, err := e.load(in, s, epoch)
	r, err := verdict(err, nil)
	r.Fuel, r.Duration = used, time.Since(began)
	return r, err
}

// Run decodes one uplink.
func (e *Engine) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	text, err := inputText(j.Input)
	if err != nil {
		return decoder.Result{}, err
	}
	in, err := e.guest(ctx)
	if err != nil {
		return decoder.Result{}, err
	}
	defer func() { e.guests <- in }()
	if j.Began != nil {
		j.Began()
	}
	began := time.Now()
	secrets := secretsOf(j.Input)
	im, gave := e.images.get(keyOf(j.Script))
	var loading int64
	if im == nil {
		var used int64
		// Loading sees no uplink, so that an image does not depend on which one came first.
		if im, used, err = e.load(in, j.Script, epoch); err != nil {
			r, err := verdict(err, secrets)
			r.Fuel, r.Duration = used, time.Since(began)
			return r, err
		}
		if !gave { // else it would be here still, but for others'
			loading = used
		}
		e.images.put(keyOf(j.Script), im)
	}
	in.restore(im, j.Script.Tenant)
	fuel := j.Script.Limits.RunFuel
	if fuel <= 0 {
		fuel = decoder.DefaultLimits.RunFuel
	}
	in.arm(fuel, e.o.Guard.Run, j.Input.RecvTime)
	out, err := in.decode(&im.frame, text)
	used := in.used()
	if err != nil || used > quantum {
		in.forget(im.top())
	}
	var r decoder.Result
	if err == nil {
		r = output(out, secrets)
	} else {
		r, err = verdict(err, secrets)
	}
	r.Fuel, r.LoadFuel, r.Duration = used, loading, time.Since(began)
	return r, err
}

// load runs a script's top level on a base and freezes what comes of it.
func (e *Engine) load(in *instance, s sandbox.Script, now time.Time) (*image, int64, error) {
	if len(s.Source) > decoder.MaxScript {
		return nil, 0, &errGuest{category: decoder.Load, message: fmt.Sprintf("A script may have %d bytes.", decoder.MaxScript)}
	}
	base := e.plain
	if strings.Contains(s.Source, "Buffer") {
		base = e.buffer
	}
	in.last = nil // whatever was above the base is dropped
	in.restore(base, s.Tenant)
	fuel := s.Limits.LoadFuel
	if fuel <= 0 {
		fuel = decoder.DefaultLimits.LoadFuel
	}
	in.arm(fuel, e.o.Guard.Load, now)
	f, err := in.loadScript(base.frame, s.Source)
	used := in.used()
	if err != nil {
		in.last = nil
		in.forget(base.top())
		return nil, used, err
	}
	in.discard(in.mem[stackLow:stackHigh])
	return in.freeze(base, f), used, nil
}

func (in *instance) loadScript(f frame, source string) (frame, error) {
	v, err := in.eval(&f, source, "decoder.js")
	if err != nil {
		return f, err
	}
	if tag(v) == tagException {
		return f, asLoad(in.thrown(&f))
	}
	if f.api, err = in.eval(&f, entry, "entry.js"); err != nil {
		return f, err
	}
	switch tag(f.api) {
	case tagException:
		return f, asLoad(in.thrown(&f))
	case tagNull:
		return f, &errGuest{category: decoder.Load, message: "The script defines neither decodeUplink(input) nor decode(input)."}
	}
	return f, nil
}

// asLoad is the verdict on a script whose top level threw: it does not load.
func asLoad(err error) error {
	var g *errGuest
	if errors.As(err, &g) && g.category == decoder.Exception {
		return &errGuest{decoder.Load, g.message, g.cut}
	}
	return err
}

func (in *instance) decode(f *frame, text string) (string, error) {
	p, err := in.bytes(text)
	if err != nil {
		return "", err
	}
	arg, err := in.call("JS_NewStringLen", f.ctx, p, uint64(len(text)))
	if err != nil {
		return "", err
	}
	if tag(arg) == tagException {
		return "", in.thrown(f)
	}
	binary.LittleEndian.PutUint64(in.mem[f.argv:], f.api)
	binary.LittleEndian.PutUint64(in.mem[f.argv+8:], arg)
	v, err := in.call("JS_Call", f.ctx, f.run, undefined, 2, f.argv)
	if err != nil {
		return "", err
	}
	return in.result(f, v, decoder.MaxOutput)
}

// result takes the text that a script's run answered, after looking at its length.
func (in *instance) result(f *frame, v uint64, limit int) (string, error) {
	switch tag(v) {
	case tagException:
		return "", in.thrown(f)
	case tagString, tagRope:
	default:
		return "", &errGuest{category: decoder.BadOutput, message: "The script returned no object."}
	}
	out, whole, err := in.text(f, v, limit)
	switch {
	case err == nil && out == "" && !whole: // it has no text, so something was thrown
		err = in.thrown(f)
	case err == nil && !whole:
		err = &errGuest{category: decoder.BadOutput, message: fmt.Sprintf("The script's output may have %d bytes.", limit)}
	}
	return out, err
}
