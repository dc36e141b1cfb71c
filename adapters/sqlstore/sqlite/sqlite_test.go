package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/sqlite"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

func TestSmoke(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "a.db"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sc := access.Grant(ident.Tenant{9}, access.Actor{Kind: access.System, System: "test"}, access.Origin{}, access.Decision{Allowed: true}, nil, access.Subject{}, time.Now())
	err = s.Change(t.Context(), sc, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		_, err := w.Devices().Put(ctx, device.Device{ID: ident.Device{1}, Name: "x", Node: ident.Node{2}, State: device.Active, Addresses: []device.Address{{Kind: device.Serial, Value: "q"}}, UpdatedAt: time.Now()})
		return []audit.Event{{ID: ident.Entry{1}, Action: audit.DeviceCreated, Target: audit.Target{Kind: "device", ID: "d"}, Outcome: audit.OK}}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), sc, func(ctx context.Context, r store.Reader) error {
		d, err := r.Devices().ByAddress(ctx, device.Address{Kind: device.Serial, Value: "q"})
		t.Log(d, err)
		p, err := r.Devices().List(ctx, store.Query{Reach: access.Reach{Nodes: []ident.Node{{2}}}})
		t.Log(p, err)
		e, err := r.Audit().Find(ctx, store.Query{Reach: access.Everywhere}, store.AuditFilter{})
		t.Log(len(e.Items), err, string(e.Items[0].Leaf))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
