package quickjssandbox_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

func TestQuickJSFillsThePort(t *testing.T) {
	e, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	sandboxtest.Run(t, e)
}

func TestTwoEnginesGiveTheSameBytesAndFuel(t *testing.T) {
	sandboxtest.InChild(t, func(t *testing.T) {
		const script = `function decodeUplink(i) { var x = 0; for (var n = 0; n < 1000; n++) x += Math.sqrt(n) * Math.random(); return { data: { x: x } } }`
		var first string
		for n := range 2 {
			e, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1, CompileDir: filepath.Join(t.TempDir(), "engine")})
			if err != nil {
				t.Fatal(err)
			}
			r, err := e.Run(t.Context(), sandboxtest.Job(1, script))
			if err != nil {
				t.Fatal(err)
			}
			got := string(r.Data) + string(rune(r.Fuel)) + e.Version() //nolint:gosec // only compared
			if n > 0 && got != first {
				t.Errorf("%q, the first engine %q", got, first)
			}
			first = got
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestQuickJSHoldsItsMemoryAndItsTime(t *testing.T) {
	sandboxtest.RunMeasured(t, func(t testing.TB) sandbox.Engine {
		e, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close(context.Background()) })
		return e
	})
}

func TestLoadingIsToldOnceAndIsNoneOfTheRunsFuel(t *testing.T) {
	e, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	const script = `for (var n = 0; n < 50000; n++) {} function decodeUplink(i) { return { data: { n: n } } }`
	loaded, err := e.Check(t.Context(), sandboxtest.Script(1, script))
	if err != nil {
		t.Fatal(err)
	}
	var fuel int64
	for n := range 2 {
		r, err := e.Run(t.Context(), sandboxtest.Job(1, script))
		if want := loaded.Fuel * int64(1-n); err != nil || r.LoadFuel != want || r.LoadFuel < int64(1-n)*50_000 || r.Fuel == 0 || (n > 0 && r.Fuel != fuel) {
			t.Errorf("run %d used %d and %d to load, %v; want %d to load", n, r.Fuel, r.LoadFuel, err, want)
		}
		fuel = r.Fuel
	}
}

func TestWhoWaitsForAGuestHasNotBegun(t *testing.T) {
	e, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	var first, second bool
	ended := make(chan error, 1)
	a, b := sandboxtest.Job(1, "function decodeUplink() { return { data: {} } }"), sandboxtest.Job(2, "function decodeUplink() { return { data: {} } }")
	b.Began = func() { second = first }
	a.Began = func() {
		go func() {
			_, err := e.Run(t.Context(), b)
			ended <- err
		}()
		<-time.After(20 * time.Millisecond)
		first = true
	}
	if _, err := e.Run(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || !second {
		t.Errorf("it began while another one ran; %v", err)
	}
}
