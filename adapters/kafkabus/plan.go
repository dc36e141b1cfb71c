package kafkabus

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/bus"
)

// Layout is what a deployment wants of its Kafka. What is zero stays as it is at each topic that is there, unless that could lose
// records, so that whoever adds something need not know what was asked for before; new topics have it as that of uplinks, or of dead
// letters, has it, and in a new Kafka it is as the comment says.
type Layout struct {
	Prefix        string        // of all names; "rf"
	Partitions    int           // of what comes in; 12. Never lowered; keys move when it is raised
	OutPartitions int           // of a tenant's decoded events; 3
	Replicas      int           // 3
	InSync        int           // replicas that a record must be on; 2, or 1 of one
	Retention     time.Duration // of what comes in and goes out, by time and never by size; 7 days, and never less
	DeadRetention time.Duration // of dead letters; 30 days

	Users     map[Who]string          // as whom our binaries sign in; who is not here gets no rights
	Tenants   []ident.Tenant          // whose decoded events are wanted
	Consumers map[ident.Tenant]string // as whom their own consumers sign in

	TakeAway bool     // rights that the table does not have; not what one of ours was given earlier who is not named here
	Former   []string // users who were named here once: what they have is taken away
}

const (
	defaultPrefix = "rf"

	leastRetention = 7 * 24 * time.Hour
	deadRetention  = 30 * 24 * time.Hour
	forever        = -time.Millisecond // as Kafka says it

	inSync, retention = "min.insync.replicas", "retention.ms"
)

func (l Layout) filled() (Layout, error) {
	either := func(n *int, or int) {
		if *n == 0 {
			*n = or
		}
	}
	l.Prefix = cmp.Or(l.Prefix, defaultPrefix)
	either(&l.Partitions, 12)
	either(&l.OutPartitions, 3)
	either(&l.Replicas, 3)
	either(&l.InSync, max(l.Replicas-1, 1))
	if l.Retention == 0 {
		l.Retention = leastRetention
	}
	if l.DeadRetention == 0 {
		l.DeadRetention = deadRetention
	}
	switch {
	case !bus.Named(l.Prefix), len(l.Prefix) > 100:
		return l, bus.ErrName
	case l.Retention < leastRetention && l.Retention != forever, l.DeadRetention < leastRetention && l.DeadRetention != forever:
		return l, fault.New(fault.Invalid, "kafka_retention", "Topics would forget too soon. Keep records for seven days at least.")
	case l.Partitions < 1, l.OutPartitions < 1, l.InSync > l.Replicas, l.InSync < 1:
		return l, fault.New(fault.Invalid, "kafka_settings", "Partitions must be one or more, and replicas in sync no more than there are replicas.")
	}
	users := slices.Concat(slices.Sorted(maps.Values(l.Users)), slices.Sorted(maps.Values(l.Consumers)))
	if slices.Contains(users, "*") || slices.Contains(users, "ANONYMOUS") {
		return l, fault.New(fault.Invalid, "kafka_users", "To Kafka * is everybody, other tenants' consumers among them, and ANONYMOUS whoever has not signed in. Name a user.")
	}
	users = append(users, l.Former...)
	slices.Sort(users)
	if len(slices.Compact(slices.Clone(users))) != len(users) || slices.Contains(users, "") {
		return l, fault.New(fault.Invalid, "kafka_users", "Two share one Kafka user, or one has no name, or is said to be a former one too. Give each binary and each consumer a user of its own.")
	}
	return l, nil
}

// like is a layout that leaves nothing open of new topics that those of uplinks and dead letters tell well enough.
func (l Layout) like(seen map[string]described, settings map[string]map[string]string) Layout {
	names := bus.TopicsUnder(l.Prefix)
	if d, there := seen[names.Uplinks]; there && d.err() == nil {
		l.Partitions, l.Replicas = cmp.Or(l.Partitions, d.partitions), cmp.Or(l.Replicas, d.replicas)
		if n, err := strconv.Atoi(settings[names.Uplinks][inSync]); err == nil && safe(n, l.Replicas) {
			l.InSync = cmp.Or(l.InSync, n)
		}
	}
	if keeps, ok := kept(settings[names.Uplinks][retention], leastRetention); ok {
		l.Retention = cmp.Or(l.Retention, keeps)
	}
	if keeps, ok := kept(settings[names.Dead][retention], deadRetention); ok {
		l.DeadRetention = cmp.Or(l.DeadRetention, keeps)
	}
	return l
}

// safe reports whether so many replicas in sync lose nothing and stop nobody when one is gone; or all, for whoever wants that.
func safe(n, replicas int) bool { return n >= max(replicas-1, 1) && n <= replicas }

// kept is how long a topic keeps records, if that is long enough.
func kept(ms string, least time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseInt(ms, 10, 64)
	switch {
	case err != nil:
		return 0, false
	case n < 0 || n > math.MaxInt64/int64(time.Millisecond):
		return forever, true
	}
	keeps := time.Duration(n) * time.Millisecond
	return keeps, keeps >= least
}

// left is a topic as it is to be, where one is: what the layout leaves open stays as it is there, if that is good enough.
func (l Layout) left(t Topic, d described, settings map[string]string) Topic {
	names := bus.TopicsUnder(l.Prefix)
	parts, keeps, least := l.Partitions, l.Retention, leastRetention
	switch {
	case t.Name == ExpectedTopic(l.Prefix):
		parts = t.Partitions
	case t.Name == names.Dead:
		keeps, least = l.DeadRetention, deadRetention
	case t.Name != names.Uplinks && t.Name != names.Later:
		parts = l.OutPartitions
	}
	if t.Settings = maps.Clone(t.Settings); parts == 0 {
		t.Partitions = d.partitions
	}
	if l.Replicas == 0 {
		t.Replicas = d.replicas
	}
	if n, err := strconv.Atoi(settings[inSync]); l.InSync == 0 {
		if t.Settings[inSync] = strconv.Itoa(max(d.replicas-1, 1)); err == nil && safe(n, d.replicas) {
			t.Settings[inSync] = settings[inSync]
		}
	}
	if _, enough := kept(settings[retention], least); keeps == 0 && enough && t.Settings[retention] != "" {
		t.Settings[retention] = settings[retention]
	}
	return t
}

// Topics are those of a layout.
func (l Layout) Topics() []Topic {
	l, _ = l.filled() // what cannot be is told by Plan
	names := bus.TopicsUnder(l.Prefix)
	settings := func(keep time.Duration) map[string]string {
		return map[string]string{
			"cleanup.policy": "delete", retention: strconv.FormatInt(keep.Milliseconds(), 10), "retention.bytes": "-1",
			inSync: strconv.Itoa(l.InSync), "max.message.bytes": strconv.Itoa(largest), "unclean.leader.election.enable": "false",
		}
	}
	expected := settings(l.Retention)
	expected["cleanup.policy"] = "compact"
	delete(expected, retention)
	delete(expected, "retention.bytes")
	all := []Topic{
		{ExpectedTopic(l.Prefix), 1, l.Replicas, expected},
		{names.Uplinks, l.Partitions, l.Replicas, settings(l.Retention)},
		{names.Later, l.Partitions, l.Replicas, settings(l.Retention)},
		{names.Dead, l.Partitions, l.Replicas, settings(l.DeadRetention)},
	}
	for _, tenant := range l.Tenants {
		all = append(all, Topic{names.Out(tenant), l.OutPartitions, l.Replicas, settings(l.Retention)})
	}
	return all
}

// Step is one thing that Apply does.
type Step struct {
	Do   Deed
	Name string // of a topic, or the right in words
	From string // what there is
	To   string // what is to be

	topic Topic
	right Right
}

// Deed is a kind of step.
type Deed string

// What Apply does, and what it only shows.
const (
	Make   Deed = "create topic"
	Widen  Deed = "add partitions"
	Set    Deed = "set"
	Expect Deed = "remember" // what a topic is that was there before
	Allow  Deed = "allow"
	Forbid Deed = "take away" // only if asked for

	Strange  Deed = "strange"         // a right that the table does not have
	Unnamed  Deed = "not named"       // a right as the table gives it, of somebody whom the layout does not name
	Wider    Deed = "more than asked" // partitions, which are never taken away
	Replaced Deed = "not the same"    // a topic that is missing or was made anew since it was remembered: Accept
	Copies   Deed = "other replicas"  // which the cluster's own tool changes
)

// String is the step in words.
func (s Step) String() string {
	switch {
	case s.From != "" || s.To != "":
		return fmt.Sprintf("%s %s: %s → %s", s.Do, s.Name, s.From, s.To)
	default:
		return string(s.Do) + " " + s.Name
	}
}

// Plan is what there is to do, in its order, and what is only shown.
type Plan struct {
	Steps []Step
	Notes []Step
}

// Done reports whether there is nothing to do.
func (p Plan) Done() bool { return len(p.Steps) == 0 }

// Plan compares what there is with a layout. It changes nothing there; the bus is for administration from then on.
func (b *Bus) Plan(ctx context.Context, l Layout) (p Plan, err error) {
	named := l
	named.InSync = 0 // it is compared with the replicas that there are
	asked, err := named.filled()
	if err != nil {
		return p, err
	}
	var names []string
	for _, t := range asked.Topics() {
		names = append(names, t.Name)
	}
	seen, err := b.describe(ctx, names)
	if err != nil {
		return p, err
	}
	expected := map[string]expectation{}
	if keeper := b.keeping(asked); seen[keeper.o.Expected].err() == nil {
		if expected, err = keeper.expectations(ctx); err != nil {
			return p, err
		}
	}
	settings, err := b.settings(ctx, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return seen[n].err() != nil }))
	if err != nil {
		return p, err
	}
	p, full, err := l.against(seen, settings, expected)
	if err != nil {
		return p, err
	}
	return p, b.planRights(ctx, full, &p)
}

// against compares topics, with their settings and what is expected of them, with a layout. full leaves nothing open.
func (l Layout) against(seen map[string]described, settings map[string]map[string]string, expected map[string]expectation) (p Plan, full Layout, err error) {
	l.Prefix = cmp.Or(l.Prefix, defaultPrefix)
	if full, err = l.like(seen, settings).filled(); err != nil {
		return p, full, err
	}
	for _, t := range full.Topics() {
		d := seen[t.Name]
		e, known := expected[t.Name]
		if d.err() == nil {
			t = l.left(t, d, settings[t.Name])
		}
		switch err := d.err(); {
		case errors.Is(err, bus.ErrTopic):
			if known {
				p.Notes = append(p.Notes, Step{Do: Replaced, Name: t.Name, From: "it was there", To: "missing"})
			}
			p.Steps = append(p.Steps, Step{Do: Make, Name: t.Name, topic: t})
			continue
		case err != nil:
			return p, full, err
		case d.partitions < t.Partitions:
			p.Steps = append(p.Steps, Step{Do: Widen, Name: t.Name, From: strconv.Itoa(d.partitions), To: strconv.Itoa(t.Partitions), topic: t})
		case d.partitions > t.Partitions:
			p.Notes = append(p.Notes, Step{Do: Wider, Name: t.Name, From: strconv.Itoa(d.partitions), To: strconv.Itoa(t.Partitions)})
		}
		if l.InSync > d.replicas { // nothing could be written any more
			return p, full, fault.New(fault.Invalid, "kafka_settings", "The topic %s has %d replicas, and a record would have to be on %d. Ask for fewer in sync (--in-sync, or --replicas), or give the topic more replicas by kafka-reassign-partitions first. Nothing was changed.", t.Name, d.replicas, l.InSync)
		}
		if d.replicas != t.Replicas {
			p.Notes = append(p.Notes, Step{Do: Copies, Name: t.Name, From: strconv.Itoa(d.replicas), To: strconv.Itoa(t.Replicas)})
		}
		for _, name := range slices.Sorted(maps.Keys(t.Settings)) {
			if have := settings[t.Name][name]; have != t.Settings[name] {
				p.Steps = append(p.Steps, Step{Do: Set, Name: t.Name + " " + name, From: have, To: t.Settings[name], topic: Topic{Name: t.Name, Settings: map[string]string{name: t.Settings[name]}}})
			}
		}
		switch {
		case t.Name == ExpectedTopic(l.Prefix):
		case !known:
			p.Steps = append(p.Steps, Step{Do: Expect, Name: t.Name, topic: t})
		case !e.holds(d):
			p.Notes = append(p.Notes, Step{Do: Replaced, Name: t.Name, From: strconv.Itoa(e.Partitions) + " partitions of " + e.ID, To: strconv.Itoa(d.partitions) + " of " + d.id})
		}
	}
	return p, full, nil
}

// keeping is the bus with the layout's topic of what is expected.
func (b *Bus) keeping(l Layout) *Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.o.Expected != ExpectedTopic(l.Prefix) {
		b.o.Expected = ExpectedTopic(l.Prefix)
	}
	return b
}

func (b *Bus) planRights(ctx context.Context, l Layout, p *Plan) error {
	var have []Right
	if err := b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().DescribeACLs(ctx, &kafka.DescribeACLsRequest{Filter: kafka.ACLFilter{
			ResourceTypeFilter: kafka.ResourceTypeAny, ResourcePatternTypeFilter: kafka.PatternTypeAny, Operation: kafka.ACLOperationTypeAny, PermissionType: kafka.ACLPermissionTypeAny,
		}})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return administered(err)
		}
		have = rightsIn(answer.Resources)
		return nil
	}); err != nil {
		return err
	}
	want := l.Rights()
	for _, r := range want {
		if !slices.Contains(have, r) {
			p.Steps = append(p.Steps, Step{Do: Allow, Name: r.String(), right: r})
		}
	}
	for _, r := range have {
		switch s := (Step{Do: Strange, Name: r.String(), right: r}); {
		case slices.Contains(want, r) || !l.concerns(r):
		case slices.Contains(l.Former, r.User):
			s.Do = Forbid
			p.Steps = append(p.Steps, s)
		case l.unnamed(r):
			s.Do = Unnamed
			p.Notes = append(p.Notes, s)
		case l.TakeAway:
			s.Do = Forbid
			p.Steps = append(p.Steps, s)
		default:
			p.Notes = append(p.Notes, s)
		}
	}
	return nil
}

// settings are what topics have of those that we set.
func (b *Bus) settings(ctx context.Context, topics []string) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	if len(topics) == 0 {
		return all, nil
	}
	var ask []kafka.DescribeConfigRequestResource
	for _, name := range topics {
		ask = append(ask, kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: name})
	}
	err := b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: ask})
		if err != nil {
			return err
		}
		for _, r := range answer.Resources {
			if r.Error != nil {
				return administered(r.Error)
			}
			all[r.ResourceName] = map[string]string{}
			for _, c := range r.ConfigEntries {
				all[r.ResourceName][c.ConfigName] = c.ConfigValue
			}
		}
		return nil
	})
	return all, err
}

// Apply does what Plan shows. It never takes topics or partitions away. It answers what it did; after an error that is a part, and
// doing it again goes on.
func (b *Bus) Apply(ctx context.Context, l Layout) (done Plan, err error) {
	plan, err := b.Plan(ctx, l)
	if err != nil {
		return done, err
	}
	done.Notes = plan.Notes
	for _, s := range plan.Steps {
		if err := b.do(ctx, s); err != nil {
			return done, err
		}
		done.Steps = append(done.Steps, s)
	}
	return done, nil
}

func (b *Bus) do(ctx context.Context, s Step) error {
	switch s.Do {
	case Make:
		return b.Create(ctx, s.topic)
	case Widen:
		return b.Grow(ctx, s.topic.Name, s.topic.Partitions)
	case Set:
		return b.set(ctx, s.topic)
	case Expect:
		seen, err := b.describe(ctx, []string{s.topic.Name})
		if err == nil {
			err = seen[s.topic.Name].err()
		}
		if err != nil {
			return err
		}
		return b.expect(ctx, map[string]expectation{s.topic.Name: {seen[s.topic.Name].id, seen[s.topic.Name].partitions}})
	case Allow:
		return b.asked(ctx, func(ctx context.Context) error {
			answer, err := b.kafka().CreateACLs(ctx, &kafka.CreateACLsRequest{ACLs: []kafka.ACLEntry{s.right.entry()}})
			if err == nil {
				err = errors.Join(answer.Errors...)
			}
			return administered(err)
		})
	case Forbid:
		e := s.right.entry()
		return b.asked(ctx, func(ctx context.Context) error {
			answer, err := b.kafka().DeleteACLs(ctx, &kafka.DeleteACLsRequest{Filters: []kafka.DeleteACLsFilter{{
				ResourceTypeFilter: e.ResourceType, ResourceNameFilter: e.ResourceName, ResourcePatternTypeFilter: e.ResourcePatternType, PrincipalFilter: e.Principal,
				HostFilter: e.Host, Operation: e.Operation, PermissionType: e.PermissionType,
			}}})
			if err != nil {
				return err
			}
			for _, r := range answer.Results {
				err = errors.Join(err, r.Error)
			}
			return administered(err)
		})
	}
	return fault.New(fault.Internal, "kafka_step", "A step of a plan is not known.")
}

func (b *Bus) set(ctx context.Context, t Topic) error {
	change := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: t.Name}
	for name, value := range t.Settings {
		change.Configs = append(change.Configs, kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet})
	}
	return b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{change}})
		if err != nil {
			return err
		}
		for _, r := range answer.Resources {
			err = errors.Join(err, r.Error)
		}
		return administered(err)
	})
}

const iterations = 8192 // of PBKDF2, twice what Kafka asks for

// SetUser makes a user of SCRAM-SHA-512, or gives it another password. Kafka is told neither: it gets the salted hash.
func (b *Bus) SetUser(ctx context.Context, user string, password secret.Text) error {
	if user == "" || strings.ContainsAny(user, ",=:") || len(password.Reveal()) < 16 {
		return fault.New(fault.Invalid, "kafka_users", "A Kafka user needs a name without comma, colon and equals sign, and a password of at least 16 characters.")
	}
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha512.New, password.Reveal(), salt, iterations, sha512.Size)
	if err != nil {
		return err
	}
	return b.asked(ctx, func(ctx context.Context) error {
		answer, err := b.kafka().AlterUserScramCredentials(ctx, &kafka.AlterUserScramCredentialsRequest{Upsertions: []kafka.UserScramCredentialsUpsertion{
			{Name: user, Mechanism: kafka.ScramMechanismSha512, Iterations: iterations, Salt: salt, SaltedPassword: salted},
		}})
		if err != nil {
			return err
		}
		for _, r := range answer.Results {
			err = errors.Join(err, r.Error)
		}
		return administered(err)
	})
}
