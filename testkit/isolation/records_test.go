package isolation_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/testkit/isolation"
)

// streamed sweeps a server whose events go over a bus; mend stands between bus and worker.
func streamed(t *testing.T, mend func(*bus.Record)) isolation.Result {
	t.Helper()
	target, stream := carried(t, mend)
	return isolation.Records(t, target, stream)
}

func carried(t *testing.T, mend func(*bus.Record)) (isolation.Target, isolation.Stream) {
	t.Helper()
	broker, topics := memory.NewBroker(memory.BrokerOptions{}), bus.TopicsUnder("rf")
	for _, topic := range []string{topics.Uplinks, topics.Later, topics.Dead} {
		if err := broker.Create(topic, 3); err != nil {
			t.Fatal(err)
		}
	}
	carrier := broker.Bus()
	var in *ingest.Ingest
	target, _ := serverWith(t, engine(t), inMemory, nil, func(i *ingest.Ingest) {
		in = i
		in.Over(ingest.Durable{Bus: mending{carrier, mend}, Topics: topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers"})
	})
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- in.Consume(ctx, ingest.Consuming{Group: "workers", Later: "later", Decoders: 1, Writers: 2, Grace: 5 * time.Second})
	}()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	settle := func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for behind := int64(1); behind > 0; <-tick.C {
			behind = 0
			for group, topic := range map[string]string{"workers": topics.Uplinks, "later": topics.Later} {
				lags, err := carrier.Lags(t.Context(), group, topic)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range lags {
					behind += l.Behind()
				}
			}
		}
	}
	stream := isolation.Stream{Topics: topics, Settle: settle, Publish: func(rs []bus.Record) []error { return carrier.Publish(t.Context(), rs) }}
	target.Settle, target.Bury = settle, stream.Bury(t)
	return target, stream
}

// mending is a bus whose members see records as something makes them.
type mending struct {
	bus.Bus
	mend func(*bus.Record)
}

type mended struct {
	bus.Member
	mend func(*bus.Record)
}

func (m mending) Join(ctx context.Context, group string, topics ...string) (bus.Member, error) {
	member, err := m.Bus.Join(ctx, group, topics...)
	if m.mend == nil || err != nil {
		return member, err
	}
	return mended{member, m.mend}, nil
}

func (m mended) Fetch(ctx context.Context, limit int, wait time.Duration) ([]bus.Record, error) {
	rs, err := m.Member.Fetch(ctx, limit, wait)
	for i := range rs {
		m.mend(&rs[i])
	}
	return rs, err
}

func TestNoRecordOnABusReachesAnotherTenant(t *testing.T) {
	r := streamed(t, nil)
	for _, f := range r.Findings {
		t.Error(f)
	}
	if r.Topics < 150 {
		t.Errorf("%d records were tried", r.Topics)
	}
	t.Logf("%d records", r.Topics)
}

func TestPlantedLeaksOfABusAreFound(t *testing.T) {
	set := func(r *bus.Record, tenant string) {
		r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h bus.Header) bool { return h.Name == bus.TenantHeader })
		r.Headers = append(r.Headers, bus.Header{Name: bus.TenantHeader, Value: []byte(tenant)})
	}
	key := func(r *bus.Record, e uplink.Event) {
		if r.Key = e.Key(); r.Topic == "rf.uplinks.later" {
			r.Key = e.Tenant.String()
		}
	}
	for name, mend := range map[string]func(*bus.Record){
		"the value is believed, whatever the headers say": func(r *bus.Record) {
			if e, err := uplink.ParseEvent(r.Value); err == nil {
				set(r, e.Tenant.String())
			}
		},
		"the value is believed, whatever the key says": func(r *bus.Record) {
			if e, err := uplink.ParseEvent(r.Value); err == nil {
				key(r, e)
			}
		},
		"the first header is believed": func(r *bus.Record) {
			for _, h := range r.Headers {
				if h.Name == bus.TenantHeader {
					set(r, string(h.Value))
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := streamed(t, mend)
			if len(r.Findings) == 0 {
				t.Errorf("%d records found nothing", r.Topics)
			} else {
				t.Log(r.Findings[0])
			}
		})
	}
}

func TestADeadLetterThatShowsWhatItHoldsIsFound(t *testing.T) {
	for _, operation := range []string{"getDeadLetter", "listDeadLetters"} {
		t.Run(operation, func(t *testing.T) {
			target, _ := carried(t, func(*bus.Record) {})
			clean := target.Handler
			target.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := httptest.NewRecorder()
				clean.ServeHTTP(answer, r)
				text := answer.Body.String()
				if one := strings.HasPrefix(r.URL.Path, "/v1/platform/dead-letters/"); strings.HasPrefix(r.URL.Path, "/v1/platform/dead-letters") && one == (operation == "getDeadLetter") {
					text = strings.ReplaceAll(text, `"whole":true`, `"whole":true,"value":"canaryalphapayload"`)
				}
				maps.Copy(w.Header(), answer.Header())
				w.Header().Del("Content-Length")
				w.WriteHeader(answer.Code)
				_, _ = io.WriteString(w, text)
			})
			r := isolation.Sweep(t, target, isolation.Plan{Quit: true})
			if !slices.ContainsFunc(r.Findings, func(f isolation.Finding) bool { return f.Route == operation && strings.Contains(f.What, "dead letter") }) || len(r.Findings) != 3 {
				t.Errorf("%v", r.Findings)
			}
		})
	}
}
