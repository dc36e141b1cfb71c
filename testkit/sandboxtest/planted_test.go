package sandboxtest_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/testkit/sandboxtest"
)

// recorder is a test that a check may fail without failing ours.
type recorder struct {
	testing.TB
	ctx    context.Context //nolint:containedctx // a test's own
	mu     sync.Mutex
	failed bool
}

func (r *recorder) fail()                    { r.mu.Lock(); r.failed = true; r.mu.Unlock() }
func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Error(...any)             { r.fail() }
func (r *recorder) Errorf(string, ...any)    { r.fail() }
func (r *recorder) Fatal(...any)             { r.fail(); runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any)    { r.fail(); runtime.Goexit() }

// faulty is an engine with one bug.
type faulty struct {
	sandbox.Engine
	before func(*sandbox.Job)
	after  func(sandbox.Job, *decoder.Result)
}

func (f faulty) Run(ctx context.Context, j sandbox.Job) (decoder.Result, error) {
	asked := j
	if f.before != nil {
		f.before(&j)
	}
	r, err := f.Engine.Run(ctx, j)
	if f.after != nil {
		f.after(asked, &r)
	}
	return r, err
}

func (f faulty) Check(ctx context.Context, s sandbox.Script) (decoder.Result, error) {
	r, err := f.Engine.Check(ctx, s)
	if f.after != nil {
		f.after(sandbox.Job{Script: s}, &r)
	}
	return r, err
}

func TestEachPlantedBugIsCaughtByTheCheckNamedForIt(t *testing.T) {
	good, err := quickjssandbox.New(t.Context(), quickjssandbox.Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = good.Close(context.Background()) })
	calls, kept := 0, map[ident.Version]decoder.Result{}
	var mu sync.Mutex
	var last []byte // of whoever ran before
	for _, m := range []struct {
		bug, check string
		engine     faulty
	}{
		{"fuel is not looked at", "HostileScriptsAreStoppedAndHarmNobody", faulty{before: func(j *sandbox.Job) { j.Script.Limits.RunFuel = 5_000_000 }}},
		{"the neighbour pays", "HostileScriptsAreStoppedAndHarmNobody", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if j.Script.Tenant == (ident.Tenant{2}) {
				calls++
				r.Fuel += int64(calls)
			}
		}}},
		{"a message has no bound", "HostileScriptsAreStoppedAndHarmNobody", faulty{after: func(_ sandbox.Job, r *decoder.Result) { r.Message += strings.Repeat(" ", 600) }}},
		{"state survives", "NothingSurvivesACall", faulty{after: func(_ sandbox.Job, r *decoder.Result) {
			if calls++; calls > 5000 {
				r.Data = []byte(strings.Replace(string(r.Data), "undefined", "number", 1))
			}
		}}},
		{"images are kept by version alone", "TenantsNeverShareAnImage", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if old, ok := kept[j.Script.Version]; ok {
				*r = old
				return
			}
			kept[j.Script.Version] = *r
		}}},
		{"two at once get one answer", "TenantsAtOnceGetTheirOwn", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls%7 == 0 && last != nil {
				r.Data = last
				return
			}
			last = r.Data
		}}},
		{"randomness is real", "SameInputGivesTheSameBytesAndFuel", faulty{before: func(j *sandbox.Job) { calls++; j.Input.RecvTime = j.Input.RecvTime.Add(time.Duration(calls)) }, after: func(_ sandbox.Job, r *decoder.Result) { r.Fuel += int64(calls % 7) }}},
		{"who measures is not told", "WhoMeasuresIsToldOnceThatARunBegins", faulty{before: func(j *sandbox.Job) { j.Began = nil }}},
		{"one more is given than was granted", "FuelIsExact", faulty{before: func(j *sandbox.Job) { j.Script.Limits.RunFuel++ }}},
		{"the clock is the wall's", "TheClockIsTheUplinks", faulty{before: func(j *sandbox.Job) { j.Input.RecvTime = time.Now() }}},
		{"a script is loaded at its first uplink's time", "TheClockIsTheUplinks", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			r.Data = bytes.Replace(r.Data, []byte(`"loaded":0`), fmt.Appendf(nil, `"loaded":%d`, j.Input.RecvTime.UnixMilli()), 1)
		}}},
		{"a time that the clock cannot tell is another", "AnInputOutOfItsBoundsIsRefused", faulty{before: func(j *sandbox.Job) {
			if y := j.Input.RecvTime.UTC().Year(); y < decoder.MinYear || y > decoder.MaxYear {
				j.Input.RecvTime = time.Unix(0, 0)
			}
		}}},
		{"secrets are shown", "SecretsAreMaskedInWhateverComesOut", faulty{before: func(j *sandbox.Job) {
			for i := range j.Input.Variables {
				j.Input.Variables[i].Secret = false
			}
		}}},
		{"messages are cut before they are masked", "SecretsAreMaskedInWhateverComesOut", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if at := strings.Index(r.Message, "***"); at > 480 {
				whole := r.Message[:at] + j.Input.Variables[0].Value.Reveal()
				r.Message = whole[:min(len(whole), decoder.MaxMessage)]
			}
		}}},
		{"whole secrets alone are hidden", "SecretsAreMaskedInWhateverComesOut", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if v := j.Input.Variables; len(v) > 0 && strings.HasPrefix(r.Message, "TypeError: cannot read property '***'") {
				r.Message = "TypeError: cannot read property '" + string([]rune(v[0].Value.Reveal())[:8])
			}
		}}},
		{"a secret's first word is shown", "SecretsAreMaskedInWhateverComesOut", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if v := j.Input.Variables; len(v) > 0 && strings.HasPrefix(r.Message, "SyntaxError") {
				first, _, _ := strings.Cut(v[0].Value.Reveal(), "-")
				r.Message = strings.Replace(r.Message, "***", first[:min(len(first), 8)], 1)
			}
		}}},
		{"what overlaps is hidden one after the other", "SecretsAreMaskedInWhateverComesOut", faulty{after: func(_ sandbox.Job, r *decoder.Result) {
			r.Data = []byte(strings.Replace(string(r.Data), "key=***", "key=***ijkl", 1))
		}}},
		{"secrets are not given", "SecretsAreMaskedInWhateverComesOut", faulty{before: func(j *sandbox.Job) {
			for i := range j.Input.Variables {
				j.Input.Variables[i].Value = secret.New("")
			}
		}}},
		{"all failures are exceptions", "OutcomesAreNamedAsTheyAre", faulty{after: func(_ sandbox.Job, r *decoder.Result) {
			if r.Category != decoder.Success {
				r.Category = decoder.Exception
			}
		}}},
		{"null is taken for memory", "OutcomesAreNamedAsTheyAre", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if strings.Contains(j.Script.Source, "{ throw null }") {
				r.Category = decoder.Memory
			}
		}}},
		{"data is not read before it goes out", "WhatComesOutIsReadByAStrictReader", faulty{after: func(j sandbox.Job, r *decoder.Result) {
			if r.Category == decoder.BadOutput {
				r.Category, r.Message, r.Data = decoder.Success, "", []byte(`{"***":1,"***":2}`)
			}
		}}},
		{"every script loads", "AScriptThatDoesNotLoadIsToldSo", faulty{after: func(_ sandbox.Job, r *decoder.Result) { r.Category = decoder.Success }}},
		{"objections are not asked for", "StagesRunInTheirOrder", faulty{before: func(j *sandbox.Job) {
			j.Script.Source, j.Script.Hash[0] = strings.ReplaceAll(j.Script.Source, "validate", "unused"), j.Script.Hash[0]+1
		}}},
	} {
		calls = 0
		clear(kept)
		m.engine.Engine = good
		r := &recorder{TB: t, ctx: t.Context()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, c := range sandboxtest.Checks() {
				if c.Name == m.check {
					c.Run(r, m.engine)
				}
			}
		}()
		<-done
		if !r.failed {
			t.Errorf("%s did not catch: %s", m.check, m.bug)
		}
	}
}
