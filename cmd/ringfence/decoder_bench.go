package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/ports/sandbox"
)

// decoderBenchCmd measures how fast decoders run as the server runs them: isolated, metered, in random order.
type decoderBenchCmd struct {
	machine
	Paths []string      `arg:"" name:"path" help:"Folders or files, as decoder test takes them."`
	For   time.Duration `help:"How long." default:"3s"`
}

// maxSamples bounds what one worker remembers of its decodes' durations.
const maxSamples = 1 << 20

type benchReport struct {
	Engine    string  `json:"engine"`
	Workers   int     `json:"workers"`
	Vectors   int     `json:"vectors"`
	Decodes   int     `json:"decodes"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"decodes_per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
}

func (c decoderBenchCmd) Run(ctx context.Context, env environment) error {
	engine, err := quickjssandbox.New(ctx, quickjssandbox.Options{})
	if err != nil {
		return err
	}
	report, err := c.measure(ctx, engine)
	if err = errors.Join(err, engine.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(report)
	}
	_, err = fmt.Fprintf(env.stdout, "%.0f decodes/s on %d workers: %d decodes of %d vectors in %.1f s, p50 %.0f µs, p99 %.0f µs\n",
		report.PerSecond, report.Workers, report.Decodes, report.Vectors, report.Seconds, report.P50, report.P99)
	return err
}

func (c decoderBenchCmd) measure(ctx context.Context, engine *quickjssandbox.Engine) (benchReport, error) {
	r := benchReport{Engine: engine.Version(), Workers: runtime.GOMAXPROCS(0)}
	var jobs []sandbox.Job
	for codec, err := range codecs(ctx, engine, c.Paths, time.Unix(0, 0)) {
		if err != nil {
			return r, fmt.Errorf("%s: %w", codec.Name, err)
		}
		for _, v := range codec.Vectors {
			jobs = append(jobs, sandbox.Job{Script: scriptOf(codec.Source), Input: v.Input})
		}
	}
	for _, j := range jobs { // each is loaded before the clock runs
		if _, err := engine.Run(ctx, j); err != nil {
			return r, err
		}
	}
	if r.Vectors = len(jobs); r.Vectors == 0 {
		return r, errors.New("there is no vector there: nothing to measure")
	}
	took := make([][]time.Duration, r.Workers)
	counts := make([]int, r.Workers)
	errs := make([]error, r.Workers)
	var wg sync.WaitGroup
	began := time.Now()
	for w := range r.Workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w))) //nolint:gosec // which vector comes next is no secret
			for errs[w] == nil && ctx.Err() == nil && time.Since(began) < c.For {
				start := time.Now()
				var out decoder.Result
				if out, errs[w] = engine.Run(ctx, jobs[random.IntN(len(jobs))]); errs[w] == nil && out.Category == decoder.Internal {
					errs[w] = errors.New("the engine gave up on a vector")
				}
				counts[w]++
				if len(took[w]) < maxSamples {
					took[w] = append(took[w], time.Since(start))
				}
			}
		})
	}
	wg.Wait()
	r.Seconds = time.Since(began).Seconds()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return r, err
	}
	all := slices.Concat(took...)
	if slices.Sort(all); len(all) == 0 {
		return r, errors.New("no time to measure anything: give --for more")
	}
	for _, n := range counts {
		r.Decodes += n
	}
	r.PerSecond = float64(r.Decodes) / r.Seconds
	r.P50, r.P99 = micros(all[len(all)/2]), micros(all[len(all)*99/100])
	return r, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
