package uplink

import "testing"

// What an event costs on its way over a bus: written once by whoever accepts it, read once by who finishes it.
func BenchmarkEvent(b *testing.B) {
	e := anEvent()
	e.Message.Payload = make([]byte, 25)
	value, err := e.MarshalVersion(Version)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.MarshalVersion(Version); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseEvent(value); err != nil {
				b.Fatal(err)
			}
		}
	})
}
