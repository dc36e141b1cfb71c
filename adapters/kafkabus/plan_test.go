package kafkabus

import (
	"testing"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// To Kafka a user of the name * is each of its users: what were given to it would be every tenant's consumer's.
func TestNoRightIsGivenToEverybodyNorToTwoOfOurs(t *testing.T) {
	a, b := ident.Tenant{1}, ident.Tenant{2}
	for _, c := range []struct {
		name      string
		users     map[Who]string
		consumers map[ident.Tenant]string
		former    []string
		ok        bool
	}{
		{"each its own", map[Who]string{PlatformAPI: "api"}, map[ident.Tenant]string{a: "a", b: "b"}, []string{"c"}, true},
		{"everybody was given something once", nil, map[ident.Tenant]string{a: "a"}, []string{"*"}, true},
		{"a consumer that is everybody", nil, map[ident.Tenant]string{a: "*"}, nil, false},
		{"a binary that is everybody", map[Who]string{EventWorker: "*"}, nil, nil, false},
		{"a consumer that has not signed in", nil, map[ident.Tenant]string{a: "ANONYMOUS"}, nil, false},
		{"two tenants' consumer", nil, map[ident.Tenant]string{a: "a", b: "a"}, nil, false},
		{"a binary that is a consumer", map[Who]string{PlatformAPI: "a"}, map[ident.Tenant]string{a: "a"}, nil, false},
		{"no name", nil, map[ident.Tenant]string{a: ""}, nil, false},
		{"a former one that is one", nil, map[ident.Tenant]string{a: "a"}, []string{"a"}, false},
	} {
		_, err := Layout{Users: c.users, Consumers: c.consumers, Former: c.former}.filled()
		if f := fault.As(err); (err == nil) != c.ok || err != nil && f.Code != "kafka_users" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
