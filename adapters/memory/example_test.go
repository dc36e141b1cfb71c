package memory_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/adapters/localauth"
	"github.com/ringfence/ringfence/adapters/memlimit"
	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/adapters/quickjssandbox"
	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// must keeps the example short; a program handles its errors.
func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// The application without a server: assembled on the memory adapters, and driven from an empty store to a decoded reading.
func Example() {
	ctx, from := context.Background(), access.Origin{Address: "192.0.2.1"}

	// Who is given to whom.
	cache, limits, limiter := enter.NewCache(100), tenant.DefaultLimits, memlimit.New(time.Now, 1000)
	keys, log := must(keyring.Ephemeral()), slog.New(slog.DiscardHandler)
	engine := must(quickjssandbox.New(ctx, quickjssandbox.Options{Instances: 1}))
	defer func() { _ = engine.Close(ctx) }()
	records := memory.New(memory.Options{Now: time.Now, Revised: cache.Revised})
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }}
	gate := enter.New(records, cache, enter.Recorder{Mint: mint, Sealer: keys, Peppers: keys}, log)
	people := signin.New(gate, records, must(localauth.New(localauth.Options{})), limiter)
	events := ingest.New(gate, records, engine, limiter, limits, log)
	admin, readings := manage.New(gate, records, events.Trials(1), limits, events.Again), disclose.New(gate, records, keys)

	// The first person, who owns the first tenant, and a gate that asks what they may do there.
	link, ana := must(people.SetupLink(ctx)), signin.NewPerson{Email: "ana@acme.example", Name: "Ana", Password: secret.New("four random words here")}
	_, acme, err := people.Setup(ctx, link, ana, &signin.FirstTenant{Name: "Acme Water"}, from)
	must(acme, err)
	session := must(people.Login(ctx, ana.Email, ana.Password, false, from))
	who := must(gate.Authenticate(ctx, session.Access, from))
	may := func(p access.Permission) *manage.Call {
		return &manage.Call{Scope: must(gate.Gate(ctx, who, acme.ID, p, enter.Root, from))}
	}

	// A decoder, a device that uses it, and a way in.
	decoder := must(admin.CreateDecoder(ctx, may(access.DecoderWrite), "level"))
	version := must(admin.CreateVersion(ctx, may(access.DecoderWrite), decoder.ID, `function decodeUplink(input) { return { data: { cm: input.bytes[0] } } }`))
	decoder = must(admin.Decoder(ctx, may(access.DecoderRead).Scope, decoder.ID)) // its revision grew with the version
	must(admin.Activate(ctx, may(access.DecoderActivate), decoder.ID, decoder.Rev, version.ID))
	pump := device.Address{Kind: device.DevEUI, Value: "70b3d57ed0000001"}
	must(admin.CreateDevice(ctx, may(access.DeviceCreate), manage.NewDevice{Name: "Pump 1", Addresses: []device.Address{pump}, Decoder: decoder.ID}))
	way := must(admin.CreateSource(ctx, may(access.SourceWrite), source.Source{Name: "gateway", Format: source.Plain}))
	_, key, err := admin.CreateKey(ctx, may(access.SourceKeyCreate), way.ID, "first", 24*time.Hour, nil)
	must(key, err)

	// An event: its credential decides the tenant. Accepted, it is kept; processed, it is a reading.
	gateway := must(gate.Authenticate(ctx, key, from))
	scope, way, _, err := gate.Source(ctx, gateway, from)
	must(scope, err)
	must(events.Accept(ctx, scope, way, must(uplink.Parse("plain", []byte(`{"id":"1","device":"70b3d57ed0000001","payload":"Kg=="}`), ""))))
	must(events.Process(ctx, acme.ID))

	for _, r := range must(readings.Readings(ctx, may(access.ReadingRead).Scope, store.Query{}, disclose.ReadingFilter{})).Items {
		fmt.Printf("%s\n", r.Data)
	}
	entries := must(readings.Entries(ctx, may(access.AuditRead).Scope, store.Query{}, store.AuditFilter{}))
	fmt.Println(len(entries.Items), "entries in the audit log, the newest:", entries.Items[0].Action)

	// Output:
	// {"cm":42}
	// 9 entries in the audit log, the newest: sensitive_read
}
