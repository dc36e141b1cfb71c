package kafkabus

import (
	"cmp"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/bus"
)

// Who is who asks of Kafka.
type Who string

// Our binaries, and a tenant's own consumer.
const (
	PlatformAPI Who = "platform-api"
	MQTTWorker  Who = "mqtt-ingestion-worker"
	EventWorker Who = "event-worker"
	Consumer    Who = "consumer"
)

// What is a kind of thing that rights are on.
type What string

// The topics by their kind, and groups. OwnOut and OwnGroups are those of a consumer's tenant, Out those of all.
const (
	Uplinks   What = "uplinks"
	Later     What = "uplinks.later"
	Dead      What = "uplinks.dead"
	Expected  What = "expected"
	Out       What = "out.*"
	OwnOut    What = "out.{tenant}"
	Process   What = "group process"
	OwnGroups What = "groups {tenant}.*"
)

// Table is who may do what with what, and the only place that says so: whatever is not here is refused by the broker. Read and
// write go with describe.
func Table() map[Who]map[What][]kafka.ACLOperationType {
	read, write, describe := []kafka.ACLOperationType{kafka.ACLOperationTypeRead}, []kafka.ACLOperationType{kafka.ACLOperationTypeWrite}, []kafka.ACLOperationType{kafka.ACLOperationTypeDescribe}
	return map[Who]map[What][]kafka.ACLOperationType{
		PlatformAPI: {Uplinks: write, Dead: read},                                   // accepts events, shows dead letters, sends them again
		MQTTWorker:  {Uplinks: write, Later: write, Dead: write, Process: describe}, // and asks how far what it put off is read
		EventWorker: {Uplinks: read, Later: read, Expected: read, Process: read, Dead: write, Out: write},
		Consumer:    {OwnOut: read, OwnGroups: read},
	}
}

// Group is the one that event workers read in, LaterGroup the one in which they read what was put off.
func Group(prefix string) string { return prefix + ".process" }

// LaterGroup is apart from Group, so that a rebalance of the one stops nothing in the other.
func LaterGroup(prefix string) string { return Group(prefix) + ".later" }

// ExpectedTopic is the one where Apply keeps what topics are to be (Options.Expected).
func ExpectedTopic(prefix string) string { return prefix + ".expected" }

// GroupsOf is what the names of a tenant's own groups begin with.
func GroupsOf(prefix string, tenant ident.Tenant) string { return prefix + "." + tenant.String() + "." }

// Right is one line of Kafka's access control.
type Right struct {
	User      string // as it signs in
	Group     bool   // on a group, else on a topic, unless Other
	Other     string // on something else, such as "Cluster", which ours never are
	Name      string
	Prefix    bool // on all whose names begin so
	Operation kafka.ACLOperationType
	Denies    bool // which ours never do
	Host      string
}

// String is the line in words, for a plan.
func (r Right) String() string {
	kind, star, verb := "topic", "", "may"
	switch {
	case r.Other != "":
		kind = strings.ToLower(r.Other)
	case r.Group:
		kind = "group"
	}
	if r.Prefix {
		star = "*"
	}
	if r.Denies {
		verb = "may not"
	}
	said := r.User + " " + verb + " " + strings.ToLower(r.Operation.String()) + " " + kind + " " + r.Name + star
	if r.Host != "*" {
		said += " from " + r.Host
	}
	return said
}

// Rights are those of the table, for the users of a layout. Who has no user has none.
func (l Layout) Rights() []Right {
	names := bus.TopicsUnder(l.Prefix)
	var all []Right
	add := func(user string, what What, tenant ident.Tenant, operations []kafka.ACLOperationType) {
		for _, operation := range operations {
			r := Right{User: user, Operation: operation, Host: "*"}
			switch what {
			case Uplinks:
				r.Name = names.Uplinks
			case Later:
				r.Name = names.Later
			case Dead:
				r.Name = names.Dead
			case Expected:
				r.Name = ExpectedTopic(l.Prefix)
			case Out:
				r.Name, r.Prefix = l.Prefix+".out.", true
			case OwnOut:
				r.Name = names.Out(tenant)
			case Process:
				r.Name, r.Group, r.Prefix = Group(l.Prefix), true, true
			case OwnGroups:
				r.Name, r.Group, r.Prefix = GroupsOf(l.Prefix, tenant), true, true
			}
			all = append(all, r)
		}
	}
	table := Table()
	for who, user := range l.Users {
		if user != "" && who != Consumer {
			for what, operations := range table[who] {
				add(user, what, ident.Tenant{}, operations)
			}
		}
	}
	for tenant, user := range l.Consumers {
		for what, operations := range table[Consumer] {
			add(user, what, tenant, operations)
		}
	}
	slices.SortFunc(all, func(a, b Right) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all)
}

// entry is the right as kafka-go sends it.
func (r Right) entry() kafka.ACLEntry {
	e := kafka.ACLEntry{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: r.Name, ResourcePatternType: kafka.PatternTypeLiteral, Principal: "User:" + r.User,
		Host: r.Host, Operation: r.Operation, PermissionType: kafka.ACLPermissionTypeAllow,
	}
	switch r.Other {
	case "":
	case "Cluster":
		e.ResourceType = kafka.ResourceTypeCluster
	default:
		e.ResourceType = kafka.ResourceTypeTransactionalID
	}
	if r.Group {
		e.ResourceType = kafka.ResourceTypeGroup
	}
	if r.Prefix {
		e.ResourcePatternType = kafka.PatternTypePrefixed
	}
	if r.Denies {
		e.PermissionType = kafka.ACLPermissionTypeDeny
	}
	return e
}

// rightsIn reads what a broker has.
func rightsIn(resources []kafka.ACLResource) (all []Right) {
	for _, at := range resources {
		for _, acl := range at.ACLs {
			r := Right{
				User: strings.TrimPrefix(acl.Principal, "User:"), Group: at.ResourceType == kafka.ResourceTypeGroup, Name: at.ResourceName,
				Prefix: at.PatternType == kafka.PatternTypePrefixed, Operation: acl.Operation, Denies: acl.PermissionType == kafka.ACLPermissionTypeDeny, Host: acl.Host,
			}
			if at.ResourceType != kafka.ResourceTypeGroup && at.ResourceType != kafka.ResourceTypeTopic {
				r.Other = at.ResourceType.String()
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Right) int { return cmp.Compare(a.String(), b.String()) })
	return all
}

// unnamed reports whether a right is one that the table gives, to a tenant's consumer or to a binary for which nobody is named, and
// is held by a user whom the layout does not name: it was given earlier, and whoever forgot to name them again wants no outage.
func (l Layout) unnamed(r Right) bool {
	earlier := Layout{Prefix: l.Prefix, Users: map[Who]string{}, Consumers: map[ident.Tenant]string{}}
	for who := range Table() {
		if l.Users[who] == r.User {
			return false
		}
		if l.Users[who] == "" {
			earlier.Users[who] = r.User
		}
	}
	for _, user := range l.Consumers {
		if user == r.User {
			return false
		}
	}
	name := strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(r.Name, l.Prefix+"."), "."), "out.")
	if t, err := ident.ParseTenant(name); err == nil && l.Consumers[t] == "" { // else somebody took its place
		earlier.Consumers[t] = r.User
	}
	return slices.Contains(earlier.Rights(), r)
}

// concerns reports whether a right is any business of a layout: it is of one of its users, or on what is its own.
func (l Layout) concerns(r Right) bool {
	for _, user := range l.Users {
		if r.User == user {
			return true
		}
	}
	for _, user := range l.Consumers {
		if r.User == user {
			return true
		}
	}
	if r.Other != "" {
		return false
	}
	ours := l.Prefix + "."
	return r.Name == "*" || strings.HasPrefix(r.Name, ours) || r.Prefix && strings.HasPrefix(ours, r.Name)
}
