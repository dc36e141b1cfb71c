package ingest_test

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/seal"
)

// A device's secret that cannot be opened here is no fault of the tenant's other devices: they go on, in the same batch, over a bus and
// from what waits in the store. The device's own events are tried again for a while, and then kept for replay.
func TestASecretThatCannotBeOpenedHoldsUpItsDeviceAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		back int // the key is back before this try
		want uplink.State
	}{{"never", 9, uplink.Failed}, {"before the third try", 2, uplink.Processed}} {
		s := newStream(t, "x", tenant.DefaultLimits)
		const sealed = "70b3d57ed0000005"
		hidden, at := secret.New("hidden"), device.Address{Kind: device.DevEUI, Value: sealed}
		must[device.Device](t)(s.admin.CreateDevice(t.Context(), s.may(access.DeviceCreate), manage.NewDevice{
			Name: sealed, Addresses: []device.Address{at}, Decoder: s.dec, Variables: []manage.NewVariable{{Name: "key", Value: &hidden, Secret: true}},
		}))
		var right seal.Sealer
		right, s.gate.Sealer = s.gate.Sealer, must[*keyring.Keyring](t)(keyring.Ephemeral())
		var ids, others []ident.Uplink
		for i, of := range []string{"a", "b"} { // over the bus, and in the store
			others = append(others, s.says(s.scope, s.way, of+"1", known, 0).ID)
			ids = append(ids, s.says(s.scope, s.way, of+"2", sealed, 0).ID)
			others = append(others, s.says(s.scope, s.way, of+"3", known, 0).ID)
			if i == 1 {
				s.suspend(true)
			}
			s.consume()
		}
		s.suspend(false)
		for try := range 5 {
			if try == c.back {
				s.gate.Sealer = right
			}
			s.process()
			s.now = s.now.Add(10 * time.Second)
		}
		for _, id := range others {
			if u := s.uplink(id); u.State != uplink.Processed {
				t.Errorf("%s: another device's is %s", c.name, u.State)
			}
		}
		for _, id := range ids {
			outs := s.outcomes(id)
			if u := s.uplink(id); u.State != c.want || len(outs) == 0 || c.want == uplink.Failed && outs[0].Category != decoder.Internal {
				t.Errorf("%s: the device's is %s, %+v", c.name, u.State, outs)
			}
		}
		if n := len(s.letters("")); n != 0 {
			t.Errorf("%s: %d dead letters", c.name, n)
		}
	}
}
