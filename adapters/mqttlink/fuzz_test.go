package mqttlink_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/mqttlink"
)

// Whatever a broker sends, paho is handed whole packets of a bounded length, and neither it nor we panic.
func FuzzPackets(f *testing.F) {
	f.Add(slices.Concat(accepted, message(1, "up/a", "x"), packet(0x90, id(1), []byte{0, 1})))
	f.Add(packet(0x32, text("up/a"), id(7), properties(3_000), []byte("pp")))
	f.Add(packet(0x20, []byte{1, 0}, []byte{4, 21, 0, 1, 'x'}))
	f.Add(packet(0xe0, []byte{0x8e, 0}))
	f.Add(message(1, "up/a", strings.Repeat("p", 600<<10))[:1_000])
	f.Add(message(7, "", ""))
	f.Add([]byte{0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a', 0, 1, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, sent []byte) {
		n, longest := mqttlink.ReadPackets(sent)
		if longest > 600<<10 || n > len(sent)/2 {
			t.Fatalf("%d packets, the longest of %d bytes, out of %d", n, longest, len(sent))
		}
		// What comes before does not change what follows it.
		if again, _ := mqttlink.ReadPackets(slices.Concat(accepted, sent)); again != n+1 {
			t.Fatalf("%d packets behind another, %d alone", again-1, n)
		}
	})
}
