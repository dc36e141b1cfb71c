//go:build services

package kafkabus_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/bus"
)

// deployment is a Kafka as Apply leaves it, and a user of each kind.
type deployment struct {
	layout  kafkabus.Layout
	admin   *kafkabus.Bus
	options map[string]kafkabus.Options // by user
	raw     map[string]*kgo.Client
	tenants [2]ident.Tenant
}

// patience is how often something that reaches a broker a moment later is asked for, 50 ms apart.
const patience = 1200

func tenant() ident.Tenant {
	var id ident.Tenant
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80 // a UUID, version 7
	return id
}

func deployed(t *testing.T) *deployment {
	t.Helper()
	addr, login := servers.SharedKafka(t)
	d := &deployment{options: map[string]kafkabus.Options{}, raw: map[string]*kgo.Client{}}
	d.admin = open(t, quick(kafkabus.Options{Brokers: []string{addr}, User: login.User, Password: secret.New(login.Password)}))
	prefix := "rf" + strings.ToLower(rand.Text()[:8])
	for i := range d.tenants {
		d.tenants[i] = tenant()
	}
	d.layout = kafkabus.Layout{
		Prefix: prefix, Partitions: 2, OutPartitions: 1, Replicas: 1, Tenants: d.tenants[:],
		Users:     map[kafkabus.Who]string{kafkabus.PlatformAPI: prefix + "-api", kafkabus.MQTTWorker: prefix + "-mqtt", kafkabus.EventWorker: prefix + "-events"},
		Consumers: map[ident.Tenant]string{d.tenants[0]: prefix + "-first", d.tenants[1]: prefix + "-second"},
	}
	for _, user := range []string{"-api", "-mqtt", "-events", "-first", "-second", "-nobody"} {
		password := rand.Text()
		if err := d.admin.SetUser(soon(t), prefix+user, secret.New(password)); err != nil {
			t.Fatal(err)
		}
		d.options[prefix+user] = quick(kafkabus.Options{Brokers: []string{addr}, User: prefix + user, Password: secret.New(password), Expected: kafkabus.ExpectedTopic(prefix)})
		raw, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.SASL(scram.Auth{User: prefix + user, Pass: password}.AsSha512Mechanism()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(raw.Close)
		d.raw[prefix+user] = raw
	}
	return d
}

func (d *deployment) apply(t *testing.T) kafkabus.Plan {
	t.Helper()
	done, err := d.admin.Apply(soon(t), d.layout)
	if err != nil {
		t.Fatalf("%v, after %v", fault.Cause(err), done.Steps)
	}
	return done
}

func said(steps []kafkabus.Step) (all []string) {
	for _, s := range steps {
		all = append(all, s.String())
	}
	return all
}

// try does one operation on a topic as a user: nil, refused, or what went wrong.
func (d *deployment) try(t *testing.T, b *kafkabus.Bus, user, topic string, operation kafka.ACLOperationType) error {
	t.Helper()
	ask := func(r kmsg.Request) kmsg.Response {
		answer, err := d.raw[user].SeedBrokers()[0].Request(soon(t), r)
		if err != nil {
			t.Fatalf("%s %v %s: %v", user, operation, topic, err)
		}
		return answer
	}
	code := func(c int16) error {
		if c == 0 {
			return nil
		}
		return kafka.Error(c)
	}
	switch operation {
	case kafka.ACLOperationTypeRead:
		_, err := b.Browse(soon(t), topic, 0, 0, 1)
		return err
	case kafka.ACLOperationTypeWrite:
		return b.Publish(soon(t), []bus.Record{{Topic: topic, Key: "k", Value: []byte(`{}`)}})[0]
	case kafka.ACLOperationTypeDescribe:
		return b.Check(soon(t), topic)
	case kafka.ACLOperationTypeDelete:
		r := kmsg.NewPtrDeleteRecordsRequest()
		one, part := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
		one.Topic, one.Partitions = topic, append(one.Partitions, part)
		r.Topics = append(r.Topics, one)
		return code(ask(r).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
	case kafka.ACLOperationTypeAlter:
		r := kmsg.NewPtrCreatePartitionsRequest()
		one := kmsg.NewCreatePartitionsRequestTopic()
		one.Topic, one.Count = topic, 50
		r.Topics = append(r.Topics, one)
		return code(ask(r).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode)
	case kafka.ACLOperationTypeAlterConfigs:
		r := kmsg.NewPtrIncrementalAlterConfigsRequest()
		one, config := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "retention.ms", kmsg.StringPtr("1")
		one.ResourceType, one.ResourceName, one.Configs = kmsg.ConfigResourceTypeTopic, topic, append(one.Configs, config)
		r.Resources = append(r.Resources, one)
		return code(ask(r).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	case kafka.ACLOperationTypeDescribeConfigs:
		r := kmsg.NewPtrDescribeConfigsRequest()
		one := kmsg.NewDescribeConfigsRequestResource()
		one.ResourceType, one.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		r.Resources = append(r.Resources, one)
		return code(ask(r).(*kmsg.DescribeConfigsResponse).Resources[0].ErrorCode)
	case kafka.ACLOperationTypeCreate:
		r := kmsg.NewPtrCreateTopicsRequest()
		one := kmsg.NewCreateTopicsRequestTopic()
		one.Topic, one.NumPartitions, one.ReplicationFactor = topic+".more", 1, 1
		r.Topics = append(r.Topics, one)
		return code(ask(r).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
	}
	t.Fatalf("no test of %v", operation)
	return nil
}

func (d *deployment) group(t *testing.T, user, group string) error {
	t.Helper()
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.ProtocolType, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = group, "consumer", 6000, 1000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "x"
	r.Protocols = append(r.Protocols, p)
	answer, err := d.raw[user].SeedBrokers()[0].Request(soon(t), r)
	if err != nil {
		t.Fatal(err)
	}
	if code := answer.(*kmsg.JoinGroupResponse).ErrorCode; code == 0 || code == 79 { // it may: come back with the id
		return nil
	} else { //nolint:revive // the two belong together
		return kafka.Error(code)
	}
}

func refused(err error) bool {
	return errors.Is(err, kafka.TopicAuthorizationFailed) || errors.Is(err, kafka.GroupAuthorizationFailed) || errors.Is(err, kafka.ClusterAuthorizationFailed) || fault.Is(err, fault.Denied)
}

// The table is the whole truth about what the broker lets whom do with each topic and group.
func TestTheBrokerAllowsWhatTheTableSaysAndNothingElse(t *testing.T) {
	d := deployed(t)
	d.apply(t)
	names := bus.TopicsUnder(d.layout.Prefix)
	operations := []kafka.ACLOperationType{
		kafka.ACLOperationTypeRead, kafka.ACLOperationTypeWrite, kafka.ACLOperationTypeDescribe, kafka.ACLOperationTypeDelete, kafka.ACLOperationTypeAlter,
		kafka.ACLOperationTypeAlterConfigs, kafka.ACLOperationTypeDescribeConfigs, kafka.ACLOperationTypeCreate,
	}
	topics := map[kafkabus.What]string{
		kafkabus.Uplinks: names.Uplinks, kafkabus.Later: names.Later, kafkabus.Dead: names.Dead, kafkabus.Expected: kafkabus.ExpectedTopic(d.layout.Prefix),
	}
	outs := map[ident.Tenant]string{d.tenants[0]: names.Out(d.tenants[0]), d.tenants[1]: names.Out(d.tenants[1])}
	groups := []string{kafkabus.Group(d.layout.Prefix), kafkabus.LaterGroup(d.layout.Prefix), kafkabus.GroupsOf(d.layout.Prefix, d.tenants[0]) + "a", kafkabus.GroupsOf(d.layout.Prefix, d.tenants[1]) + "a", d.layout.Prefix + ".other"}

	// may is what the table says, in the simplest words.
	may := func(who kafkabus.Who, tenant ident.Tenant) (topic map[string][]kafka.ACLOperationType, group []string) {
		topic = map[string][]kafka.ACLOperationType{}
		for what, operations := range kafkabus.Table()[who] {
			switch {
			case topics[what] != "":
				topic[topics[what]] = operations
			case what == kafkabus.Out:
				for _, name := range outs {
					topic[name] = operations
				}
			case what == kafkabus.OwnOut:
				topic[outs[tenant]] = operations
			case what == kafkabus.Process && slices.Contains(operations, kafka.ACLOperationTypeRead): // to describe it is not to join
				group = append(group, groups[0], kafkabus.LaterGroup(d.layout.Prefix))
			case what == kafkabus.OwnGroups:
				group = append(group, kafkabus.GroupsOf(d.layout.Prefix, tenant)+"a")
			}
		}
		return topic, group
	}
	type person struct {
		user   string
		who    kafkabus.Who
		tenant ident.Tenant
	}
	people := []person{{user: d.layout.Prefix + "-nobody"}}
	for who, user := range d.layout.Users {
		people = append(people, person{user: user, who: who})
	}
	for tenant, user := range d.layout.Consumers {
		people = append(people, person{user, kafkabus.Consumer, tenant})
	}
	for _, topic := range []string{names.Uplinks, names.Later, names.Dead, outs[d.tenants[0]], outs[d.tenants[1]]} { // something to read
		good(t, d.admin.Publish(soon(t), sent(topic, 16, 0, 16)))
	}
	checked := 0
	for _, one := range people {
		b := open(t, d.options[one.user])
		allowed, joins := may(one.who, one.tenant)
		all := []string{outs[d.tenants[0]], outs[d.tenants[1]]}
		for _, name := range topics {
			all = append(all, name)
		}
		for _, topic := range all {
			for _, operation := range operations {
				want := slices.Contains(allowed[topic], operation) || operation == kafka.ACLOperationTypeDescribe && len(allowed[topic]) > 0
				err := d.try(t, b, one.user, topic, operation)
				for n := 0; want && refused(err) && n < patience; n++ { // what was applied reaches a broker a moment later
					<-time.After(50 * time.Millisecond)
					err = d.try(t, b, one.user, topic, operation)
				}
				if want && err != nil || !want && !refused(err) {
					t.Errorf("%s %v %s: %v, want allowed: %v", one.user, operation, topic, err, want)
				}
				checked++
			}
		}
		for _, group := range groups {
			if err := d.group(t, one.user, group); slices.Contains(joins, group) != (err == nil) || err != nil && !refused(err) {
				t.Errorf("%s in group %s: %v", one.user, group, err)
			}
			checked++
		}
		// No user of ours administers anything.
		if _, err := b.Plan(soon(t), d.layout); !fault.Is(err, fault.Denied) {
			t.Errorf("%s plans: %v", one.user, err)
		}
		if err := b.SetUser(soon(t), "somebody", secret.New(rand.Text())); !fault.Is(err, fault.Denied) {
			t.Errorf("%s makes users: %v", one.user, err)
		}
	}
	// Who puts records off asks how far they are read, which shows it no record.
	putsOff := open(t, d.options[d.layout.Users[kafkabus.MQTTWorker]])
	ls, err := putsOff.Lags(soon(t), kafkabus.LaterGroup(d.layout.Prefix), names.Later)
	if err != nil || len(ls) != 2 || ls[0].Behind()+ls[1].Behind() < 16 || !ls[0].Oldest.IsZero() {
		t.Errorf("%+v, %v", ls, err)
	}
	if checked != 6*(6*8+5) {
		t.Errorf("%d operations were tried", checked)
	}
}

// The sentence that all of this is for.
func TestATenantsConsumerReadsItsOwnEventsAndNobodyElses(t *testing.T) {
	d := deployed(t)
	d.apply(t)
	names := bus.TopicsUnder(d.layout.Prefix)
	events := open(t, d.options[d.layout.Users[kafkabus.EventWorker]])
	for _, tenant := range d.tenants {
		good(t, events.Publish(soon(t), sent(names.Out(tenant), 3, 0, 10)))
	}
	o := d.options[d.layout.Consumers[d.tenants[1]]]
	o.Expected = "" // that is ours
	second := open(t, o)
	m := join(t, second, kafkabus.GroupsOf(d.layout.Prefix, d.tenants[1])+"mine", names.Out(d.tenants[1]))
	noHoles(t, drain(t, m, 10))
	if rs, err := second.Browse(soon(t), names.Out(d.tenants[0]), 0, 0, 1); !fault.Is(err, fault.Denied) || len(rs) > 0 {
		t.Errorf("the second reads the first's topic: %d records, %v", len(rs), err)
	}
	if _, err := second.Join(soon(t), kafkabus.GroupsOf(d.layout.Prefix, d.tenants[1])+"mine", names.Out(d.tenants[0])); !fault.Is(err, fault.Denied) {
		t.Errorf("the second joins on the first's topic: %v", err)
	}
	foreign := join(t, second, kafkabus.GroupsOf(d.layout.Prefix, d.tenants[0])+"theirs", names.Out(d.tenants[1]))
	for ctx := soon(t); ; { // a group may take its time to answer
		rs, err := foreign.Fetch(ctx, 1, time.Second)
		if fault.Is(err, fault.Denied) && ctx.Err() == nil {
			break
		}
		if len(rs) > 0 || ctx.Err() != nil {
			t.Fatalf("the second is in a group of the first: %d records, %v", len(rs), err)
		}
	}
	if errs := second.Publish(soon(t), sent(names.Out(d.tenants[1]), 1, 0, 1)); !fault.Is(errs[0], fault.Denied) {
		t.Errorf("a consumer writes: %v", errs[0])
	}
}

func TestApplyShowsWhatItDoesAndDoesItOnce(t *testing.T) {
	d := deployed(t)
	names := bus.TopicsUnder(d.layout.Prefix)
	before, err := d.admin.Plan(soon(t), d.layout)
	if err != nil || before.Done() {
		t.Fatalf("%v, %v", before, err)
	}
	if err := d.admin.Check(soon(t), names.Uplinks); !errors.Is(err, bus.ErrTopic) {
		t.Fatalf("a plan made a topic: %v", err)
	}
	if done := d.apply(t); !slices.Equal(said(done.Steps), said(before.Steps)) {
		t.Errorf("planned %q, did %q", said(before.Steps), said(done.Steps))
	}
	planned := func() kafkabus.Plan {
		t.Helper()
		p, err := d.admin.Plan(soon(t), d.layout)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	settled := func() {
		t.Helper()
		for n := 0; ; n++ { // a broker learns of it a moment later
			p := planned()
			if p.Done() {
				return
			}
			if n == patience {
				t.Fatalf("after it was applied: %q", said(p.Steps))
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	settled()
	if done := d.apply(t); !done.Done() || len(done.Notes) > 0 {
		t.Errorf("the second time it did %q, and noted %q", said(done.Steps), said(done.Notes))
	}

	// Partitions: more, never less. Retention.
	d.layout.Partitions, d.layout.Retention = 3, 8*24*time.Hour
	want := []string{
		"add partitions " + names.Uplinks + ": 2 → 3", fmt.Sprintf("set %s retention.ms: 604800000 → 691200000", names.Uplinks),
		"add partitions " + names.Later + ": 2 → 3", fmt.Sprintf("set %s retention.ms: 604800000 → 691200000", names.Later),
		"add partitions " + names.Dead + ": 2 → 3", // which are kept for 30 days as before
	}
	if p := planned(); len(p.Steps) != 7 || !slices.Equal(said(p.Steps)[:5], want) {
		t.Errorf("%q", said(p.Steps))
	}
	d.apply(t)
	settled()
	d.layout.Partitions = 1
	if p := planned(); !p.Done() || !slices.Contains(said(p.Notes), "more than asked "+names.Uplinks+": 3 → 1") {
		t.Errorf("%q, %q", said(p.Steps), said(p.Notes))
	}
	d.layout.Partitions = 3

	// A right that the table does not have is shown, and taken away when asked.
	stranger := kmsg.NewPtrCreateACLsRequest()
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType, acl.Principal, acl.Host, acl.Operation, acl.PermissionType =
		kmsg.ACLResourceTypeTopic, names.Uplinks, kmsg.ACLResourcePatternTypeLiteral, "User:mallory", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	stranger.Creations = append(stranger.Creations, acl)
	p := shared(t)
	p.ask(t, stranger)
	note := "strange mallory may read topic " + names.Uplinks
	for n := 0; !slices.Contains(said(planned().Notes), note); n++ {
		if n == patience {
			t.Fatalf("%q", said(planned().Notes))
		}
		<-time.After(50 * time.Millisecond)
	}
	if done := d.apply(t); !done.Done() || !slices.Contains(said(done.Notes), note) {
		t.Errorf("%q, %q", said(done.Steps), said(done.Notes))
	}
	d.layout.TakeAway = true
	if p := planned(); !slices.Equal(said(p.Steps), []string{"take away mallory may read topic " + names.Uplinks}) {
		t.Errorf("a plan shows %q", said(p.Steps))
	}
	done, err := d.admin.Apply(soon(t), d.layout)
	d.layout.TakeAway = false
	if err != nil || !slices.Equal(said(done.Steps), []string{"take away mallory may read topic " + names.Uplinks}) {
		t.Errorf("%q, %v", said(done.Steps), err)
	}
	for n := 0; slices.Contains(said(planned().Notes), note); n++ {
		if n == patience {
			t.Fatal("it is still there")
		}
		<-time.After(50 * time.Millisecond)
	}

	// A topic that is gone is made again, and stays lost until that is accepted.
	events := open(t, d.options[d.layout.Users[kafkabus.EventWorker]])
	api := open(t, d.options[d.layout.Users[kafkabus.PlatformAPI]])
	good(t, api.Publish(soon(t), sent(names.Uplinks, 5, 0, 50)))
	m := join(t, events, kafkabus.Group(d.layout.Prefix), names.Uplinks, names.Later)
	drain(t, m, 50)
	p.server().Delete(t, names.Uplinks)
	for n := 0; ; n++ {
		p, err := d.admin.Plan(soon(t), d.layout)
		if err != nil && !fault.Is(err, fault.Unavailable) { // it may go between two of a plan's questions
			t.Fatal(err)
		}
		if slices.Contains(said(p.Notes), "not the same "+names.Uplinks+": it was there → missing") && slices.Contains(said(p.Steps), "create topic "+names.Uplinks) {
			break
		}
		if n == patience {
			t.Fatalf("%q, %q", said(p.Steps), said(p.Notes))
		}
		<-time.After(50 * time.Millisecond)
	}
	d.apply(t)
	if p := planned(); !slices.ContainsFunc(said(p.Notes), func(s string) bool { return strings.HasPrefix(s, "not the same "+names.Uplinks) }) {
		t.Errorf("%q", said(p.Notes))
	}
	for ctx := soon(t); ; {
		if _, err := m.Fetch(ctx, 1, time.Second); errors.Is(err, bus.ErrLost) {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	accepted, err := d.admin.Accept(soon(t), names.Uplinks)
	if err != nil || len(accepted) != 1 || !accepted[0].Anew {
		t.Fatalf("%+v, %v", accepted, err)
	}
	for n := 0; ; n++ {
		if errs := api.Publish(soon(t), sent(names.Uplinks, 5, 100, 20)); errs[0] == nil {
			break
		} else if n == patience {
			t.Fatal(errs[0])
		}
		<-time.After(50 * time.Millisecond)
	}
	drain(t, join(t, events, kafkabus.Group(d.layout.Prefix), names.Uplinks, names.Later), 20)
	settled()
}

// Else a command that gives one tenant a topic would stop or forget everybody's events.
func TestWhoAddsATenantLeavesTheTopicsAsTheyWereAskedFor(t *testing.T) {
	d := deployed(t)
	tenants := d.layout.Tenants
	d.layout.Tenants, d.layout.Consumers = nil, nil
	d.layout.Retention, d.layout.DeadRetention = 14*24*time.Hour, 40*24*time.Hour
	d.apply(t)
	of := func(l kafkabus.Layout) (p kafkabus.Plan, err error) {
		for n := 0; n < patience; n++ { // a broker learns of topics and rights a moment later
			if p, err = d.admin.Plan(soon(t), l); err != nil || !slices.ContainsFunc(said(p.Steps), func(s string) bool { return !strings.Contains(s, ".out.") }) {
				break
			}
			<-time.After(50 * time.Millisecond)
		}
		return p, err
	}
	out := bus.TopicsUnder(d.layout.Prefix).Out(tenants[0])
	bare := kafkabus.Layout{Prefix: d.layout.Prefix, Users: d.layout.Users, Tenants: tenants[:1]}
	if p, err := of(bare); err != nil || !slices.Equal(said(p.Steps), []string{"create topic " + out}) {
		t.Fatalf("%q, %v", said(p.Steps), err)
	}
	if done, err := d.admin.Apply(soon(t), bare); err != nil {
		t.Fatalf("%v, after %q", err, said(done.Steps))
	}
	d.layout.Tenants = tenants[:1]
	if p, err := of(d.layout); err != nil || !p.Done() { // with the replicas and the time of the others
		t.Errorf("%q, %v", said(p.Steps), err)
	}
	two := bare
	two.InSync, two.Replicas = 2, 3
	if p, err := d.admin.Apply(soon(t), two); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "has 1 replicas") || len(p.Steps) > 0 {
		t.Errorf("two of one replica are to be in sync: %q, %v", said(p.Steps), err)
	}
}

func TestAnUnknownUserIsToldSo(t *testing.T) {
	addr, _ := servers.SharedKafka(t)
	b := open(t, quick(kafkabus.Options{Brokers: []string{addr}, User: "nobody", Password: secret.New("nothing-of-this-name")}))
	ctx := soon(t)
	if err := b.Check(ctx, "x"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("%v (%s)", err, fault.Cause(err))
	}
	if errs := b.Publish(ctx, sent("x", 1, 0, 1)); !fault.Is(errs[0], fault.Unauthenticated) {
		t.Errorf("%v (%s)", errs[0], fault.Cause(errs[0]))
	}
}

// Whoever runs the command again and forgets whom it named before stops nobody by that.
func TestWhoWasNamedBeforeKeepsTheirRightsUntilTheyAreNamedAsFormerOnes(t *testing.T) {
	d := deployed(t)
	d.apply(t)
	names := bus.TopicsUnder(d.layout.Prefix)
	first, second, events := d.layout.Consumers[d.tenants[0]], d.layout.Consumers[d.tenants[1]], d.layout.Users[kafkabus.EventWorker]
	own := func(user string, tenant ident.Tenant) []string {
		return []string{user + " may read group " + kafkabus.GroupsOf(d.layout.Prefix, tenant) + "*", user + " may read topic " + names.Out(tenant)}
	}
	var held []string // by the event worker
	for _, r := range d.layout.Rights() {
		if r.User == events {
			held = append(held, r.String())
		}
	}
	l := d.layout
	l.TakeAway, l.Consumers, l.Users = true, map[ident.Tenant]string{d.tenants[1]: second}, map[kafkabus.Who]string{kafkabus.PlatformAPI: d.layout.Users[kafkabus.PlatformAPI], kafkabus.MQTTWorker: d.layout.Users[kafkabus.MQTTWorker]}
	shows := func(when string, do func(context.Context, kafkabus.Layout) (kafkabus.Plan, error), takes, leaves []string) {
		t.Helper()
		is := func(did string, of []string) (all []string) {
			for _, s := range of {
				all = append(all, did+" "+s)
			}
			slices.Sort(all)
			return all
		}
		var p kafkabus.Plan
		for n := 0; ; n++ { // a broker learns of what was done a moment later
			var err error
			if p, err = do(soon(t), l); err != nil {
				t.Fatal(err)
			}
			steps, notes := slices.Sorted(slices.Values(said(p.Steps))), slices.Sorted(slices.Values(said(p.Notes)))
			if slices.Equal(steps, is("take away", takes)) && slices.Equal(notes, is("not named", leaves)) {
				return
			}
			if n == patience {
				t.Fatalf("%s: %q, and notes %q", when, steps, notes)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	unnamed := append(own(first, d.tenants[0]), held...)
	shows("planned", d.admin.Plan, nil, unnamed)
	shows("done", d.admin.Apply, nil, unnamed)
	good(t, open(t, d.options[events]).Publish(soon(t), sent(names.Out(d.tenants[0]), 1, 0, 3)))
	o := d.options[first]
	o.Expected = ""
	noHoles(t, drain(t, join(t, open(t, o), kafkabus.GroupsOf(d.layout.Prefix, d.tenants[0])+"mine", names.Out(d.tenants[0])), 3))

	named := l.Consumers
	l.Consumers = map[ident.Tenant]string{d.tenants[0]: "another", d.tenants[1]: second}
	replacing, err := d.admin.Plan(soon(t), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, right := range own(first, d.tenants[0]) {
		if !slices.Contains(said(replacing.Steps), "take away "+right) {
			t.Errorf("of whose place another took: %q", said(replacing.Steps))
		}
	}
	l.Consumers, l.Former = named, []string{first}
	shows("planned to be taken away", d.admin.Plan, own(first, d.tenants[0]), held)
	if done, err := d.admin.Apply(soon(t), l); err != nil || len(done.Steps) != 2 {
		t.Fatalf("%q, %v", said(done.Steps), err)
	}
	shows("taken away", d.admin.Plan, nil, held)
	if _, err := open(t, o).Browse(soon(t), names.Out(d.tenants[0]), 0, 0, 1); !fault.Is(err, fault.Denied) {
		t.Errorf("who is a former consumer reads: %v", err)
	}
	// Who is named, and has what another may have, is no former one.
	l.Former, l.Consumers = nil, map[ident.Tenant]string{d.tenants[0]: second}
	p, err := d.admin.Plan(soon(t), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, right := range own(second, d.tenants[1]) {
		if !slices.Contains(said(p.Steps), "take away "+right) {
			t.Errorf("of who is another tenant's consumer now: %q", said(p.Steps))
		}
	}
	l.Former = []string{second}
	if _, err := d.admin.Plan(soon(t), l); !fault.Is(err, fault.Invalid) {
		t.Errorf("a former one who is named: %v", err)
	}
}
