package httpapi_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ringfence/ringfence/adapters/httpapi"
)

// Whoever reads the metrics learns whether the process is ready, whatever happens to who is asked.
func TestWhetherAProcessIsReadyIsAMetricWhateverHappens(t *testing.T) {
	for want, ready := range map[int64][]func(context.Context) error{
		1: {func(context.Context) error { return nil }},
		0: {func(context.Context) error { return errors.New("away") }, func(context.Context) error { panic("planted") }},
	} {
		for _, ask := range ready {
			m := httpapi.NewMetrics()
			m.Ready(ask)
			series, _ := m.Read()
			if got, there := series["ringfence_ready"]; !there || got != want {
				t.Errorf("ready is %d, want %d", got, want)
			}
		}
	}
}
