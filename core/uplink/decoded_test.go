package uplink

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// Tenants' consumers read it: a change of a name or a meaning is a new version.
func TestTheFormOfADecodedEventIsTheGoldenOne(t *testing.T) {
	for name, r := range map[string]Reading{
		"full": {
			ID: ident.Reading{1, 6: 0x70, 8: 0x80}, Uplink: ident.Uplink{2, 6: 0x70, 8: 0x80}, Device: ident.Device{3, 6: 0x70, 8: 0x80}, Node: ident.Node{4, 6: 0x70, 8: 0x80}, Decoder: ident.Decoder{5, 6: 0x70, 8: 0x80},
			Version: ident.Version{6, 6: 0x70, 8: 0x80}, At: anEvent().ArrivedAt.In(time.FixedZone("", 3600)), FCnt: 7, HasFCnt: true, Session: "00bb12cd", Data: json.RawMessage(`{"temperature":21.5}`), Warnings: []string{"battery <low>"},
		},
		"least": {ID: ident.Reading{1, 6: 0x70, 8: 0x80}, Uplink: ident.Uplink{2, 6: 0x70, 8: 0x80}, Device: ident.Device{3, 6: 0x70, 8: 0x80}, Node: ident.Node{4, 6: 0x70, 8: 0x80}, Decoder: ident.Decoder{5, 6: 0x70, 8: 0x80}, Version: ident.Version{6, 6: 0x70, 8: 0x80}, At: anEvent().ArrivedAt},
	} {
		got, err := r.MarshalOut(anEvent().Tenant)
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/decoded-v1-" + name + ".json"
		if *update {
			if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(file); err != nil || !bytes.Equal(append(got, '\n'), want) {
			t.Errorf("%s:\n%s\nwant\n%s (%v)", name, got, want, err)
		}
	}
	if _, err := (Reading{Data: json.RawMessage("{")}).MarshalOut(anEvent().Tenant); err == nil {
		t.Error("data that are no JSON went out")
	}
}
