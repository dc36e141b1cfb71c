package kafkabus

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/bus"
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

// What a layout leaves open stays as it is at each topic, unless that could lose records: whoever gives a tenant a topic neither forgets
// nor stops anybody's events.
func TestWhatIsNotAskedForStaysUnlessItCouldLoseRecords(t *testing.T) {
	names := bus.TopicsUnder("rf")
	open := Layout{Tenants: []ident.Tenant{{1}}}
	for _, c := range []struct {
		what     string
		l        Layout
		topic    string
		replicas int
		settings map[string]string // otherwise than the layout of a new Kafka with as many replicas has them
		want     []string          // steps but of topics that are made
	}{
		{"as a new Kafka has it", open, names.Uplinks, 3, nil, nil},
		{"all in sync", open, names.Uplinks, 3, map[string]string{inSync: "3"}, nil},
		{"one in sync of three", open, names.Uplinks, 3, map[string]string{inSync: "1"}, []string{"set rf.uplinks min.insync.replicas: 1 → 2"}},
		{"more in sync than there are", open, names.Later, 1, map[string]string{inSync: "2"}, []string{"set rf.uplinks.later min.insync.replicas: 2 → 1"}},
		{"for longer", open, names.Later, 3, map[string]string{retention: "1209600000"}, nil},
		{"for ever", open, names.Uplinks, 3, map[string]string{retention: "-1"}, nil},
		{"for ever, in numbers", open, names.Uplinks, 3, map[string]string{retention: "9999999999999"}, nil},
		{"for too short", open, names.Uplinks, 3, map[string]string{retention: "432000000"}, []string{"set rf.uplinks retention.ms: 432000000 → 604800000"}},
		{"letters for longer", open, names.Dead, 3, map[string]string{retention: "3456000000"}, nil},
		{"letters for too short", open, names.Dead, 3, map[string]string{retention: "604800000"}, []string{"set rf.uplinks.dead retention.ms: 604800000 → 2592000000"}},
		{"for longer, and asked", Layout{Retention: 7 * 24 * time.Hour}, names.Uplinks, 3, map[string]string{retention: "1209600000"}, []string{"set rf.uplinks retention.ms: 1209600000 → 604800000"}},
		{"partitions that are asked for", Layout{Partitions: 12}, names.Uplinks, 3, nil, []string{"add partitions rf.uplinks: 5 → 12"}},
		{"in sync that is asked for", Layout{InSync: 3}, names.Uplinks, 3, nil, []string{"set rf.uplinks min.insync.replicas: 2 → 3"}},
		{"by size too", open, names.Uplinks, 3, map[string]string{"retention.bytes": "1"}, []string{"set rf.uplinks retention.bytes: 1 → -1"}},
	} {
		there, err := Layout{Replicas: c.replicas}.filled()
		if err != nil {
			t.Fatal(err)
		}
		seen, settings, expected := map[string]described{}, map[string]map[string]string{}, map[string]expectation{}
		for _, made := range there.Topics() {
			if made.Name != c.topic && made.Name != ExpectedTopic("rf") {
				continue
			}
			settings[made.Name] = made.Settings
			seen[made.Name] = described{id: "x", partitions: 5, replicas: c.replicas}
			if made.Name == ExpectedTopic("rf") {
				seen[made.Name] = described{id: "x", partitions: 1, replicas: c.replicas}
			}
			expected[made.Name] = expectation{"x", 5}
		}
		for name, is := range c.settings {
			settings[c.topic][name] = is
		}
		p, full, err := c.l.against(seen, settings, expected)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		var steps []string
		for _, s := range p.Steps {
			if s.Do != Make && !strings.Contains(s.Name, ExpectedTopic("rf")) {
				steps = append(steps, s.String())
			} else if s.Do == Make && c.topic == names.Uplinks && s.topic.Replicas != c.replicas {
				t.Errorf("%s: %s with %d replicas", c.what, s, s.topic.Replicas)
			}
		}
		if !slices.Equal(steps, c.want) || full.Replicas == 0 {
			t.Errorf("%s: %q, want %q", c.what, steps, c.want)
		}
	}
	_, _, err := Layout{InSync: 2, Replicas: 3}.against(map[string]described{names.Uplinks: {id: "x", partitions: 1, replicas: 1}}, nil, nil)
	if f := fault.As(err); f == nil || f.Code != "kafka_settings" || !strings.Contains(f.Message, "rf.uplinks has 1 replicas") {
		t.Errorf("two in sync of one: %v", err)
	}
}
