package uplink

import (
	"encoding/json"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// DecodedVersion is the version of the form in which readings go out.
const DecodedVersion = 1

// decoded is version 1 as JSON. Its names and their order are golden-tested: others read it. A field may be added within a version.
type decoded struct {
	Version        int             `json:"version"`
	Event          string          `json:"event_id"`
	Reading        string          `json:"reading_id"`
	Tenant         string          `json:"tenant_id"`
	Device         string          `json:"device_id"`
	Node           string          `json:"node_id"`
	Decoder        string          `json:"decoder_id"`
	DecoderVersion string          `json:"decoder_version_id"`
	At             time.Time       `json:"at"`
	Session        string          `json:"session,omitempty"`
	FCnt           *uint64         `json:"f_cnt,omitempty"`
	Data           json.RawMessage `json:"data"`
	Warnings       []string        `json:"warnings,omitempty"`
}

// OutKey is what readings that go out are ordered by: their tenant and device.
func (r Reading) OutKey(of ident.Tenant) string { return of.String() + "/" + r.Device.String() }

// MarshalOut writes a reading for its tenant's topic of decoded events.
func (r Reading) MarshalOut(of ident.Tenant) ([]byte, error) {
	d := decoded{
		Version: DecodedVersion, Event: r.Uplink.String(), Reading: r.ID.String(), Tenant: of.String(), Device: r.Device.String(), Node: r.Node.String(),
		Decoder: r.Decoder.String(), DecoderVersion: r.Version.String(), At: r.At.UTC(), Session: r.Session, Data: r.Data, Warnings: r.Warnings,
	}
	if r.HasFCnt {
		d.FCnt = &r.FCnt
	}
	if len(d.Data) == 0 {
		d.Data = json.RawMessage("null")
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode", "A reading could not be written for the bus.")
	}
	return b, nil
}
