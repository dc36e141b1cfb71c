package access_test

import (
	"testing"

	"github.com/ringfence/ringfence/core/access"
)

func TestATraceIsReadAsItIsWritten(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	said := access.Traceparent(id, [16]byte{8: 0xa3, 15: 1})
	if said != "00-"+id+"-a300000000000001-00" || access.ParseTrace(said) != id {
		t.Errorf("%s is read as %q", said, access.ParseTrace(said))
	}
	for _, none := range []string{"", id, "01" + said[2:], said + "0", said[:54], "00-" + id + "-0000000000000000-00", "00-00000000000000000000000000000000-a300000000000001-00", "00-4BF92F3577b34da6a3ce929d0e0e4736-a300000000000001-00", "00-" + id + "-a30000000000000g-00"} {
		if got := access.ParseTrace(none); got != "" {
			t.Errorf("%q is trace %q", none, got)
		}
	}
}
