package archtest_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/bus"
)

// The README's tables of Kafka's topics and of what stands beside a record's value are what `ringfence kafka topics --apply` makes
// and what our processes write: names, keys, settings and rights come from there.
func TestTheREADMEListsEachTopicAndHeader(t *testing.T) {
	listed(t, "topics", topicTable(t)+"\n"+headerTable(t))
}

var someTenant, someDevice = ident.Tenant{1}, ident.Device{2}

// placed has names in braces where ids stood.
func placed(s string) string {
	return strings.NewReplacer(someTenant.String(), "{tenant}", someDevice.String(), "{device}").Replace(s)
}

func topicTable(t *testing.T) string {
	names := bus.TopicsUnder("rf")
	l := kafkabus.Layout{Prefix: "rf", Users: map[kafkabus.Who]string{}, Tenants: []ident.Tenant{someTenant}, Consumers: map[ident.Tenant]string{someTenant: "the tenant's consumer"}}
	for who := range kafkabus.Table() {
		if who != kafkabus.Consumer {
			l.Users[who] = "`" + string(who) + "`"
		}
	}
	event := uplink.Event{Tenant: someTenant, Message: uplink.Message{Address: device.Address{Kind: "{kind}", Value: "{address}"}}}
	holds := map[string][2]string{ // what it holds, its key
		names.Uplinks:         {"accepted events (`core/uplink/testdata/event-v1-full.json`)", "`" + event.Key() + "`"},
		names.Later:           {"events that came faster than their tenant may send; same form", "`{tenant}`"},
		names.Dead:            {fmt.Sprintf("what could not be used, as it came; of more than %d KiB the first %d KiB", uplink.MaxLetter>>10, uplink.CutLetter>>10), "as `rf-via`"},
		names.Expected:        {"each topic's id and partitions, which workers compare", "the topic's name"},
		names.Out(someTenant): {"a tenant's decoded events (`core/uplink/testdata/decoded-v1-full.json`)", "`" + uplink.Reading{Device: someDevice}.OutKey(someTenant) + "`"},
	}
	topics, rights := l.Topics(), l.Rights()
	common := maps.Clone(topics[0].Settings)
	for _, topic := range topics {
		maps.DeleteFunc(common, func(name, value string) bool { return topic.Settings[name] != value })
	}
	var b strings.Builder
	b.WriteString("| topic | what it holds | key | may write | may read | settings |\n|---|---|---|---|---|---|\n")
	fmt.Fprintf(&b, "| each | | | nobody else | nobody else | %s |\n", settings(common, nil))
	for _, topic := range topics {
		what, ok := holds[topic.Name]
		if !ok {
			t.Errorf("nothing is said of %s", topic.Name)
		}
		may := map[string][]string{}
		rights = slices.DeleteFunc(rights, func(r kafkabus.Right) bool {
			of := !r.Group && (r.Name == topic.Name || r.Prefix && strings.HasPrefix(topic.Name, r.Name))
			if of {
				may[r.Operation.String()] = append(may[r.Operation.String()], r.User)
			}
			return of
		})
		writes, reads := may["Write"], may["Read"]
		if len(may) > 2 || len(may["Describe"]) > 0 {
			t.Errorf("the table has no place for what may be done with %s: %v", topic.Name, may)
		}
		if len(writes) == 0 {
			writes = []string{"the administrator of `--apply`"}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | partitions: %d, replicas: %d, %s |\n", topic.Name, what[0], what[1],
			strings.Join(writes, ", "), strings.Join(reads, ", "), topic.Partitions, topic.Replicas, settings(topic.Settings, common))
	}
	groups := map[string][2][]string{} // who describes, who reads
	for _, r := range rights {
		of := groups[r.Name]
		switch {
		case r.Group && r.Prefix && r.Operation.String() == "Describe":
			of[0] = append(of[0], r.User+" (describe)")
		case r.Group && r.Prefix && r.Operation.String() == "Read":
			of[1] = append(of[1], r.User)
		default:
			t.Errorf("the table has no place for: %s", r)
		}
		groups[r.Name] = of
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(&b, "| groups `%s*` | how far was read | | | %s | |\n", name, strings.Join(slices.Concat(groups[name][1], groups[name][0]), ", "))
	}
	return placed(b.String())
}

// settings are those of a topic that are not those of all.
func settings(all, common map[string]string) string {
	var said []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if _, ok := common[name]; ok {
			continue
		}
		text := "`" + name + "=" + all[name] + "`"
		if ms, err := strconv.ParseInt(all[name], 10, 64); err == nil && strings.HasSuffix(name, ".ms") {
			text += fmt.Sprintf(" (%d days)", ms/(24*time.Hour).Milliseconds())
		}
		said = append(said, text)
	}
	return strings.Join(said, ", ")
}

func headerTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| header | of | what it says |\n|---|---|---|\n")
	row := func(of, what string, names ...string) {
		if len(names) == 0 {
			t.Errorf("no header of %s: %s", of, what)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.Join(names, "`, `"), of, what)
	}
	row("events", "The event's id", bus.EventHeader)
	row("events", fmt.Sprintf("The version of the value's form: %d, of decoded events %d", uplink.Version, uplink.DecodedVersion), bus.VersionHeader)
	row("events", "Whose it is, `ten_…`. Where header, key and value of an event that came in do not agree, it becomes a dead letter", bus.TenantHeader)
	row("events that came in, dead letters", "Where it stands in its trace, if in one (W3C)", bus.TraceHeader)

	// A letter says more, the more is known; what it says in any case comes first.
	said := map[string]bool{}
	more := func(l uplink.Letter) (names []string) {
		for _, f := range l.Fields() {
			if !said[f.Name] {
				names = append(names, f.Name)
			}
			said[f.Name] = true
		}
		return names
	}
	row("dead letters", "Why, a stable word; by which connection or topic; from which MQTT topic, partition and offset, or event; how many bytes the value had, and its SHA-256 (base64), before it was cut; when", more(uplink.Letter{})...)
	row("dead letters", "Whose it is, as far as known", more(uplink.Letter{Tenant: someTenant, Source: ident.Source{3}})...)
	row("dead letters from MQTT", "The connection's format and `tenant_from`; what the topic told", more(uplink.Letter{Format: "x", Owner: "x", Told: uplink.Told{Application: "x", Device: "x", Event: "x", Tenant: "x", Source: "x"}})...)
	row("dead letters from Kafka", "The record's key, and two of its headers", more(uplink.Letter{Said: uplink.Said{Key: "x", Event: "x", Tenant: "x"}})...)
	return b.String()
}
