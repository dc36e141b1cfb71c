package device

import (
	"strings"
	"unicode/utf8"

	"github.com/ringfence/ringfence/core/fault"
)

// AddressKind is a kind of name by which a network knows a device.
type AddressKind string

// The kinds of addresses.
const (
	DevEUI AddressKind = "dev_eui" // LoRaWAN: 16 hexadecimal digits
	Serial AddressKind = "serial"  // any other text, compared exactly
)

// Address is one of a device's names on its network, in its one spelling.
type Address struct {
	Kind  AddressKind
	Value string
}

// MaxAddress bounds a serial address, in bytes.
const MaxAddress = 64

// ParseAddress reads an address and brings it to its one spelling: a DevEUI may be written in any case and with colons or
// hyphens, and is kept as 16 lower-case digits.
func ParseAddress(kind AddressKind, value string) (Address, error) {
	switch kind {
	case DevEUI:
		if len(value) > 23 { // digits and seven separators
			return Address{}, badAddress()
		}
		var digits [16]byte
		n := 0
		for i := range len(value) {
			c := value[i]
			switch {
			case c == ':' || c == '-':
				continue
			case c >= 'A' && c <= 'F':
				c += 'a' - 'A'
			case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
			default:
				return Address{}, badAddress()
			}
			if n == len(digits) {
				return Address{}, badAddress()
			}
			digits[n] = c
			n++
		}
		if n != len(digits) {
			return Address{}, badAddress()
		}
		if string(digits[:]) == value {
			return Address{DevEUI, value}, nil // as it is in all that we wrote
		}
		return Address{DevEUI, string(digits[:])}, nil
	case Serial:
		if value == "" || len(value) > MaxAddress || !utf8.ValidString(value) || strings.IndexFunc(value, func(r rune) bool { return r <= 0x20 || r == 0x7f }) >= 0 {
			return Address{}, badAddress()
		}
		return Address{Serial, value}, nil
	}
	return Address{}, fault.New(fault.Invalid, "bad_address", "An address's kind is dev_eui or serial.").WithField("/addresses", "unknown kind")
}

func badAddress() error {
	return fault.New(fault.Invalid, "bad_address", "A dev_eui has 16 hexadecimal digits; a serial 1 to %d bytes without spaces or control characters.", MaxAddress).
		WithField("/addresses", "not an address of its kind")
}
