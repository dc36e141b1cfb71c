//go:build services

package node_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/mqttlink"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/bus"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// stages are the parts of the pipeline, each to be measured alone on the same machine.
type stages struct {
	d       *deployment
	cs      []customer
	store   store.Store
	gate    *enter.Enter
	engine  *quickjssandbox.Engine
	carrier *kafkabus.Bus
	mint    ident.Mint
	parts   []store.Part // of each customer: what its rows are decided from
	topic   string
	broker  *servers.Server // of the MQTT stage, which the worker does not read
}

func (d *deployment) stages(b *testing.B, cs []customer) *stages {
	b.Helper()
	s := &stages{d: d, cs: cs, mint: ident.Mint{Now: time.Now, Random: func(p []byte) { _, _ = rand.Read(p) }}, topic: "rf.bench-" + word(), broker: d.broker()}
	cache := enter.NewCache(10_000)
	st, err := postgres.Open(b.Context(), postgres.Options{URL: secret.New(d.runtime), Now: time.Now, Revised: cache.Revised, Followed: cache.Followed})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	s.store = st
	s.gate = enter.New(st, cache, enter.Recorder{Mint: s.mint}, slog.New(slog.DiscardHandler))
	if s.engine, err = quickjssandbox.New(b.Context(), quickjssandbox.Options{Instances: 2, CacheBytes: 32 << 20}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.engine.Close(context.WithoutCancel(b.Context())) })
	s.carrier = d.carrier
	if err := s.carrier.Create(b.Context(), kafkabus.Topic{Name: s.topic, Partitions: 4, Replicas: 1}); err != nil {
		b.Fatal(err)
	}
	for _, c := range cs {
		t, err := ident.ParseTenant(c.id)
		if err != nil {
			b.Fatal(err)
		}
		p := store.Part{Scope: new(storetest.World).Scope(t, 0), Seen: store.Seen{Sources: map[ident.Source]uint64{}, Devices: map[ident.Device]uint64{}, Decoders: map[ident.Decoder]uint64{}}}
		if err := st.View(b.Context(), p.Scope, func(ctx context.Context, r store.Reader) (err error) {
			if p.Seen.Revision, err = r.Revision(ctx); err != nil {
				return err
			}
			ds, err := r.Devices().List(ctx, store.Query{Reach: access.Everywhere})
			if err != nil {
				return err
			}
			for _, d := range ds.Items {
				p.Seen.Devices[d.ID] = d.Rev
			}
			src, err := ident.ParseSource(c.source)
			if err != nil {
				return err
			}
			known, err := r.Sources().Get(ctx, src)
			p.Seen.Sources[src] = known.Rev
			return err
		}); err != nil {
			b.Fatal(err)
		}
		s.parts = append(s.parts, p)
	}
	return s
}

// mqtt is publisher, broker and what the MQTT worker does, with a bus within this process in Kafka's place.
func (s *stages) mqtt(b *testing.B, p *publisher, events int) time.Duration {
	b.Helper()
	broker, topics := memory.NewBroker(memory.BrokerOptions{}), bus.TopicsUnder("rf")
	for _, topic := range []string{topics.Uplinks, topics.Later, topics.Dead} {
		if err := broker.Create(topic, 4); err != nil {
			b.Fatal(err)
		}
	}
	carrier := broker.Bus()
	limits := tenant.DefaultLimits
	limits.SourceRate, limits.IngestRate, limits.Backlog = 1_000_000, 1_000_000, 1_000_000
	in := ingest.New(s.gate, s.store, nil, memlimit.New(time.Now, 100_000), limits, slog.New(slog.DiscardHandler))
	in.Over(ingest.Durable{Bus: carrier, Topics: topics, Version: uplink.Version, Wait: 3 * time.Second})
	template, err := uplink.ParseTemplate(uplink.CheckedTopic)
	if err != nil {
		b.Fatal(err)
	}
	known := ingest.Connection{Name: "direct", Format: source.Plain, Owner: ingest.Checked, Topics: []uplink.Template{template}}
	cs, err := mqttlink.Parse([]byte(fmt.Sprintf("- name: bench\n  url: mqtt://%s\n  username: worker\n  password_file: %s\n  format: plain\n  tenant_from: checked\n  presence: false\n", s.broker.Addr(), s.d.dir+"/mqtt.password")))
	if err != nil {
		b.Fatal(err)
	}
	var taken sync.WaitGroup
	taken.Add(events)
	links, err := mqttlink.Open(b.Context(), cs, mqttlink.Options{Log: slog.New(slog.DiscardHandler), Name: "bench", StopWithin: 5 * time.Second, Take: func(ctx context.Context, ms []mqttlink.Message) []error {
		ds := make([]ingest.Brought, len(ms))
		for i, m := range ms {
			ds[i] = ingest.Brought{Topic: m.Topic, Payload: m.Payload}
		}
		errs := in.Receive(ctx, known, ds)
		for _, err := range errs {
			if err == nil {
				taken.Done()
			}
		}
		return errs
	}})
	if err != nil {
		b.Fatal(err)
	}
	s.d.await("the link is up", 10*time.Second, links.Ready)
	began := time.Now()
	p.flood(b.Context(), s.cs, 0, events)
	taken.Wait()
	took := time.Since(began)
	if err := links.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	return took
}

// kafka is what goes into Kafka and comes out again, committed.
func (s *stages) kafka(b *testing.B, events int) time.Duration {
	b.Helper()
	value, err := uplink.Event{Tenant: s.parts[0].Scope.Tenant(), Message: uplink.Message{Payload: make([]byte, 25), DedupeID: "1000000", Address: device.Address{Kind: device.Serial, Value: "pump-1"}, NetworkTime: time.Now()}, ArrivedAt: time.Now(), ReceivedAt: time.Now()}.MarshalVersion(1)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	chunks, producers := make(chan int), sync.WaitGroup{}
	for range 4 {
		producers.Go(func() {
			for n := range chunks {
				rs := make([]bus.Record, n)
				for i := range rs {
					var id ident.Uplink
					ident.Fresh(s.mint, &id)
					rs[i] = bus.Record{Topic: s.topic, Key: s.cs[i%len(s.cs)].id + fmt.Sprint(i%pumps), Value: value, Headers: []bus.Header{{Name: bus.EventHeader, Value: []byte(id.String())}, {Name: bus.VersionHeader, Value: []byte("1")}, {Name: bus.TenantHeader, Value: []byte(s.cs[0].id)}}}
				}
				if err := errors.Join(s.carrier.Publish(b.Context(), rs)...); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for n := 0; n < events; n += 500 {
		chunks <- min(500, events-n)
	}
	close(chunks)
	producers.Wait()
	published := time.Since(began)
	m, err := s.carrier.Join(b.Context(), "bench-"+s.topic, s.topic)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	var reading time.Time // joining a group takes a time of its own
	marked := make(chan []bus.Mark)
	committed := make(chan error)
	go func() { // as the worker does: what was read meanwhile goes with the next
		var last error
		for marks := range marked {
			last = m.Commit(b.Context(), marks)
		}
		committed <- last
	}()
	due := map[int]int64{}
	for n := 0; n < events; {
		rs, err := m.Fetch(b.Context(), 1000, time.Second)
		if err != nil {
			b.Fatal(err)
		}
		if reading.IsZero() {
			reading = time.Now()
		}
		n += len(rs)
		for _, r := range rs {
			due[r.Partition] = r.Offset + 1
		}
		var marks []bus.Mark
		for part, next := range due {
			marks = append(marks, bus.Mark{Topic: s.topic, Partition: part, Next: next})
		}
		if n >= events {
			marked <- marks
			break
		}
		select {
		case marked <- marks:
			clear(due)
		default:
		}
	}
	close(marked)
	if err := <-committed; err != nil {
		b.Fatal(err)
	}
	return published + time.Since(reading)
}

// decode is the sandbox alone, on both cores.
func (s *stages) decode(b *testing.B, events int) time.Duration {
	b.Helper()
	began := time.Now()
	var hands sync.WaitGroup
	for hand := range 2 {
		hands.Go(func() {
			for n := range events / 2 {
				t := s.parts[(n/max(10, 500/len(s.parts))+hand)%len(s.parts)].Scope.Tenant() // as in the worker's batches, some of each tenant's one after another
				res, err := s.engine.Run(b.Context(), sandbox.Job{
					Script: sandbox.Script{Tenant: t, Decoder: ident.Decoder(t), Version: ident.Version(t), Hash: [32]byte{t[0], t[15], t[14], t[13]}, Source: light, Limits: decoder.DefaultLimits},
					Input:  decoder.Input{Bytes: []byte{byte(n), 1, 2}, FPort: 1, RecvTime: time.Now()},
				})
				if err != nil || res.Category != decoder.Success {
					b.Errorf("decode: %v %v", res.Category, err)
					return
				}
			}
		})
	}
	hands.Wait()
	return time.Since(began)
}

// write is PostgreSQL alone, by as many writers as the worker has.
func (s *stages) write(b *testing.B, events int) time.Duration {
	b.Helper()
	const full, writers = 1_000, 4
	batches := make(chan []store.Part, events/full+1)
	for range events / full {
		parts := slices.Clone(s.parts)
		for n := range full {
			p := &parts[n%len(parts)]
			for d := range p.Seen.Devices {
				p.Rows = append(p.Rows, s.row(p, d))
				break
			}
		}
		batches <- parts
	}
	close(batches)
	began := time.Now()
	var hands sync.WaitGroup
	for range writers {
		hands.Go(func() {
			for parts := range batches {
				for left := parts; len(left) > 0; {
					var busy []store.Part // a job is at their tenants
					for i, err := range s.store.IngestBatch(b.Context(), left) {
						if errors.Is(err, store.ErrBusy) {
							left[i].Wait = true
							busy = append(busy, left[i])
						} else if err != nil {
							b.Errorf("batch: %v", err)
							return
						}
					}
					left = busy
				}
			}
		})
	}
	hands.Wait()
	return time.Since(began)
}

func (s *stages) row(p *store.Part, d ident.Device) store.Finished {
	now := time.Now().UTC().Truncate(time.Microsecond)
	m := uplink.Message{Address: device.Address{Kind: device.Serial, Value: "pump-1"}, Payload: make([]byte, 25)}
	u := uplink.Uplink{State: uplink.Processed, Device: d, Address: m.Address, Payload: m.Payload, PayloadHash: m.PayloadHash(), ArrivedAt: now, NetworkTime: now, ReceivedAt: now, UpdatedAt: now}
	for src := range p.Seen.Sources {
		u.Source = src
	}
	ident.Fresh(s.mint, &u.ID)
	copy(u.DedupeKey[:], u.ID[:])
	r := &uplink.Reading{Uplink: u.ID, Device: d, At: now, Data: []byte(`{"n":1}`)}
	o := &uplink.Outcome{Uplink: u.ID, Device: d, Category: decoder.Success, Engine: "quickjs", Fuel: 1000, Duration: time.Millisecond, At: now}
	ident.Fresh(s.mint, &r.ID)
	ident.Fresh(s.mint, &o.ID)
	return store.Finished{Uplink: u, Reading: r, Outcome: o}
}

// BenchmarkPipeline compares the whole with what its stages allow on the same cores, 1 / Σ(1 / rate), and says what each process
// spends of the processor.
func BenchmarkPipeline(b *testing.B) {
	for _, customers := range []int{10, 200} {
		b.Run(fmt.Sprint("of-", customers), func(b *testing.B) {
			const rounds, events = 5, 20_000
			d := deploy(b)
			cs := d.customers(customers, light)
			d.run("mqtt-ingestion-worker")
			d.run("event-worker")
			s := d.stages(b, cs)
			p, apart := d.publisher(4), d.publisherTo(s.broker, 4)
			defer p.close()
			defer apart.close()
			pids := map[string]int{"mqtt": d.workers["mqtt-ingestion-worker"].cmd.Process.Pid, "event": d.workers["event-worker"].cmd.Process.Pid, "postgres": d.pg.Pid(), "kafka": d.kafka.Pid(), "mosquitto": d.mosquitto.Pid()}
			cpu := map[string][]float64{}
			rates := map[string][]float64{}
			var decoding []float64
			whole := func() time.Duration {
				began := time.Now()
				p.flood(b.Context(), cs, 0, events)
				p.through(2 * time.Minute)
				return time.Since(began)
			}
			for range 12 { // until Kafka's machine has compiled itself, and PostgreSQL has log files to use again
				whole()
				d.checkpoint()
			}
			s.decode(b, 10*customers)
			for range rounds {
				was := map[string]float64{}
				for name, pid := range pids {
					was[name] = spent(pid)
				}
				rates["whole"] = append(rates["whole"], events/whole().Seconds())
				for name, pid := range pids {
					cpu[name] = append(cpu[name], (spent(pid)-was[name])*100_000/events)
				}
				rates["mqtt"] = append(rates["mqtt"], events/s.mqtt(b, apart, events).Seconds())
				rates["kafka"] = append(rates["kafka"], events/s.kafka(b, events).Seconds())
				used := ourOwn(b)
				rates["decode"] = append(rates["decode"], events/s.decode(b, events).Seconds())
				decoding = append(decoding, (ourOwn(b)-used)*100_000/events)
				rates["write"] = append(rates["write"], events/s.write(b, events).Seconds())
			}
			var against []float64
			for n := range rounds {
				sum := 0.0
				for _, stage := range []string{"mqtt", "kafka", "decode", "write"} {
					sum += 1 / rates[stage][n]
				}
				against = append(against, rates["whole"][n]*sum)
			}
			for name, of := range rates {
				b.ReportMetric(middle(of), name+"-events/s")
			}
			total := 0.0
			for name, of := range cpu {
				b.ReportMetric(middle(of), name+"-cpu-s/100k")
				total += middle(of)
			}
			b.ReportMetric(middle(decoding), "decode-cpu-s/100k")
			b.ReportMetric(total-middle(decoding), "cpu-s/100k-without-decode")
			b.ReportMetric(middle(against), "x-stages")
			b.ReportMetric(float64(held(pids["event"])), "event-MiB")
			b.Logf("%v: %v", customers, against)
		})
	}
}

// checkpoint has PostgreSQL write down what it holds.
func (d *deployment) checkpoint() {
	d.t.Helper()
	db, err := sql.Open("pgx", d.database)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(d.t.Context(), "CHECKPOINT"); err != nil {
		d.t.Fatal(err)
	}
}

// ourOwn is the processor time of this process, in seconds.
func ourOwn(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func middle(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}
