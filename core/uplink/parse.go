package uplink

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/strictjson"
)

// ErrIgnored is the answer to a network server's message that is well-formed and is no uplink: it is counted, and nothing
// more.
var ErrIgnored = errors.New("uplink: not an uplink")

// Parse reads a message of a source's format. event is what ChirpStack says of its kind beside the body.
func Parse(format string, body []byte, event string) (Message, error) {
	if len(body) > MaxBody {
		return Message{}, fault.New(fault.Invalid, "too_large", "A message may have %d bytes.", MaxBody)
	}
	var m Message
	var err error
	switch format {
	case "chirpstack":
		m, err = parseChirpStack(body, event)
	case "tts":
		m, err = parseTTS(body)
	case "plain":
		m, err = parsePlain(body)
	default:
		err = fault.New(fault.Invalid, "unknown_format", "A source's format is chirpstack, tts or plain.")
	}
	if err != nil { // whoever reads stops at the first thing that is wrong: that the rest can be read at all is asked first
		if form := strictjson.Check(body); form != nil {
			err = form
		}
		err = unreadable(err)
	}
	return m, err
}

// unreadable is the fault of a body that breaks a rule of reading; the rule is told, the body is not.
func unreadable(err error) error {
	if fault.As(err) != nil || errors.Is(err, ErrIgnored) {
		return err
	}
	if errors.Is(err, strictjson.ErrType) || errors.Is(err, strictjson.ErrMembers) {
		return fault.Wrap(err, fault.Invalid, "bad_message", "The message cannot be used: %s.", err)
	}
	return fault.Wrap(err, fault.Invalid, "unreadable", "The message cannot be read: %s.", err)
}

func missing(pointer string) error {
	return fault.New(fault.Invalid, "bad_message", "The message lacks a field that an uplink must have, or has it in another form.").WithField(pointer, "missing or malformed")
}

// typed says where a value of a wrong type stands.
func typed(pointer string, err error) error {
	if errors.Is(err, strictjson.ErrType) {
		return missing(pointer)
	}
	return err
}

// text reads a bounded string; null is empty.
func text(r *strictjson.Reader, pointer string, into *string) error {
	if r.IsNull() {
		return nil
	}
	b, err := r.Text()
	if err != nil {
		return typed(pointer, err)
	}
	if len(b) > MaxText {
		return fault.New(fault.Invalid, "bad_message", "A text of the message is longer than %d bytes.", MaxText).WithField(pointer, "too long")
	}
	*into = string(b)
	return nil
}

func payload(r *strictjson.Reader, pointer string, into *[]byte) error {
	if r.IsNull() {
		return nil
	}
	b, err := r.Text()
	if err != nil {
		return typed(pointer, err)
	}
	if bytes.ContainsAny(b, "\r\n") { // Go's decoder skips them, strict or not
		return missing(pointer)
	}
	if len(b) > base64.StdEncoding.EncodedLen(MaxPayload) {
		return tooLarge(pointer)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	if err != nil {
		return missing(pointer)
	}
	if n > MaxPayload {
		return tooLarge(pointer)
	}
	*into = out[:n]
	return nil
}

func tooLarge(pointer string) error {
	return fault.New(fault.Invalid, "payload_too_large", "A device's payload has at most %d bytes.", MaxPayload).WithField(pointer, "too large")
}

func moment(r *strictjson.Reader, pointer string, into *time.Time) error {
	if r.IsNull() {
		return nil
	}
	b, err := r.Text()
	if err != nil || len(b) == 0 {
		return typed(pointer, err)
	}
	if len(b) > MaxText {
		return missing(pointer)
	}
	var t time.Time
	if t.UnmarshalText(b) != nil { // which takes a little less than Parse, and no memory
		if t, err = time.Parse(time.RFC3339Nano, string(b)); err != nil {
			return missing(pointer)
		}
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 { // an offset leads out of the years that can be written again
		return missing(pointer)
	}
	*into = t
	return nil
}

func port(r *strictjson.Reader, pointer string, into *int) error {
	if r.IsNull() {
		return nil
	}
	n, err := r.Uint(255)
	*into = int(n) //nolint:gosec // at most 255
	return typed(pointer, err)
}

func counter(r *strictjson.Reader, pointer string, m *Message) error {
	if r.IsNull() {
		return nil
	}
	n, err := r.Uint(1<<32 - 1)
	m.FCnt = n
	return typed(pointer, err)
}

func (m *Message) address(kind device.AddressKind, value, pointer string) error {
	a, err := device.ParseAddress(kind, value)
	if err != nil {
		return missing(pointer)
	}
	m.Address = a
	return nil
}

// parseChirpStack reads an event of ChirpStack v4's JSON. Its up events are uplinks; its others (join, ack, txack, status,
// log, location, integration) are ignored. Unknown fields are ignored too: they grow with each release. Where nobody said
// which event it is, one that has no field of an up event alone is none.
func parseChirpStack(body []byte, event string) (Message, error) {
	if event != "" && event != "up" {
		return Message{}, ErrIgnored // if it can be read
	}
	var m Message
	var devEUI string
	isUp := event == "up"
	r := strictjson.New(body)
	err := r.Object(func(key []byte) error {
		switch string(key) {
		case "fCnt", "fPort", "data", "dr", "rxInfo":
			isUp = true
		}
		switch string(key) {
		case "deduplicationId":
			return text(r, "/deduplicationId", &m.DedupeID)
		case "time":
			return moment(r, "/time", &m.NetworkTime)
		case "deviceInfo":
			return typed("/deviceInfo", r.Object(func(key []byte) error {
				switch string(key) {
				case "devEui":
					return text(r, "/deviceInfo/devEui", &devEUI)
				case "applicationId":
					return text(r, "/deviceInfo/applicationId", &m.Application)
				}
				return r.Skip()
			}))
		case "devAddr":
			return text(r, "/devAddr", &m.Session)
		case "fCnt":
			return counter(r, "/fCnt", &m)
		case "fPort":
			return port(r, "/fPort", &m.FPort)
		case "data":
			return payload(r, "/data", &m.Payload)
		}
		return r.Skip()
	})
	if err == nil {
		err = r.End()
	}
	if err == nil {
		err = m.address(device.DevEUI, devEUI, "/deviceInfo/devEui")
	}
	if err == nil && !isUp {
		err = ErrIgnored
	}
	if err != nil {
		return Message{}, err
	}
	m.HasFCnt = true // protobuf's JSON leaves zero values out: the first frame's has none
	return m, nil
}

// parseTTS reads The Things Stack's v3 webhook JSON. A message without uplink_message (join accepts, service data and the
// like) is ignored.
func parseTTS(body []byte) (Message, error) {
	var m Message
	var devEUI, deviceID, devAddr string
	isUplink := false
	var settled time.Time // by the application server
	r := strictjson.New(body)
	err := r.Object(func(key []byte) error {
		switch string(key) {
		case "end_device_ids":
			return typed("/end_device_ids", r.Object(func(key []byte) error {
				switch string(key) {
				case "dev_eui":
					return text(r, "/end_device_ids/dev_eui", &devEUI)
				case "device_id":
					return text(r, "/end_device_ids/device_id", &deviceID)
				case "dev_addr":
					return text(r, "/end_device_ids/dev_addr", &devAddr)
				case "application_ids":
					return typed("/end_device_ids/application_ids", r.Object(func(key []byte) error {
						if string(key) == "application_id" {
							return text(r, "/end_device_ids/application_ids/application_id", &m.Application)
						}
						return r.Skip()
					}))
				}
				return r.Skip()
			}))
		case "received_at":
			return moment(r, "/received_at", &settled)
		case "uplink_message":
			isUplink = true
			return typed("/uplink_message", r.Object(func(key []byte) error {
				switch string(key) {
				case "session_key_id":
					return text(r, "/uplink_message/session_key_id", &m.Session)
				case "f_port":
					return port(r, "/uplink_message/f_port", &m.FPort)
				case "f_cnt":
					return counter(r, "/uplink_message/f_cnt", &m)
				case "frm_payload":
					return payload(r, "/uplink_message/frm_payload", &m.Payload)
				case "received_at":
					return moment(r, "/uplink_message/received_at", &m.NetworkTime)
				}
				return r.Skip()
			}))
		}
		return r.Skip()
	})
	if err == nil {
		err = r.End()
	}
	if err == nil && !isUplink {
		err = ErrIgnored
	}
	if err == nil && devEUI != "" {
		err = m.address(device.DevEUI, devEUI, "/end_device_ids/dev_eui")
	} else if err == nil {
		err = m.address(device.Serial, deviceID, "/end_device_ids/device_id")
	}
	if err != nil {
		return Message{}, err
	}
	if m.Session == "" {
		m.Session = devAddr
	}
	if m.NetworkTime.IsZero() {
		m.NetworkTime = settled
	}
	m.HasFCnt = true // as with ChirpStack, zero is left out
	return m, nil
}

// parsePlain reads our own form, in which unknown fields are refused:
//
//	{"device": "0011223344556677", "address_kind": "dev_eui", "f_port": 1, "payload": "AQI=", "time": "2026-…Z", "id": "a1"}
//
// device and one of payload (base64) and payload_hex are needed. address_kind is dev_eui, unless serial is said. A repeated
// id is a duplicate; without an id nothing is.
func parsePlain(body []byte) (Message, error) {
	var m Message
	kind, address := string(device.DevEUI), ""
	payloads, unknown := 0, false
	r := strictjson.New(body)
	err := r.Object(func(key []byte) error {
		switch string(key) {
		case "id":
			return text(r, "/id", &m.DedupeID)
		case "device":
			return text(r, "/device", &address)
		case "address_kind":
			return text(r, "/address_kind", &kind)
		case "application":
			return text(r, "/application", &m.Application)
		case "f_port":
			return port(r, "/f_port", &m.FPort)
		case "time":
			return moment(r, "/time", &m.NetworkTime)
		case "payload":
			payloads++
			return payload(r, "/payload", &m.Payload)
		case "payload_hex":
			payloads++
			digits, err := r.Text()
			if err != nil {
				return typed("/payload_hex", err)
			}
			if len(digits) > 2*MaxPayload {
				return tooLarge("/payload_hex")
			}
			if m.Payload, err = hex.DecodeString(string(digits)); err != nil {
				return missing("/payload_hex")
			}
			return nil
		}
		unknown = true
		return r.Skip()
	})
	if err == nil {
		err = r.End()
	}
	if err == nil && unknown {
		err = fault.New(fault.Invalid, "unknown_field", "The message has a field that this form does not know. It knows id, device, address_kind, application, f_port, time, payload and payload_hex.")
	}
	if err == nil && (payloads != 1 || m.Payload == nil) {
		err = missing("/payload")
	}
	if err == nil && kind != string(device.DevEUI) && kind != string(device.Serial) {
		err = missing("/address_kind")
	}
	if err == nil {
		err = m.address(device.AddressKind(kind), address, "/device")
		if err != nil && address != "" && kind == string(device.DevEUI) {
			err = fault.New(fault.Invalid, "bad_message", "The device is no dev_eui, which has 16 hexadecimal digits. One that has a serial is named with address_kind: serial.").WithField("/device", "no dev_eui; say address_kind: serial for a serial")
		}
	}
	if err != nil {
		return Message{}, err
	}
	return m, nil
}
