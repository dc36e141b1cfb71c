package mqttlink_test

import (
	"encoding/binary"
	"io"
	"testing"
)

// traced is a message with user properties.
func traced(n uint16, said ...[2]string) []byte {
	var all []byte
	for _, one := range said {
		all = append(append(append(all, 38), text(one[0])...), text(one[1])...)
	}
	return packet(0x32, text("up/a"), id(n), append(binary.AppendUvarint(nil, uint64(len(all))), all...), []byte("x"))
}

func TestAMessageStandsInTheTraceThatItsPublisherNamesOnce(t *testing.T) {
	const at, other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01"
	sent, want := [][]byte{
		traced(1, [2]string{"traceparent", at}), traced(2, [2]string{"tracestate", "a=b"}, [2]string{"traceparent", at}, [2]string{"k", other}), traced(3, [2]string{"traceparent", at}, [2]string{"traceparent", other}),
		traced(4, [2]string{"Traceparent", at}), traced(5, [2]string{"traceparent", at + "x"}), traced(6, [2]string{"traceparent", ""}), message(7, "up/a", "x"),
	}, []string{at, at, "", "", "", "", ""}
	s := newSink()
	r := speaks(t, accepted, func(_ int, w io.Writer) {
		for _, m := range sent {
			_, _ = w.Write(m)
		}
	})
	open(t, options(s), r.connection())
	eventually(t, "all come", func() bool { return s.all() == len(sent) })
	for i, m := range s.messages() {
		if m.Trace.String() != want[i] || m.Fault != nil {
			t.Errorf("%d: %q, want %q", i+1, m.Trace, want[i])
		}
	}
}
