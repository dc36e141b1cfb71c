package source

import (
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/uplink"
)

func TestAMappingNamesWhatATopicAndAConfigurationCan(t *testing.T) {
	for _, c := range []struct {
		connection, application string
		ok                      bool
	}{
		{"chirpstack-eu", "52f14cd4-c6f1-4fbd-8f87-4025e1d49242", true},
		{"a", "ü 1.", true},
		{strings.Repeat("a", MaxConnection), strings.Repeat("a", uplink.MaxText), true},
		{"", "1", false}, {"-a", "1", false}, {"a-", "1", false}, {"Eu", "1", false}, {"e/u", "1", false}, {"e_u", "1", false}, {"ü", "1", false}, {strings.Repeat("a", MaxConnection+1), "1", false},
		{"eu", "", false}, {"eu", "a/b", false}, {"eu", "+", false}, {"eu", "a#", false}, {"eu", "a\x00", false}, {"eu", "a\n", false}, {"eu", "a\u0085", false}, {"eu", "\xff", false}, {"eu", strings.Repeat("a", uplink.MaxText+1), false},
	} {
		m := Mapping{Connection: c.connection, Application: c.application}
		if err := m.Check(); (err == nil) != c.ok {
			t.Errorf("%q, %q: %v", c.connection, c.application, err)
		}
	}
}
